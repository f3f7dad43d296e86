//! A new ReplicaSet for a changed template.

use std::collections::BTreeMap;

use corten_client::events::EventKind;
use corten_client::object::controller_reference;
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::sets::{DESIRED, HISTORY, MAX, REVISION, Set, Sets, max_surge, replicas};
use super::template::{HASH_LABEL, hash};

/// Annotations that belong to one object only.
pub(super) fn is_copied(key: &str) -> bool {
    !matches!(
        key,
        "kubectl.kubernetes.io/last-applied-configuration"
            | REVISION
            | HISTORY
            | DESIRED
            | MAX
            | "deprecated.deployment.rollback.to"
    )
}

/// The write after which the next set of this template has another name.
pub(super) fn count_collision(deployment: &Deployment) -> Action {
    let before = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    Action::merge_status(
        deployment,
        json!({"status": {"collisionCount": before + 1}}),
    )
}

/// Plans the new set with `size` pods and puts it into `sets`, so that what follows counts it.
pub(super) fn create(deployment: &Deployment, sets: &mut Sets, size: i32, plan: &mut Plan) {
    let Some(spec) = &deployment.spec else { return };
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    let hash = hash(&spec.template, collisions);
    let base = deployment.metadata.name.as_deref().unwrap_or_default();
    let name = format!("{}-{hash}", crate::truncated(base, 242));
    if sets.old.iter().any(|set| set.name() == name) {
        // The name is taken by another template: count the collision, the next run has another hash.
        plan.push(count_collision(deployment));
        return;
    }
    let revision = sets.old.iter().map(Set::revision).max().unwrap_or(0) + 1;
    let set = new_set(deployment, spec, &name, &hash, (revision, size));
    plan.push(Action::create(&set));
    if size > 0 {
        let message = format!("Scaled up replica set {name} from 0 to {size}");
        plan.push(Action::event(
            deployment,
            EventKind::Normal,
            "ScalingReplicaSet",
            message,
        ));
    }
    plan.push(Action::merge(
        deployment,
        json!({"metadata": {"annotations": {REVISION: revision.to_string()}}}),
    ));
    sets.new = Some(Set {
        object: std::sync::Arc::new(set),
        size,
    });
}

fn new_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    name: &str,
    hash: &str,
    (revision, size): (i64, i32),
) -> ReplicaSet {
    let mut template = spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    let labels = meta.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    let exact = selector.match_labels.get_or_insert_default();
    exact.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let max = replicas(deployment) + max_surge(deployment);
    let own = deployment.metadata.annotations.clone().unwrap_or_default();
    let mut annotations: BTreeMap<String, String> =
        own.into_iter().filter(|(key, _)| is_copied(key)).collect();
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.insert(DESIRED.to_owned(), replicas(deployment).to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}
