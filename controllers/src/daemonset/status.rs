//! The status of a DaemonSet: nodes that ought to have a pod, and how those do that have one.

use corten_client::runner::{Action, Plan};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

use super::manage::by_rank;
use super::{Verdict, World, min_ready_seconds};
use crate::pods;

/// Plans the write, if the status is not what it should be. Asks for another look when a pod's readiness only has to age.
pub(super) fn update(world: &World<'_>, plan: &mut Plan) {
    let set = world.set;
    let all = world.by_node.values().flatten().map(|pod| &***pod);
    if let Some(wait) = pods::until_available(all, min_ready_seconds(set), world.now) {
        plan.requeue(wait);
    }
    let wanted = compute(world);
    let same = set
        .status
        .as_ref()
        .is_some_and(|status| numbers(status) == numbers(&wanted));
    if !same {
        let changed = DaemonSet {
            status: Some(wanted),
            ..set.clone()
        };
        plan.push(Action::update_status(&changed));
    }
}

/// What is compared: a number that is absent is none.
fn numbers(status: &DaemonSetStatus) -> ([i32; 7], Option<i64>) {
    (
        [
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_misscheduled,
            status.number_ready,
            status.updated_number_scheduled.unwrap_or(0),
            status.number_available.unwrap_or(0),
            status.number_unavailable.unwrap_or(0),
        ],
        status.observed_generation,
    )
}

fn compute(world: &World<'_>) -> DaemonSetStatus {
    let (mut desired, mut current, mut misplaced) = (0, 0, 0);
    let (mut ready, mut available, mut updated) = (0, 0, 0);
    for (node, verdict) in &world.verdicts {
        let first = by_rank(world.pods_on(node)).into_iter().next();
        if *verdict != Verdict::Runs {
            misplaced += i32::from(first.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = first else { continue };
        current += 1;
        ready += i32::from(pods::is_ready(pod));
        available += i32::from(world.is_available(pod));
        updated += i32::from(world.is_updated(pod));
    }
    let some = |number: i32| (number > 0).then_some(number);
    let before = world.set.status.as_ref();
    DaemonSetStatus {
        collision_count: before.and_then(|status| status.collision_count),
        conditions: before.and_then(|status| status.conditions.clone()),
        current_number_scheduled: current,
        desired_number_scheduled: desired,
        number_available: some(available),
        number_misscheduled: misplaced,
        number_ready: ready,
        number_unavailable: some(desired - available),
        observed_generation: world.set.metadata.generation,
        updated_number_scheduled: some(updated),
    }
}
