//! RuntimeClass: a way to run pods, what it costs on top, and on which nodes it is there.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::core::node_labels;
use crate::kinds::core::pod::{validate_resources, validate_tolerations};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::object_meta::validate_labels;
use crate::kinds::strategy::immutable;
use crate::kinds::value::Get;
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `runtimeclasses` of node.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "node.k8s.io",
    version: "v1",
    kind: "RuntimeClass",
    list_kind: "RuntimeClassList",
    resource: "runtimeclasses",
    singular: "runtimeclass",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "runtimeclasses",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Handler", "What the node's runtime calls it."),
        Column::AGE,
    ],
    strategy: &RuntimeClass,
};

struct RuntimeClass;

static RULES: Rules = Rules {
    create_on_update: true,
    unconditional_update: false,
    ..Rules::CLUSTER
};

impl Strategy for RuntimeClass {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let handler = object.text("handler");
        let path = Path::new("handler");
        errors.invalid_each(&path, handler, names::label(handler, false));
        if let Some(overhead) = object.opt("overhead") {
            // Checked as the limits of a container, and told so.
            let limits = json!({"limits": overhead.at("podFixed")});
            validate_resources(&limits, &Path::new("overhead"), errors);
        }
        let scheduling = object.at("scheduling");
        let path = Path::new("scheduling");
        let selector = scheduling.at("nodeSelector");
        validate_labels(selector, &path.child("nodeSelector"), errors);
        tolerations(scheduling, &path.child("tolerations"), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (handler, before) = (new.at("handler"), old.at("handler"));
        immutable(handler, before, &Path::new("handler"), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let selector = object.at("scheduling").entries("nodeSelector");
        let words = selector.filter_map(|(key, _)| node_labels::deprecation(key));
        let warning = |word: &str| format!("scheduling.nodeSelector: {word}");
        words.map(warning).collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            object.text("handler").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn tolerations(scheduling: &Value, path: &Path<'_>, errors: &mut Errors) {
    let tolerations = scheduling.list("tolerations");
    validate_tolerations(tolerations, path, errors);
    let same = |a: &Value, b: &Value| {
        let keys = ["key", "operator", "value", "effect"];
        keys.iter().all(|key| a.text(key) == b.text(key))
    };
    for (i, toleration) in tolerations.iter().enumerate() {
        if tolerations[..i].iter().any(|t| same(t, toleration)) {
            errors.duplicate(&path.index(i), toleration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn class() -> Value {
        json!({"metadata": {"name": "sandboxed"}, "handler": "gvisor", "overhead": {"podFixed": {"cpu": "10m"}}})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&RuntimeClass, class()), none);
        let found = create(&RuntimeClass, with(class(), "/handler", json!("")));
        assert!(
            found[0].starts_with("handler: Invalid value: \"\": a lowercase RFC 1123 label"),
            "{found:?}"
        );
        let wild = json!({"podFixed": {"tea": "1"}});
        assert_eq!(
            create(&RuntimeClass, with(class(), "/overhead", wild)),
            [
                "overhead.limits[tea]: Invalid value: \"tea\": must be a standard resource for containers"
            ]
        );
        let toleration = json!({"key": "a", "operator": "Exists"});
        let scheduling = json!({"tolerations": [toleration, toleration]});
        assert_eq!(
            create(&RuntimeClass, with(class(), "/scheduling", scheduling)),
            ["scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}"]
        );
        assert_eq!(
            update(
                &RuntimeClass,
                with(class(), "/handler", json!("kata")),
                class()
            ),
            ["handler: Invalid value: \"kata\": field is immutable"]
        );
    }

    #[test]
    fn rows_and_warnings() {
        let row = RuntimeClass.row(&class(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::Array(row),
            json!(["sandboxed", "gvisor", "<unknown>"])
        );
        let scheduling = json!({"nodeSelector": {"beta.kubernetes.io/arch": "amd64"}});
        assert_eq!(
            RuntimeClass.warnings(&with(class(), "/scheduling", scheduling)),
            ["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/arch\" instead"]
        );
    }
}
