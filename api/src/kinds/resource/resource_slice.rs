//! ResourceSlice: devices that a driver has on a node or on many, a part of a pool.

mod device;

use jiff::Timestamp;
use serde_json::Value;

use self::device::validate_device;
use super::checks::{bounded, pool_name, unique};
use crate::kinds::core::pod::validate_node_selector;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::storage::validate_driver_name;
use crate::kinds::strategy::{Generation, immutable};
use crate::kinds::value::{Get, default_to, items_at, object_at, remove};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, duration, names,
};

/// `resourceslices` of resource.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "resource.k8s.io",
    version: "v1",
    kind: "ResourceSlice",
    list_kind: "ResourceSliceList",
    resource: "resourceslices",
    singular: "resourceslice",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "resourceslices",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Node", "The node that has the devices."),
        Column::text("Driver", "The driver they need."),
        Column::text("Pool", "The pool they belong to."),
        Column::AGE,
    ],
    strategy: &ResourceSlice,
};

const DEVICES_MAX: usize = 128;

struct ResourceSlice;

static RULES: Rules = Rules {
    generation: Generation::Spec,
    ..Rules::CLUSTER
};

impl Strategy for ResourceSlice {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        if let Some(pool) = object_at(object, "spec").and_then(|spec| object_at(spec, "pool")) {
            default_to(pool, "generation", 0);
        }
    }

    fn init(&self, object: &mut Value) {
        drop_disabled(object);
    }

    fn carry_over(&self, new: &mut Value, _old: &Value) {
        drop_disabled(new);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = object.at("spec");
        validate_driver_name(spec.text("driver"), &path.child("driver"), errors);
        pool(spec.at("pool"), &path.child("pool"), errors);
        nodes(spec, &path, errors);
        let at = path.child("devices");
        let devices = bounded(spec.list("devices"), DEVICES_MAX, &at, errors);
        for (i, device) in devices.iter().enumerate() {
            validate_device(device, &at.index(i), errors);
        }
        unique(devices.iter().map(|d| d.text("name")), &at, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        let (new, old) = (new.at("spec"), old.at("spec"));
        let (name, before) = (new.at("pool").at("name"), old.at("pool").at("name"));
        immutable(name, before, &path.child("pool").child("name"), errors);
        for key in ["driver", "nodeName"] {
            immutable(new.at(key), old.at(key), &path.child(key), errors);
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let driver = object.at("spec").text("driver");
        if driver == driver.to_lowercase() {
            return Vec::new();
        }
        vec![format!(
            "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
        )]
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        let spec = object.at("spec");
        fields.add("spec.nodeName", spec.text("nodeName"));
        fields.add("spec.driver", spec.text("driver"));
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (meta, spec) = (object.at("metadata"), object.at("spec"));
        vec![
            meta.text("name").into(),
            spec.text("nodeName").into(),
            spec.text("driver").into(),
            spec.at("pool").text("name").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

/// Drops what belongs to features that are off: taints, parts of devices, shared devices, conditions for binding.
fn drop_disabled(object: &mut Value) {
    let Some(spec) = object_at(object, "spec") else {
        return;
    };
    remove(spec, "sharedCounters");
    remove(spec, "perDeviceNodeSelection");
    for device in items_at(spec, "devices") {
        for key in [
            "taints",
            "consumesCounters",
            "nodeName",
            "nodeSelector",
            "allNodes",
            "bindingConditions",
            "bindingFailureConditions",
            "bindsToNode",
            "allowMultipleAllocations",
        ] {
            remove(device, key);
        }
        let capacities = device.get_mut("capacity").and_then(Value::as_object_mut);
        for capacity in capacities.into_iter().flat_map(|map| map.values_mut()) {
            remove(capacity, "requestPolicy");
        }
    }
}

fn pool(pool: &Value, path: &Path<'_>, errors: &mut Errors) {
    pool_name(pool.text("name"), &path.child("name"), errors);
    let slices = pool.int("resourceSliceCount").unwrap_or(0);
    if slices <= 0 {
        let at = path.child("resourceSliceCount");
        errors.invalid(&at, slices, "must be greater than zero");
    }
    if let Some(generation) = pool.int("generation").filter(|number| *number < 0) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("generation"), generation, detail);
    }
}

/// Checks on which nodes the devices are, said in exactly one way.
fn nodes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut ways = Vec::new();
    if let Some(name) = spec.opt_text("nodeName") {
        let at = path.child("nodeName");
        if name.is_empty() {
            let detail = "must be either unset or set to a non-empty string";
            errors.invalid(&at, name, detail);
        } else {
            ways.push("`nodeName`");
            errors.invalid_each(&at, name, names::subdomain(name, false));
        }
    }
    if let Some(selector) = spec.opt("nodeSelector") {
        ways.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        validate_node_selector(selector, &at, errors);
        if selector.list("nodeSelectorTerms").len() != 1 {
            errors.invalid(
                &at.child("nodeSelectorTerms"),
                selector.at("nodeSelectorTerms"),
                "must have exactly one node selector term",
            );
        }
    }
    match spec.at("allNodes") {
        Value::Bool(true) => ways.push("`allNodes`"),
        Value::Bool(false) => {
            let detail = "must be either unset or set to true";
            errors.invalid(&path.child("allNodes"), false, detail);
        }
        _ => {}
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match ways.len() {
        0 => errors.required(path, one),
        1 => {}
        _ => {
            let given = format!("{{{}}}", ways.join(", "));
            let detail = format!("{one}, but multiple fields are set");
            errors.invalid(path, given, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn slice() -> Value {
        let device = json!({"name": "gpu-0", "attributes": {"model": {"string": "a"}, "rev": {"version": "1.0.0-rc.1"}},
                            "capacity": {"memory": {"value": "8Gi"}}});
        json!({"metadata": {"name": "s"}, "spec": {"driver": "gpu.example.com", "nodeName": "n",
               "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1}, "devices": [device]}})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&ResourceSlice, slice()), none);
        let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        let cases = [
            (
                "/spec/nodeName",
                Value::Null,
                format!("spec: Required value: {one}"),
            ),
            (
                "/spec/allNodes",
                json!(true),
                format!(
                    "spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {one}, but multiple fields are set"
                ),
            ),
            (
                "/spec/pool/resourceSliceCount",
                json!(0),
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero".to_owned(),
            ),
            (
                "/spec/devices/0/attributes",
                json!({"a": {"bool": true, "int": 1}}),
                "spec.devices[0].attributes[a]: Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be \
                 specified"
                    .to_owned(),
            ),
            (
                "/spec/devices/0/attributes",
                json!({"a": {"version": "1.0"}}),
                "spec.devices[0].attributes[a].version: Invalid value: \"1.0\": must be a string compatible with \
                 semver.org spec 2.0.0"
                    .to_owned(),
            ),
        ];
        for (pointer, value, expected) in cases {
            let found = create(&ResourceSlice, with(slice(), pointer, value));
            assert_eq!(found, [expected], "{pointer}");
        }
        let mut twice = slice();
        let device = twice["spec"]["devices"][0].clone();
        twice["spec"]["devices"] = json!([device, device]);
        assert_eq!(
            create(&ResourceSlice, twice),
            ["spec.devices[1]: Duplicate value: \"gpu-0\""]
        );
    }

    #[test]
    fn whose_devices_they_are_stays() {
        let new = with(slice(), "/spec/pool/name", json!("m"));
        let new = with(new, "/spec/driver", json!("other"));
        assert_eq!(
            update(&ResourceSlice, new, slice()),
            [
                "spec.pool.name: Invalid value: \"m\": field is immutable",
                "spec.driver: Invalid value: \"other\": field is immutable",
            ]
        );
    }

    #[test]
    fn disabled_fields_are_dropped() {
        let mut object = slice();
        object["spec"]["sharedCounters"] = json!([{}]);
        object["spec"]["devices"][0]["taints"] = json!([{}]);
        object["spec"]["devices"][0]["capacity"]["memory"]["requestPolicy"] = json!({});
        ResourceSlice.prepare_for_create(&mut object);
        assert_eq!(object["spec"], slice()["spec"]);
    }

    #[test]
    fn rows_and_fields() {
        let object = slice();
        let row = ResourceSlice.row(&object, Timestamp::UNIX_EPOCH);
        let cells = json!(["s", "n", "gpu.example.com", "n", "<unknown>"]);
        assert_eq!(Value::Array(row), cells);
        let fields = ResourceSlice.selectable_fields(&object);
        assert_eq!(fields.get("spec.nodeName"), Some("n"));
        assert_eq!(fields.get("spec.driver"), Some("gpu.example.com"));
        let upper = with(slice(), "/spec/driver", json!("GPU"));
        assert_eq!(ResourceSlice.warnings(&upper).len(), 1);
    }
}
