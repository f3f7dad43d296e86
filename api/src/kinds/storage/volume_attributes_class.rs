//! VolumeAttributesClass: properties of volumes that can be changed while they are in use.

use jiff::Timestamp;
use serde_json::Value;

use super::{forbid_change, validate_parameters, validate_provisioner};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::Get;
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration};

/// `volumeattributesclasses` of storage.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "storage.k8s.io",
    version: "v1",
    kind: "VolumeAttributesClass",
    list_kind: "VolumeAttributesClassList",
    resource: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    categories: &[],
    namespaced: false,
    storage_prefix: "volumeattributesclasses",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("DriverName", "The driver that knows the properties."),
        Column::AGE,
    ],
    strategy: &VolumeAttributesClass,
};

struct VolumeAttributesClass;

static RULES: Rules = Rules::CLUSTER;

impl Strategy for VolumeAttributesClass {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let driver = object.text("driverName");
        validate_provisioner(driver, &Path::new("driverName"), errors);
        validate_parameters(object.at("parameters"), false, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for key in ["driverName", "parameters"] {
            forbid_change(new, old, key, errors);
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            object.text("driverName").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn class() -> Value {
        json!({"metadata": {"name": "fast"}, "driverName": "csi.example.com", "parameters": {"iops": "9"}})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        let strategy = &VolumeAttributesClass;
        assert_eq!(create(strategy, class()), none);
        assert_eq!(
            create(strategy, json!({"metadata": {"name": "a"}})),
            [
                "driverName: Required value",
                "parameters: Required value: must contain at least one key/value pair",
            ]
        );
        assert_eq!(
            update(
                strategy,
                with(class(), "/driverName", json!("other")),
                class()
            ),
            ["driverName: Forbidden: updates to driverName are forbidden."]
        );
    }

    #[test]
    fn row() {
        let row = VolumeAttributesClass.row(&class(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::Array(row),
            json!(["fast", "csi.example.com", "<unknown>"])
        );
    }
}
