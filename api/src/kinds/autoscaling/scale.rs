//! Scale: the replica count of a workload, seen through its `scale` subresource. Never stored.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kinds::strategy::Generation;
use crate::kinds::table::label_selector;
use crate::kinds::value::{Get, object_at, set};
use crate::kinds::{Errors, Path, Rules, object_meta};

/// The scale of a workload with `spec.replicas`, `spec.selector` and `status.replicas`.
pub fn from_workload(workload: &Value) -> Value {
    let meta = workload.at("metadata");
    let mut scale_meta = json!({});
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = meta.opt(key) {
            set(&mut scale_meta, key, value.clone());
        }
    }
    let spec = workload.at("spec");
    let mut status = json!({"replicas": workload.at("status").int("replicas").unwrap_or(0)});
    let selector = label_selector(spec.at("selector"));
    if selector != "<none>" {
        set(&mut status, "selector", selector);
    }
    let replicas = spec.int("replicas").unwrap_or(0);
    let mut scale_spec = json!({});
    if replicas != 0 {
        set(&mut scale_spec, "replicas", replicas);
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": scale_meta,
        "spec": scale_spec,
        "status": status,
    })
}

/// Writes a scale back: the replica count, and the resource version that the update depends on.
pub fn apply_to_workload(workload: &mut Value, scale: &Value) {
    if let Some(spec) = object_at(workload, "spec") {
        set(
            spec,
            "replicas",
            scale.at("spec").int("replicas").unwrap_or(0),
        );
    }
    if let Some(version) = scale.at("metadata").opt("resourceVersion").cloned()
        && let Some(meta) = object_at(workload, "metadata")
    {
        set(meta, "resourceVersion", version);
    }
}

/// All that is wrong with a scale.
pub fn validate(scale: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let rules = Rules {
        generation: Generation::None,
        ..Rules::NAMESPACED
    };
    object_meta::validate(scale, &rules, &mut errors);
    errors.non_negative(
        &Path::new("spec.replicas"),
        scale.at("spec").int("replicas"),
    );
    errors.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut workload = json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "5", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"x": "y"}}},
            "status": {"replicas": 2},
        });
        let mut scale = from_workload(&workload);
        assert_eq!(scale["spec"], json!({"replicas": 3}));
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "x=y"}));
        assert_eq!(scale["metadata"].get("labels"), None);
        scale["spec"]["replicas"] = json!(7);
        assert!(validate(&scale).is_empty());
        apply_to_workload(&mut workload, &scale);
        assert_eq!(workload["spec"]["replicas"], 7);
        scale["spec"]["replicas"] = json!(-1);
        let errors = validate(&scale);
        assert_eq!(
            errors[0].to_string(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
