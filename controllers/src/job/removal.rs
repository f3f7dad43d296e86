//! Which pods go when a Job has too many: first those that do what another one does, then those that have done the least.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;

use super::claim::Mine;
use super::sync::{Run, is_indexed};
use crate::pods;

/// Pods that have no index of their own, and as many others as it takes to be `least`.
pub(super) fn superfluous(run: &Run<'_>, least: usize) -> Vec<Mine> {
    let mut ranked: Vec<&Mine> = run.active().collect();
    ranked.sort_by(|a, b| compare(&a.pod, &b.pod));
    let (mut going, mut staying) = (Vec::new(), ranked);
    if is_indexed(run.spec) {
        // Of each index the best one stays: it is the last in the order.
        let mut kept = HashSet::new();
        staying.reverse();
        let (best, rest) = staying
            .into_iter()
            .partition(|mine| run.is_valid(mine) && kept.insert(mine.index));
        (staying, going) = (best, rest);
        staying.reverse();
    }
    let more = least.saturating_sub(going.len());
    going.extend(staying.into_iter().take(more));
    going.into_iter().cloned().collect()
}

/// `Less` goes first.
fn compare(a: &Pod, b: &Pod) -> Ordering {
    let bound = |pod: &Pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node.is_some_and(|node| !node.is_empty())
    };
    let phase = |pod: &Pod| match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let restarts = |pod: &Pod| {
        let status = pod.status.iter();
        let statuses = status.flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).max()
    };
    // What has no time is younger than all.
    let age = |since: Option<jiff::Timestamp>| (since.is_some(), Reverse(since));
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    bound(a)
        .cmp(&bound(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| age(pods::ready_since(a)).cmp(&age(pods::ready_since(b))))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| age(created(a)).cmp(&age(created(b))))
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}
