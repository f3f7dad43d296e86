//! The status of a StatefulSet out of its pods.

use std::sync::Arc;

use corten_client::runner::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::{identity, is_rolling, min_ready_seconds, replicas};
use crate::history::Versioned;
use crate::pods;

/// Plans the write, if the status is not what it should be. `replaced` pods of the current revision are on their way out
/// by this same plan. Asks for another look when a pod's readiness only has to age.
pub(super) fn update(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: (&str, &str),
    replaced: i32,
    now: Timestamp,
    plan: &mut Plan,
) {
    let all = pods.iter().map(|pod| &**pod);
    if let Some(wait) = pods::until_available(all, min_ready_seconds(set), now) {
        plan.requeue(wait);
    }
    let wanted = compute(set, pods, revisions, replaced, now);
    let same = set
        .status
        .as_ref()
        .is_some_and(|status| numbers(status) == numbers(&wanted));
    if !same {
        let changed = StatefulSet {
            status: Some(wanted),
            ..set.clone()
        };
        plan.push(Action::update_status(&changed));
    }
}

/// What is compared: a number that is absent is none.
fn numbers(status: &StatefulSetStatus) -> ([i32; 5], Option<i64>, [Option<&str>; 2]) {
    (
        [
            status.replicas,
            status.ready_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
            status.current_replicas.unwrap_or(0),
            status.updated_replicas.unwrap_or(0),
        ],
        status.observed_generation,
        [
            status.current_revision.as_deref(),
            status.update_revision.as_deref(),
        ],
    )
}

fn compute(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    (current, update): (&str, &str),
    replaced: i32,
    now: Timestamp,
) -> StatefulSetStatus {
    let min_ready = min_ready_seconds(set);
    let count = |holds: &dyn Fn(&Pod) -> bool| -> i32 {
        i32::try_from(pods.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let is_ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
    let is_of = |pod: &Pod, revision: &str| {
        pod.metadata.deletion_timestamp.is_none() && identity::revision(pod) == revision
    };
    let (total, ready) = (count(&|_| true), count(&is_ready));
    let updated = count(&|pod| is_of(pod, update));
    let mut of_current = (count(&|pod| is_of(pod, current)) - replaced).max(0);
    let mut current = current;
    let wanted = replicas(set);
    if is_rolling(set)
        && [updated, ready, total]
            .iter()
            .all(|number| *number == wanted)
    {
        // The update is complete: what it led to is what there is.
        (current, of_current) = (update, updated);
    }
    let some = |number: i32| (number > 0).then_some(number);
    StatefulSetStatus {
        available_replicas: Some(count(&|pod| {
            is_ready(pod) && pods::is_available(pod, min_ready, now)
        })),
        collision_count: Some(set.collisions()),
        conditions: set.status.as_ref().and_then(|s| s.conditions.clone()),
        current_replicas: some(of_current),
        current_revision: Some(current.to_owned()),
        observed_generation: set.metadata.generation,
        ready_replicas: some(ready),
        replicas: total,
        update_revision: Some(update.to_owned()),
        updated_replicas: some(updated),
    }
}
