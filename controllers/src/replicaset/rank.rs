//! Which pods go first when a ReplicaSet has too many, after upstream's order: what serves least and was placed worst.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

/// Users may say what a pod costs to lose.
const COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods to delete.
pub(super) fn victims<'a>(
    active: &[&'a Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<&'a Arc<Pod>> {
    let mut on_node: HashMap<&str, i64> = HashMap::new();
    for pod in active {
        *on_node.entry(node(pod)).or_default() += 1;
    }
    let mut ranked: Vec<&Arc<Pod>> = active.to_vec();
    ranked.sort_by(|a, b| compare(a, b, &on_node, now));
    ranked.truncate(count);
    ranked
}

fn node(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

/// `Less` goes first.
fn compare(a: &Pod, b: &Pod, on_node: &HashMap<&str, i64>, now: Timestamp) -> Ordering {
    let unassigned = |pod: &Pod| node(pod).is_empty();
    let phase = |pod: &Pod| match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |pod: &Pod| -> i32 {
        let text = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(COST_ANNOTATION));
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let crowd = |pod: &Pod| on_node.get(node(pod)).copied().unwrap_or_default();
    // The logarithm keeps pods of about the same age together, so that none is always the victim.
    let age_class = |since: Option<Timestamp>| {
        since.map(|at| {
            u64::try_from((now.as_second() - at.as_second()).max(1))
                .unwrap_or(1)
                .ilog2()
        })
    };
    let restarts = |pod: &Pod| -> i32 {
        let statuses = pod
            .status
            .iter()
            .flat_map(|s| s.container_statuses.iter().flatten());
        statuses
            .map(|status| status.restart_count)
            .max()
            .unwrap_or_default()
    };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    unassigned(b)
        .cmp(&unassigned(a))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| age_class(pods::ready_since(a)).cmp(&age_class(pods::ready_since(b))))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| age_class(created(a)).cmp(&age_class(created(b))))
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}
