//! Applying a Binding: the one way in which a pod gets its node.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::value::{Get, object_at, set};

/// Why a pod cannot be bound. All of them are conflicts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The binding is for an earlier pod of the name.
    #[error("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}")]
    OtherPod {
        /// The uid in the binding.
        wanted: String,
        /// The pod's uid.
        found: String,
    },
    /// The pod is on its way out.
    #[error("pod {0} is being deleted, cannot be assigned to a host")]
    Deleting(String),
    /// The pod has a node.
    #[error("pod {pod} is already assigned to node \"{node}\"")]
    Assigned {
        /// The pod.
        pod: String,
        /// Its node.
        node: String,
    },
    /// Something still holds the pod back.
    #[error("pod {0} has non-empty .spec.schedulingGates")]
    Gated(String),
}

/// Sets the pod's node, the annotations of the binding, and the condition that says so.
pub fn bind(pod: &mut Value, binding: &Value, now: Timestamp) -> Result<(), BindError> {
    let name = pod.at("metadata").text("name").to_owned();
    let wanted = binding.at("metadata").text("uid");
    let found = pod.at("metadata").text("uid");
    if !wanted.is_empty() && wanted != found {
        return Err(BindError::OtherPod {
            wanted: wanted.to_owned(),
            found: found.to_owned(),
        });
    }
    if pod.at("metadata").has("deletionTimestamp") {
        return Err(BindError::Deleting(name));
    }
    let node = pod.at("spec").text("nodeName");
    if !node.is_empty() {
        return Err(BindError::Assigned {
            pod: name,
            node: node.to_owned(),
        });
    }
    if !pod.at("spec").is_empty_at("schedulingGates") {
        return Err(BindError::Gated(name));
    }
    if let Some(spec) = object_at(pod, "spec") {
        set(spec, "nodeName", binding.at("target").text("name"));
    }
    if let Some(meta) = object_at(pod, "metadata") {
        for key in ["annotations", "labels"] {
            if binding.at("metadata").is_empty_at(key) {
                continue;
            }
            if let Some(map) = object_at(meta, key) {
                for (name, value) in binding.at("metadata").entries(key) {
                    set(map, name, value.clone());
                }
            }
        }
    }
    set_scheduled(pod, now);
    Ok(())
}

fn set_scheduled(pod: &mut Value, now: Timestamp) {
    // A binding is no change of what is wanted: the generation stays.
    let generation = pod.at("metadata").int("generation").unwrap_or(0);
    let Some(status) = object_at(pod, "status") else {
        return;
    };
    let mut conditions: Vec<Value> = status
        .list("conditions")
        .iter()
        .filter(|c| c.text("type") != "PodScheduled")
        .cloned()
        .collect();
    conditions.push(json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": crate::meta::format_time(now),
        "observedGeneration": generation,
    }));
    set(status, "conditions", conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_once() {
        let now = Timestamp::UNIX_EPOCH;
        let mut pod = json!({"metadata": {"name": "p", "uid": "u", "generation": 1}, "spec": {}});
        let binding = json!({"metadata": {"annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}});
        assert_eq!(bind(&mut pod, &binding, now), Ok(()));
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["metadata"]["annotations"]["a"], "b");
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
        assert_eq!(pod["metadata"]["generation"], 1);
        let again = bind(&mut pod, &binding, now).expect_err("the pod has a node");
        assert_eq!(
            again.to_string(),
            "pod p is already assigned to node \"n1\""
        );
    }

    #[test]
    fn refuses_other_deleted_and_gated_pods() {
        let now = Timestamp::UNIX_EPOCH;
        let binding = json!({"metadata": {"uid": "v"}, "target": {"name": "n1"}});
        let refuse = |pod: Value, binding: &Value| bind(&mut pod.clone(), binding, now).is_err();
        assert!(refuse(json!({"metadata": {"uid": "u"}}), &binding));
        assert!(refuse(
            json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}}),
            &json!({})
        ));
        assert!(refuse(
            json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
            &json!({})
        ));
    }
}
