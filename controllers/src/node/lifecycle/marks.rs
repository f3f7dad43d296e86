//! What a node's state means in conditions and taints. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::{condition, truth};

/// Conditions that a node reports and that nobody can know when it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new pods away while they are true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// The heartbeat that a node's status carries. Our own writes keep it.
pub(super) fn heartbeat(node: &Node) -> Option<Timestamp> {
    condition(node, "Ready")?
        .last_heartbeat_time
        .as_ref()
        .map(|time| time.0)
}

/// The node with all that it reports unknown, or `None` if it says so already.
pub(super) fn unknown(node: &Node, now: Timestamp) -> Option<Node> {
    let mut changed = node.clone();
    let conditions = changed
        .status
        .get_or_insert_with(NodeStatus::default)
        .conditions
        .get_or_insert_default();
    let mut any = false;
    for kind in REPORTED {
        let Some(found) = conditions
            .iter_mut()
            .find(|condition| condition.type_ == kind)
        else {
            any = true;
            conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            });
            continue;
        };
        if found.status != "Unknown" {
            any = true;
            "Unknown".clone_into(&mut found.status);
            found.reason = Some("NodeStatusUnknown".to_owned());
            found.message = Some("Kubelet stopped posting node status.".to_owned());
            found.last_transition_time = Some(Time(now));
        }
    }
    any.then_some(changed)
}

/// The pod with its Ready condition false.
pub(super) fn not_ready(pod: &Pod, now: Timestamp) -> Pod {
    let mut changed = pod.clone();
    let conditions = changed
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let is_ready = |condition: &&mut PodCondition| condition.type_ == "Ready";
    if let Some(ready) = conditions.iter_mut().find(is_ready) {
        "False".clone_into(&mut ready.status);
        ready.last_transition_time = Some(Time(now));
    }
    changed
}

/// The taints that the node shall have: others' as they are, ours after its conditions. One that stays keeps its time.
pub(super) fn taints(node: &Node, spare: bool, now: Timestamp) -> Vec<Taint> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let of_ready = match truth(node, "Ready") {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    if let Some(key) = of_ready {
        wanted.push((key, NO_SCHEDULE));
        if !spare {
            wanted.push((key, NO_EXECUTE));
        }
    }
    for (kind, key) in PRESSURES {
        if truth(node, kind) == "True" {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = super::super::taints(node)
        .filter(|taint| !is_ours(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    taints
}

fn is_ours(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    match taint.effect.as_str() {
        NO_EXECUTE => key == NOT_READY || key == UNREACHABLE,
        NO_SCHEDULE => {
            [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key)
                || PRESSURES.iter().any(|(_, ours)| *ours == key)
        }
        _ => false,
    }
}
