//! DeviceClass: devices of one sort, by the expressions that choose them, with configuration for their drivers.

use serde_json::Value;

use super::checks::{bounded, configuration, selectors};
use super::claim_spec::CONFIGS_MAX;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, object_at, remove, same};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy};

/// `deviceclasses` of resource.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "resource.k8s.io",
    version: "v1",
    kind: "DeviceClass",
    list_kind: "DeviceClassList",
    resource: "deviceclasses",
    singular: "deviceclass",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "deviceclasses",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[Column::NAME, Column::AGE],
    strategy: &DeviceClass,
};

struct DeviceClass;

static RULES: Rules = Rules {
    generation: Generation::Spec,
    ..Rules::CLUSTER
};

impl Strategy for DeviceClass {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn init(&self, object: &mut Value) {
        drop_disabled(object);
    }

    fn carry_over(&self, new: &mut Value, _old: &Value) {
        drop_disabled(new);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object.at("spec"), &Value::Null, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec(new.at("spec"), old.at("spec"), errors);
    }
}

/// Names for the old way to ask for devices are an alpha feature.
fn drop_disabled(object: &mut Value) {
    if let Some(spec) = object_at(object, "spec") {
        remove(spec, "extendedResourceName");
    }
}

fn validate_spec(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    selectors(spec.list("selectors"), &path.child("selectors"), errors);
    let stored = !old.is_null() && same(spec.at("config"), old.at("config"));
    let at = path.child("config");
    let configs = bounded(spec.list("config"), CONFIGS_MAX, &at, errors);
    for (i, config) in configs.iter().enumerate() {
        configuration(config, stored, &at.index(i), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::create;

    fn class(spec: Value) -> Value {
        json!({"metadata": {"name": "gpu"}, "spec": spec})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        let good = json!({"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}],
            "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"a": 1}}}]});
        assert_eq!(create(&DeviceClass, class(good)), none);
        let cases = [
            (
                json!({"selectors": [{}]}),
                "spec.selectors[0].cel: Required value",
            ),
            (
                json!({"config": [{}]}),
                "spec.config[0].opaque: Required value",
            ),
            (
                json!({"config": [{"opaque": {"driver": "d", "parameters": [1]}}]}),
                "spec.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            ),
            (
                json!({"config": vec![json!({}); 33]}),
                "spec.config: Too many: 33: must have at most 32 items",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(create(&DeviceClass, class(spec)), [expected]);
        }
    }

    #[test]
    fn disabled_fields_and_rows() {
        let mut object = class(json!({"extendedResourceName": "example.com/gpu"}));
        DeviceClass.prepare_for_create(&mut object);
        assert_eq!(object["spec"], json!({}));
        assert_eq!(object["metadata"]["generation"], 1);
        let row = DeviceClass.row(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::Array(row), json!(["gpu", "<unknown>"]));
    }
}
