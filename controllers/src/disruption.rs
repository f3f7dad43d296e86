//! Disruption: owns the status of PodDisruptionBudgets. Watches budgets, pods, ReplicaSets, Deployments and
//! StatefulSets; writes `poddisruptionbudgets/status`. The eviction handler of the API server spends `disruptionsAllowed`, and notes what it
//! let go in `disruptedPods`; both are weighed by the revision, so neither overwrites the other.

mod expected;
mod status;

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::pods::{self, BY_CONTROLLER};
pub use expected::Scale;

/// The controller over its caches.
pub struct Disruptions {
    /// All budgets.
    pub budgets: Cache<PodDisruptionBudget>,
    /// All pods, indexed by [`BY_CONTROLLER`].
    pub pods: Cache<Pod>,
    /// All ReplicaSets.
    pub replica_sets: Cache<ReplicaSet>,
    /// All Deployments.
    pub deployments: Cache<Deployment>,
    /// All StatefulSets.
    pub stateful_sets: Cache<StatefulSet>,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The budget, unless it is gone.
    pub budget: Option<Arc<PodDisruptionBudget>>,
    /// The pods that it covers, each with the scale of what manages it.
    pub pods: Vec<(Arc<Pod>, Scale)>,
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| pods::selects(selector, pod.metadata.labels.as_ref()))
}

impl Disruptions {
    /// Keys to wake for a changed budget.
    pub fn of_budget(&self, change: &Change<PodDisruptionBudget>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed pod: the budgets that cover it, before or after.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        let pod = change.object();
        let budgets = self
            .budgets
            .list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default());
        let concerned = budgets
            .iter()
            .filter(|b| covers(b, pod) || change.old().is_some_and(|old| covers(b, old)));
        concerned.map(|budget| ObjectName::of(&**budget)).collect()
    }

    /// Keys to wake for a resized ReplicaSet.
    pub fn of_set(&self, change: &Change<ReplicaSet>) -> Vec<ObjectName> {
        let set = change.object();
        let size = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.replicas);
        if change.old().is_some_and(|old| size(old) == size(set)) {
            return Vec::new();
        }
        self.covering_pods_of(set.metadata.uid.as_deref().unwrap_or_default())
    }

    /// Keys to wake for a resized StatefulSet.
    pub fn of_stateful_set(&self, change: &Change<StatefulSet>) -> Vec<ObjectName> {
        let set = change.object();
        let size = |set: &StatefulSet| set.spec.as_ref().and_then(|spec| spec.replicas);
        if change.old().is_some_and(|old| size(old) == size(set)) {
            return Vec::new();
        }
        self.covering_pods_of(set.metadata.uid.as_deref().unwrap_or_default())
    }

    /// The budgets that cover pods which the object of this uid manages.
    fn covering_pods_of(&self, uid: &str) -> Vec<ObjectName> {
        let mut keys: Vec<ObjectName> = self
            .pods
            .by_index(BY_CONTROLLER, uid)
            .into_iter()
            .flat_map(|pod| self.of_pod(&Change::Added(pod)))
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Keys to wake for a resized Deployment: the budgets of its namespace, which are few.
    pub fn of_deployment(&self, change: &Change<Deployment>) -> Vec<ObjectName> {
        let deployment = change.object();
        let size =
            |deployment: &Deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas);
        if change
            .old()
            .is_some_and(|old| size(old) == size(deployment))
        {
            return Vec::new();
        }
        let budgets = self
            .budgets
            .list_namespace(deployment.metadata.namespace.as_deref().unwrap_or_default());
        budgets
            .iter()
            .map(|budget| ObjectName::of(&**budget))
            .collect()
    }
}

impl Controller for Disruptions {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(budget) = self.budgets.get_named(key) else {
            return View::default();
        };
        let covered = self
            .pods
            .list_namespace(&key.namespace)
            .into_iter()
            .filter(|pod| covers(&budget, pod));
        let scaled = covered.map(|pod| {
            let scale = expected::scale_of(
                &pod,
                &self.replica_sets,
                &self.deployments,
                &self.stateful_sets,
            );
            (pod, scale)
        });
        View {
            pods: scaled.collect(),
            budget: Some(budget),
        }
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let Some(budget) = view
            .budget
            .as_ref()
            .filter(|budget| budget.metadata.deletion_timestamp.is_none())
        else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        let wanted = status::of(budget, &view.pods, now, &mut plan);
        if budget.status.as_ref() != Some(&wanted) {
            let changed = PodDisruptionBudget {
                status: Some(wanted),
                ..(**budget).clone()
            };
            plan.push(Action::update_status(&changed));
        }
        plan
    }
}

#[cfg(test)]
mod tests;
