//! The status of a ReplicaSet, or of its elder, out of its pods.

use std::sync::Arc;
use std::time::Duration;

use corten_client::runner::{Action, Failed, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Replicated;
use crate::pods;

/// The write that brings the status up to date, if it is not. Asks for another look when a pod's readiness only has to age.
pub(super) fn update<K: Replicated>(
    set: &K,
    mine: &[&Arc<Pod>],
    failed: &[Failed],
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Action> {
    let wanted = compute(set, mine, failed, now);
    let min_ready = set.min_ready_seconds();
    if wanted.available_replicas != wanted.ready_replicas && min_ready > 0 {
        plan.requeue(Duration::from_secs(u64::try_from(min_ready).unwrap_or(1)));
    }
    // Compared in the kind's own form, which may have no place for all of it.
    let changed = set.with_status(wanted);
    (changed.status() != set.status()).then(|| Action::update_status(&changed))
}

fn compute<K: Replicated>(
    set: &K,
    mine: &[&Arc<Pod>],
    failed: &[Failed],
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready = set.min_ready_seconds();
    let template_labels = set
        .template()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    let active: Vec<&&Arc<Pod>> = mine.iter().filter(|pod| pods::is_active(pod)).collect();
    let count = |holds: &dyn Fn(&Pod) -> bool| -> i32 {
        i32::try_from(active.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let labelled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels
            .iter()
            .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
    };
    let some = |n: i32| (n > 0).then_some(n);
    let terminating = mine
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_some() && !pods::is_finished(pod))
        .count();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&labelled)),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&|pod| pods::is_available(pod, min_ready, now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata().generation,
        conditions: conditions(set, failed, now),
    }
}

/// `ReplicaFailure` appears with the first failed create or delete and goes with the next good run.
fn conditions<K: Replicated>(
    set: &K,
    failed: &[Failed],
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let old = set
        .status()
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let mut kept: Vec<_> = old
        .iter()
        .filter(|condition| condition.type_ != "ReplicaFailure")
        .cloned()
        .collect();
    if let Some(failure) = failed
        .iter()
        .find(|f| matches!(f.tried, Action::Create { .. } | Action::Delete { .. }))
    {
        let reason = if matches!(failure.tried, Action::Create { .. }) {
            "FailedCreate"
        } else {
            "FailedDelete"
        };
        let before = old
            .iter()
            .find(|c| c.type_ == "ReplicaFailure" && c.reason.as_deref() == Some(reason));
        kept.push(before.cloned().unwrap_or_else(|| ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(failure.error.to_string()),
            last_transition_time: Some(Time(now)),
        }));
    }
    (!kept.is_empty()).then_some(kept)
}
