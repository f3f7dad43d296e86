//! Event of events.k8s.io: the core group's events in newer words. Both views share one stored object, which is
//! the core one. Invariant: converting there and back loses nothing.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::core::event::{COLUMNS, DESCRIPTOR as CORE, REFERENCE_FIELDS, RULES, row};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, object_at, remove, set};
use crate::kinds::{Errors, Fields, Path, ResourceDescriptor, Rules, Strategy};

/// `events` of events.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    list_kind: "EventList",
    resource: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    namespaced: true,
    storage_prefix: "events",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: COLUMNS,
    strategy: &Event,
};

/// Names that differ: the newer one, then the core one.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

struct Event;

impl Strategy for Event {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let mut core = object.clone();
        self.encode_for_storage(&mut core);
        CORE.strategy.validate(&core, errors);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        if !object.has("eventTime") {
            errors.required(&Path::new("eventTime"), "");
        }
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        let regarding = object.at("regarding");
        for (_, name, key) in REFERENCE_FIELDS {
            fields.add(name, regarding.text(key));
        }
        fields.add("reason", object.text("reason"));
        fields.add("reportingController", object.text("reportingController"));
        fields.add("type", object.text("type"));
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut core = object.clone();
        self.encode_for_storage(&mut core);
        row(&core, now)
    }

    fn encode_for_storage(&self, object: &mut Value) {
        for (new, core) in RENAMED {
            rename(object, new, core);
        }
        if object.has("apiVersion") {
            set(object, "apiVersion", CORE.version);
        }
        // The core type always has this field.
        object_at(object, "involvedObject");
    }

    fn decode_from_storage(&self, object: &mut Value) {
        for (new, core) in RENAMED {
            rename(object, core, new);
        }
        set(object, "apiVersion", DESCRIPTOR.api_version());
    }
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(value) = remove(object, from) {
        set(object, to, value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        let original = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": "e", "namespace": "ns"},
            "eventTime": "2024-01-01T00:00:00.000000Z",
            "regarding": {"kind": "Pod", "name": "p", "namespace": "ns"},
            "note": "hello", "reportingController": "c", "reportingInstance": "i",
            "deprecatedCount": 2, "type": "Normal", "reason": "R", "action": "A",
        });
        let mut object = original.clone();
        Event.encode_for_storage(&mut object);
        assert_eq!(object["apiVersion"], "v1");
        assert_eq!(object["involvedObject"]["name"], "p");
        assert_eq!(
            (&object["message"], &object["count"]),
            (&json!("hello"), &json!(2))
        );
        assert_eq!(
            Event.row(&original, Timestamp::UNIX_EPOCH).len(),
            COLUMNS.len()
        );
        Event.decode_from_storage(&mut object);
        assert_eq!(object, original);
    }
}
