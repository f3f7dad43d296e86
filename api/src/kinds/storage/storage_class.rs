//! StorageClass: a way in which volumes are made, that claims ask for by name.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{forbid_change, validate_parameters, validate_provisioner};
use crate::kinds::core::node_labels;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, default_absent};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `storageclasses` of storage.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "storage.k8s.io",
    version: "v1",
    kind: "StorageClass",
    list_kind: "StorageClassList",
    resource: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    categories: &[],
    namespaced: false,
    storage_prefix: "storageclasses",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Provisioner", "Who makes its volumes."),
        Column::text(
            "ReclaimPolicy",
            "What becomes of its volumes after their claims.",
        ),
        Column::text("VolumeBindingMode", "When a claim gets its volume."),
        Column::text("AllowVolumeExpansion", "Whether its volumes can grow."),
        Column::AGE,
    ],
    strategy: &StorageClass,
};

/// Marks the class of claims that name none, under its name of today and of old.
pub const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Whether claims that name no class get this one.
pub fn is_default(class: &Value) -> bool {
    let annotations = class.at("metadata").at("annotations");
    let mut keys = DEFAULT_ANNOTATIONS.iter();
    keys.any(|key| annotations.text(key) == "true")
}

struct StorageClass;

static RULES: Rules = Rules::CLUSTER;

impl Strategy for StorageClass {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        default_absent(object, "reclaimPolicy", "Delete");
        default_absent(object, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let provisioner = object.text("provisioner");
        validate_provisioner(provisioner, &Path::new("provisioner"), errors);
        validate_parameters(object.at("parameters"), true, errors);
        let policy = object.text("reclaimPolicy");
        let policies = ["Delete", "Retain"];
        if !policy.is_empty() && !policies.contains(&policy) {
            errors.not_supported(&Path::new("reclaimPolicy"), policy, &policies);
        }
        let path = Path::new("volumeBindingMode");
        let modes = ["Immediate", "WaitForFirstConsumer"];
        match object.opt_text("volumeBindingMode") {
            None => errors.required(&path, ""),
            Some(mode) if !modes.contains(&mode) => errors.not_supported(&path, mode, &modes),
            Some(_) => {}
        }
        validate_topologies(object, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for key in ["parameters", "provisioner", "reclaimPolicy"] {
            forbid_change(new, old, key, errors);
        }
        let mode = "volumeBindingMode";
        immutable(new.at(mode), old.at(mode), &Path::new(mode), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let path = Path::new("allowedTopologies");
        for (i, term) in object.list("allowedTopologies").iter().enumerate() {
            let at = path.index(i);
            let at = at.child("matchLabelExpressions");
            for (j, expression) in term.list("matchLabelExpressions").iter().enumerate() {
                if let Some(word) = node_labels::deprecation(expression.text("key")) {
                    let at = at.index(j);
                    found.push(format!("{}: {word}", at.child("key").to_field_path()));
                }
            }
        }
        found
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let suffix = if is_default(object) { " (default)" } else { "" };
        let or = |key: &str, default: &str| object.opt_text(key).unwrap_or(default).to_owned();
        vec![
            format!("{}{suffix}", meta.text("name")).into(),
            object.text("provisioner").into(),
            or("reclaimPolicy", "Delete").into(),
            or("volumeBindingMode", "Immediate").into(),
            object.flag("allowVolumeExpansion").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

/// Checks where volumes may be made: terms of labels with values, no term twice.
fn validate_topologies(object: &Value, errors: &mut Errors) {
    let path = Path::new("allowedTopologies");
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (i, term) in object.list("allowedTopologies").iter().enumerate() {
        let at = path.index(i);
        let at = at.child("matchLabelExpressions");
        let mut keys = BTreeMap::new();
        for (j, expression) in term.list("matchLabelExpressions").iter().enumerate() {
            let at = at.index(j);
            let values = topology_values(expression, &at, errors);
            let key = expression.text("key");
            if keys.insert(key, values).is_some() {
                errors.duplicate(&at.child("key"), key);
            }
        }
        // Upstream takes an empty term for the repetition of another.
        if keys.is_empty() || seen.contains(&keys) {
            errors.duplicate(&at, "");
        }
        seen.push(keys);
    }
}

fn topology_values<'a>(
    expression: &'a Value,
    path: &Path<'_>,
    errors: &mut Errors,
) -> BTreeSet<&'a str> {
    let at = path.child("values");
    let mut seen = BTreeSet::new();
    if expression.is_empty_at("values") {
        errors.required(&at, "");
    }
    for (i, value) in expression.list("values").iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        if !seen.insert(value) {
            errors.duplicate(&at.index(i), value);
        }
    }
    let key = expression.text("key");
    errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    seen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn class() -> Value {
        json!({"metadata": {"name": "gold"}, "provisioner": "csi.example.com", "parameters": {"a": "b"}})
    }

    #[test]
    fn defaults_and_row() {
        let mut object = class();
        StorageClass.default(&mut object);
        let row = |object: &Value| StorageClass.row(object, Timestamp::UNIX_EPOCH);
        let cells = json!([
            "gold",
            "csi.example.com",
            "Delete",
            "Immediate",
            false,
            "<unknown>"
        ]);
        assert_eq!(Value::Array(row(&object)), cells);
        object["metadata"]["annotations"] = json!({DEFAULT_ANNOTATIONS[0]: "true"});
        assert_eq!(row(&object)[0], "gold (default)");
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&StorageClass, class()), none);
        let zone = |key: &str, values: Value| json!({"matchLabelExpressions": [{"key": key, "values": values}]});
        let cases = [
            (
                "/provisioner",
                json!(""),
                vec!["provisioner: Required value"],
            ),
            (
                "/parameters",
                json!({"": "a"}),
                vec!["parameters: Invalid value: \"\": field can not be empty."],
            ),
            (
                "/reclaimPolicy",
                json!("Recycle"),
                vec![
                    "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                ],
            ),
            (
                "/volumeBindingMode",
                json!("Later"),
                vec![
                    "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \
                     \"WaitForFirstConsumer\"",
                ],
            ),
            (
                "/allowedTopologies",
                json!([zone("z", json!(["a", "a"])), zone("z", json!(["a"]))]),
                vec![
                    "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
                    "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
                ],
            ),
        ];
        for (pointer, value, expected) in cases {
            assert_eq!(
                create(&StorageClass, with(class(), pointer, value)),
                expected
            );
        }
    }

    #[test]
    fn how_volumes_are_made_stays() {
        let none: Vec<String> = vec![];
        let grows = with(class(), "/allowVolumeExpansion", json!(true));
        assert_eq!(update(&StorageClass, grows, class()), none);
        for (pointer, value, expected) in [
            (
                "/parameters",
                json!({"a": "c"}),
                "parameters: Forbidden: updates to parameters are forbidden.",
            ),
            (
                "/provisioner",
                json!("other"),
                "provisioner: Forbidden: updates to provisioner are forbidden.",
            ),
            (
                "/volumeBindingMode",
                json!("WaitForFirstConsumer"),
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
            ),
        ] {
            let new = with(class(), pointer, value);
            assert_eq!(update(&StorageClass, new, class()), [expected]);
        }
    }

    #[test]
    fn old_labels_are_told() {
        let mut object = class();
        object["allowedTopologies"] = json!([{"matchLabelExpressions": [
            {"key": "failure-domain.beta.kubernetes.io/zone", "values": ["a"]}]}]);
        assert_eq!(
            StorageClass.warnings(&object),
            [
                "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use \
              \"topology.kubernetes.io/zone\" instead"
            ]
        );
    }
}
