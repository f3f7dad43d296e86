//! IPAddress: an address of the Services' ranges that is taken, named by the address itself.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, validate_segment};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{NameRule, immutable};
use crate::kinds::value::Get;
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, names};

/// `ipaddresses` of networking.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "IPAddress",
    list_kind: "IPAddressList",
    resource: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    categories: &[],
    namespaced: false,
    storage_prefix: "ipaddresses",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("ParentRef", "Object that the address belongs to."),
    ],
    strategy: &IpAddress,
};

struct IpAddress;

static RULES: Rules = Rules {
    name: NameRule::Ip,
    ..Rules::CLUSTER
};

impl Strategy for IpAddress {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("spec.parentRef");
        let Some(parent) = object.at("spec").opt("parentRef") else {
            errors.required(&path, "");
            return;
        };
        let group = parent.text("group");
        if !group.is_empty() {
            errors.invalid_each(&path.child("group"), group, names::subdomain(group, false));
        }
        for key in ["resource", "name"] {
            validate_segment(parent.text(key), &path.child(key), errors);
        }
        let namespace = parent.text("namespace");
        let faults = names::path_segment(namespace, false);
        errors.invalid_each(&path.child("namespace"), namespace, faults);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (new, old) = (new.at("spec"), old.at("spec"));
        let path = Path::new("spec.parentRef");
        immutable(new.at("parentRef"), old.at("parentRef"), &path, errors);
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let parent = match object.at("spec").opt("parentRef") {
            None => "<none>".to_owned(),
            Some(parent) => parent_text(parent),
        };
        vec![object.at("metadata").text("name").into(), parent.into()]
    }
}

fn parent_text(parent: &Value) -> String {
    let mut text = parent.text("resource").to_lowercase();
    for (separator, key) in [(".", "group"), ("/", "namespace")] {
        let part = parent.text(key);
        if !part.is_empty() {
            text = format!("{text}{separator}{part}");
        }
    }
    format!("{text}/{}", parent.text("name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn address() -> Value {
        json!({
            "metadata": {"name": "10.96.0.5"},
            "spec": {"parentRef": {"resource": "services", "namespace": "b", "name": "a"}},
        })
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&IpAddress, address()), none);
        let cases = [
            (
                "/metadata/name",
                json!("a"),
                "metadata.name: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                "/metadata/name",
                json!("FD00::1"),
                "metadata.name: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")",
            ),
            (
                "/spec/parentRef",
                Value::Null,
                "spec.parentRef: Required value",
            ),
            (
                "/spec/parentRef/resource",
                json!(""),
                "spec.parentRef.resource: Required value",
            ),
            (
                "/spec/parentRef/name",
                json!("a/b"),
                "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
            ),
        ];
        for (pointer, value, expected) in cases {
            let found = create(&IpAddress, with(address(), pointer, value));
            assert_eq!(found, [expected], "{pointer}");
        }
    }

    #[test]
    fn parents_stay() {
        let new = with(address(), "/spec/parentRef/name", json!("c"));
        let errors = update(&IpAddress, new, address());
        assert!(errors[0].ends_with("field is immutable"), "{errors:?}");
    }

    #[test]
    fn row() {
        let row = IpAddress.row(&address(), Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["10.96.0.5", "services/b/a"].map(Value::from));
        let grouped = json!({"group": "g.io", "resource": "Gateways", "name": "x"});
        assert_eq!(parent_text(&grouped), "gateways.g.io/x");
    }
}
