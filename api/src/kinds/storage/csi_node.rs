//! CSINode: the drivers of the container storage interface that a node has.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::validate_driver_name;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, remove};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `csinodes` of storage.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSINode",
    list_kind: "CSINodeList",
    resource: "csinodes",
    singular: "csinode",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "csinodes",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::integer("Drivers", "How many drivers the node has."),
        Column::AGE,
    ],
    strategy: &CsiNode,
};

/// Longest name under which a driver knows a node.
const NODE_ID_BYTES_MAX: usize = 256;

struct CsiNode;

static RULES: Rules = Rules {
    unconditional_update: false,
    ..Rules::CLUSTER
};

impl Strategy for CsiNode {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("spec.drivers");
        let drivers = object.at("spec").list("drivers");
        for (i, driver) in drivers.iter().enumerate() {
            let name = driver.text("name");
            let twice = drivers[..i].iter().any(|d| d.text("name") == name);
            validate_driver(driver, twice, &path.index(i), errors);
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        // How many volumes a driver takes may change, what it is may not.
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            remove(&mut driver, "allocatable");
            driver
        };
        let path = Path::new("spec.drivers");
        for before in old.at("spec").list("drivers") {
            let drivers = new.at("spec").list("drivers").iter();
            let named = drivers.filter(|driver| driver.text("name") == before.text("name"));
            for driver in named {
                immutable(&fixed(driver), &fixed(before), &path, errors);
            }
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            object.at("spec").list("drivers").len().into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn validate_driver(driver: &Value, twice: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = driver.text("name");
    validate_driver_name(name, &path.child("name"), errors);
    let id = driver.text("nodeID");
    let at = path.child("nodeID");
    if id.is_empty() {
        errors.required(&at, "");
    } else if id.len() > NODE_ID_BYTES_MAX {
        let detail = format!("must be {NODE_ID_BYTES_MAX} characters or less");
        errors.invalid(&at, id, detail);
    }
    let at = path.child("allocatable");
    errors.non_negative(&at.child("count"), driver.at("allocatable").int("count"));
    if twice {
        errors.duplicate(&path.child("name"), name);
    }
    let mut keys = BTreeSet::new();
    for key in driver.list("topologyKeys") {
        let key = key.as_str().unwrap_or("");
        if key.is_empty() {
            errors.required(path, "");
        }
        if !keys.insert(key) {
            errors.duplicate(path, key);
        }
        errors.invalid_each(path, key, names::qualified_name(key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update};

    fn node(drivers: Value) -> Value {
        json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        let good = json!([{"name": "csi.example.com", "nodeID": "i", "topologyKeys": ["zone"]}]);
        assert_eq!(create(&CsiNode, node(good)), none);
        assert_eq!(
            create(
                &CsiNode,
                node(
                    json!([{"name": "a", "nodeID": "i"}, {"name": "a", "allocatable": {"count": -1}}])
                )
            ),
            [
                "spec.drivers[1].nodeID: Required value",
                "spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.drivers[1].name: Duplicate value: \"a\"",
            ]
        );
        assert_eq!(
            create(
                &CsiNode,
                node(json!([{"name": "a", "nodeID": "i", "topologyKeys": ["z", "z"]}]))
            ),
            ["spec.drivers[0]: Duplicate value: \"z\""]
        );
    }

    #[test]
    fn drivers_stay_what_they_are() {
        let of = |id: &str, count: i64| {
            node(json!([{"name": "a", "nodeID": id, "allocatable": {"count": count}}]))
        };
        let none: Vec<String> = vec![];
        assert_eq!(update(&CsiNode, of("i", 2), of("i", 1)), none);
        assert_eq!(update(&CsiNode, node(json!([])), of("i", 1)), none);
        assert_eq!(
            update(&CsiNode, of("j", 1), of("i", 1)),
            ["spec.drivers: Invalid value: {\"name\":\"a\",\"nodeID\":\"j\"}: field is immutable"]
        );
    }

    #[test]
    fn row() {
        let row = CsiNode.row(&node(json!([{}, {}])), Timestamp::UNIX_EPOCH);
        assert_eq!(Value::Array(row), json!(["n", 2, "<unknown>"]));
    }
}
