//! CSIStorageCapacity: how much a driver can still make, of a class and where.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::core::node_labels;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::errors::NOT_NEGATIVE;
use crate::kinds::strategy::immutable;
use crate::kinds::value::Get;
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, names};
use crate::quantity::Quantity;

/// `csistoragecapacities` of storage.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSIStorageCapacity",
    list_kind: "CSIStorageCapacityList",
    resource: "csistoragecapacities",
    singular: "csistoragecapacity",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "csistoragecapacities",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[Column::NAME, Column::CREATED_AT],
    strategy: &CsiStorageCapacity,
};

struct CsiStorageCapacity;

static RULES: Rules = Rules {
    unconditional_update: false,
    ..Rules::NAMESPACED
};

impl Strategy for CsiStorageCapacity {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let topology = Path::new("nodeTopology");
        validate_label_selector(object.at("nodeTopology"), &topology, errors);
        let class = object.text("storageClassName");
        let path = Path::new("storageClassName");
        errors.invalid_each(&path, class, names::subdomain(class, false));
        if let Ok(capacity) = Quantity::from_json(object.at("capacity"))
            && capacity.is_negative()
        {
            let path = Path::new("capacity");
            errors.invalid(&path, capacity.to_string(), NOT_NEGATIVE);
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for key in ["nodeTopology", "storageClassName"] {
            immutable(new.at(key), old.at(key), &Path::new(key), errors);
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let path = Path::new("nodeTopology");
        let topology = object.at("nodeTopology");
        let mut found = node_labels::expression_warnings(topology, &path);
        let at = path.child("matchLabels");
        for (key, _) in topology.entries("matchLabels") {
            if let Some(word) = node_labels::deprecation(key) {
                found.push(format!("{}: {word}", at.child(key).to_field_path()));
            }
        }
        found
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            meta.text("creationTimestamp").into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn capacity() -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "storageClassName": "gold", "capacity": "5Gi",
               "nodeTopology": {"matchLabels": {"zone": "z"}}})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        let strategy = &CsiStorageCapacity;
        assert_eq!(create(strategy, capacity()), none);
        assert_eq!(
            create(strategy, with(capacity(), "/capacity", json!("-1"))),
            ["capacity: Invalid value: \"-1\": must be greater than or equal to 0"]
        );
        let silver = with(capacity(), "/storageClassName", json!("silver"));
        assert_eq!(
            update(strategy, silver, capacity()),
            ["storageClassName: Invalid value: \"silver\": field is immutable"]
        );
        let less = with(capacity(), "/capacity", json!("1Gi"));
        assert_eq!(update(strategy, less, capacity()), none);
    }

    #[test]
    fn rows_and_warnings() {
        let row =
            |object: &Value| Value::Array(CsiStorageCapacity.row(object, Timestamp::UNIX_EPOCH));
        assert_eq!(row(&capacity()), json!(["a", ""]));
        let old = json!({"matchLabels": {"beta.kubernetes.io/os": "linux"}});
        assert_eq!(
            CsiStorageCapacity.warnings(&with(capacity(), "/nodeTopology", old)),
            [
                "nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use \"kubernetes.io/os\" instead"
            ]
        );
    }
}
