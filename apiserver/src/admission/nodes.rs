//! TaintNodesByCondition: a new node takes no pods before it has said that it is ready.
//!
//! The node life-cycle controller takes the taint away. Invariant: there is no moment at which a node that nobody has seen
//! ready can be scheduled to.

use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

/// Adds the taint unless the node brings it.
pub(super) fn taint(node: &mut Value) {
    let Some(spec) = node.as_object_mut().map(|node| {
        let spec = node.entry("spec").or_insert_with(|| json!({}));
        if spec.is_null() {
            *spec = json!({});
        }
        spec
    }) else {
        return;
    };
    let mut taints = spec["taints"].as_array().cloned().unwrap_or_default();
    let present = taints
        .iter()
        .any(|taint| taint["key"] == NOT_READY && taint["effect"] == NO_SCHEDULE);
    if !present && spec.is_object() {
        taints.push(json!({"key": NOT_READY, "effect": NO_SCHEDULE}));
        spec["taints"] = taints.into();
    }
}
