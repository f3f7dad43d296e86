//! Nodes: four controllers over the same caches.
//!
//! - `lifecycle` says which nodes are silent, taints nodes after their conditions, and marks the pods of silent ones;
//! - `eviction` deletes pods that do not tolerate a node's `NoExecute` taints;
//! - `ipam` gives every node its range of pod addresses;
//! - `podgc` removes pods that no node will ever report on.
//!
//! Invariant: the age of a heartbeat or a taint is measured from when this process saw it, never by another host's clock.

pub mod eviction;
pub mod ipam;
pub mod lifecycle;
pub mod podgc;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};

/// Index of pods by the node that they are bound to.
pub const BY_NODE: &str = "node";

/// The keys of [`BY_NODE`].
pub fn node_of(pod: &Pod) -> Vec<String> {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    name.filter(|name| !name.is_empty()).into_iter().collect()
}

/// A condition by its type.
pub(crate) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// The status of a condition, "Unknown" while there is none.
pub(crate) fn truth<'a>(node: &'a Node, kind: &str) -> &'a str {
    condition(node, kind).map_or("Unknown", |condition| condition.status.as_str())
}

/// The taints of a node.
pub(crate) fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
}
