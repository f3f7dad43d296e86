//! ControllerRevision: a template as it once was, kept by the controllers of DaemonSets and StatefulSets.
//!
//! Invariant: its data never changes; only its number does, when an old template comes into use again.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, default_to};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration};

/// `controllerrevisions` of apps/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    list_kind: "ControllerRevisionList",
    resource: "controllerrevisions",
    singular: "controllerrevision",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "controllerrevisions",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Controller", "The object whose history it is part of."),
        Column::text("Revision", "Place in that history."),
        Column::AGE,
    ],
    strategy: &ControllerRevision,
};

struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn rules(&self) -> &Rules {
        &Rules::NAMESPACED
    }

    fn default(&self, object: &mut Value) {
        default_to(object, "revision", 0);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        errors.non_negative(&Path::new("revision"), object.int("revision"));
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("data");
        match object.at("data") {
            Value::Object(_) => {}
            Value::Null => errors.required(&path, "data is mandatory"),
            _ => errors.required(&path, "data must be a valid JSON object"),
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        // It is raw data to us, so that absent and empty differ.
        if new.at("data") != old.at("data") {
            errors.invalid(&Path::new("data"), new.at("data"), "field is immutable");
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            controller(meta).into(),
            object.int("revision").unwrap_or(0).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

/// The owner in charge, as `kind.group/name`.
fn controller(meta: &Value) -> String {
    let owners = meta.list("ownerReferences");
    let Some(owner) = owners.iter().find(|owner| owner.flag("controller")) else {
        return "<none>".to_owned();
    };
    let (kind, name) = (owner.text("kind").to_lowercase(), owner.text("name"));
    match owner.text("apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{}/{name}", group.to_lowercase()),
        None => format!("{kind}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn revision() -> Value {
        json!({
            "metadata": {"name": "web-1", "namespace": "b"},
            "data": {"spec": {"template": {"$patch": "replace"}}},
            "revision": 3,
        })
    }

    #[test]
    fn data_is_an_object_and_stays() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&ControllerRevision, revision()), none);
        let cases = [
            (
                "/data",
                Value::Null,
                "data: Required value: data is mandatory",
            ),
            (
                "/data",
                json!([1]),
                "data: Required value: data must be a valid JSON object",
            ),
            (
                "/revision",
                json!(-1),
                "revision: Invalid value: -1: must be greater than or equal to 0",
            ),
        ];
        for (pointer, value, expected) in cases {
            let errors = create(&ControllerRevision, with(revision(), pointer, value));
            assert_eq!(errors, [expected]);
        }
        let renumbered = with(revision(), "/revision", json!(4));
        assert_eq!(update(&ControllerRevision, renumbered, revision()), none);
        let changed = with(revision(), "/data", json!({"spec": {}}));
        assert_eq!(
            update(&ControllerRevision, changed, revision()),
            ["data: Invalid value: {\"spec\":{}}: field is immutable"]
        );
    }

    #[test]
    fn row() {
        let mut object = json!({"metadata": {"name": "web-1"}});
        ControllerRevision.default(&mut object);
        let cells = ControllerRevision.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::Array(cells),
            json!(["web-1", "<none>", 0, "<unknown>"])
        );
        let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "controller": true});
        let owned = with(revision(), "/metadata/ownerReferences", json!([owner]));
        let cells = ControllerRevision.row(&owned, Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::Array(cells),
            json!(["web-1", "daemonset.apps/web", 3, "<unknown>"])
        );
    }
}
