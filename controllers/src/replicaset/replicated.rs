//! What a ReplicaSet and its elder, the ReplicationController, have in common: both keep a number of pods of one template.
//!
//! Status is computed in the ReplicaSet's form and written in the kind's own.

use std::collections::BTreeMap;

use corten_client::object::Object;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
    ReplicationControllerStatus,
};

use crate::pods;

/// A kind that keeps a number of pods.
pub trait Replicated: Object + Clone {
    /// The controller's name, as leaders and events know it.
    const CONTROLLER: &'static str;

    /// How many pods are wanted.
    fn replicas(&self) -> i32;

    /// How long a pod must be ready before it counts as available, in seconds.
    fn min_ready_seconds(&self) -> i32;

    /// What new pods are made of.
    fn template(&self) -> Option<&PodTemplateSpec>;

    /// Whether pods with these labels are its own.
    fn selects(&self, labels: Option<&BTreeMap<String, String>>) -> bool;

    /// The last written status.
    fn status(&self) -> Option<ReplicaSetStatus>;

    /// The same object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn replicas(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        let spec = self.spec.as_ref();
        spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selects(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let spec = self.spec.as_ref();
        spec.is_some_and(|spec| pods::selects(&spec.selector, labels))
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        self.status.clone()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let mut changed = self.clone();
        changed.status = Some(status);
        changed
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn replicas(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        let spec = self.spec.as_ref();
        spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selects(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| pods::selects_map(selector, labels))
    }

    fn status(&self) -> Option<ReplicaSetStatus> {
        let status = self.status.as_ref()?;
        let condition = |condition: &ReplicationControllerCondition| ReplicaSetCondition {
            last_transition_time: condition.last_transition_time.clone(),
            message: condition.message.clone(),
            reason: condition.reason.clone(),
            status: condition.status.clone(),
            type_: condition.type_.clone(),
        };
        let conditions = status.conditions.as_ref();
        Some(ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: conditions.map(|all| all.iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let condition = |condition: ReplicaSetCondition| ReplicationControllerCondition {
            last_transition_time: condition.last_transition_time,
            message: condition.message,
            reason: condition.reason,
            status: condition.status,
            type_: condition.type_,
        };
        let mut changed = self.clone();
        changed.status = Some(ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status
                .conditions
                .map(|all| all.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        });
        changed
    }
}
