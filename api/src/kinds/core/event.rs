//! Event: a report about an object, kept for an hour. `events.k8s.io` shows the same objects in other words.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::Get;
use crate::kinds::{Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, duration};

/// `events` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
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

/// The columns of both views of events.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Last Seen", "Time since it last happened."),
    Column::text("Type", "Normal or Warning."),
    Column::text("Reason", "What happened, in one word."),
    Column::text("Object", "What it happened to."),
    Column::text("Subobject", "Which part of it.").wide(),
    Column::text("Source", "Who reported it.").wide(),
    Column::text("Message", "What happened, in words."),
    Column::text("First Seen", "Time since it first happened.").wide(),
    Column::text("Count", "How often it happened.").wide(),
    Column {
        name: "Name",
        r#type: "string",
        format: "name",
        description: "Name of the event.",
        priority: 1,
    },
];

/// The rules of both views of events.
pub(crate) static RULES: Rules = Rules {
    create_on_update: true,
    ttl_seconds: Some(3600),
    ..Rules::NAMESPACED
};

/// Texts of the newer API that it bounds, in bytes.
const REASON_BYTES_MAX: usize = 128;
const NOTE_BYTES_MAX: usize = 1024;

/// Fields of the object an event is about: name in this view, name in the newer one, and the key. Both views are
/// served from objects in this one, so both names can be selected.
pub(crate) const REFERENCE_FIELDS: &[(&str, &str, &str)] = &[
    ("involvedObject.kind", "regarding.kind", "kind"),
    (
        "involvedObject.namespace",
        "regarding.namespace",
        "namespace",
    ),
    ("involvedObject.name", "regarding.name", "name"),
    ("involvedObject.uid", "regarding.uid", "uid"),
    (
        "involvedObject.apiVersion",
        "regarding.apiVersion",
        "apiVersion",
    ),
    (
        "involvedObject.resourceVersion",
        "regarding.resourceVersion",
        "resourceVersion",
    ),
    (
        "involvedObject.fieldPath",
        "regarding.fieldPath",
        "fieldPath",
    ),
];

struct Event;

impl Strategy for Event {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_namespace(object, errors);
        // Events of the newer kind are marked by their time and obey stricter rules.
        if object.has("eventTime") {
            validate_new_style(object, errors);
        }
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        let involved = object.at("involvedObject");
        let source = object.at("source");
        for (core, newer, key) in REFERENCE_FIELDS {
            fields.add(core, involved.text(key));
            fields.add(newer, involved.text(key));
        }
        fields.add("reason", object.text("reason"));
        fields.add("reportingComponent", object.text("reportingComponent"));
        fields.add("reportingController", object.text("reportingComponent"));
        let component = source.text("component");
        fields.add(
            "source",
            if component.is_empty() {
                object.text("reportingComponent")
            } else {
                component
            },
        );
        fields.add("type", object.text("type"));
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        row(object, now)
    }
}

/// The cells of an event in the core view.
pub(crate) fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut first = duration::age(object.at("firstTimestamp"), now);
    if !object.has("firstTimestamp") {
        first = duration::age(object.at("eventTime"), now);
    }
    let mut last = match object.has("lastTimestamp") {
        true => duration::age(object.at("lastTimestamp"), now),
        false => first.clone(),
    };
    // Events that happened once carry no count in the newer API.
    let mut count = object.int("count").filter(|count| *count != 0).unwrap_or(1);
    if let Some(series) = object.opt("series") {
        last = duration::age(series.at("lastObservedTime"), now);
        count = series.int("count").unwrap_or(0);
    }
    let involved = object.at("involvedObject");
    let kind = involved.text("kind").to_lowercase();
    let target = match involved.text("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        object.text("type").into(),
        object.text("reason").into(),
        target.into(),
        involved.text("fieldPath").into(),
        source(object).into(),
        object.text("message").trim().into(),
        first.into(),
        count.into(),
        object.at("metadata").text("name").into(),
    ]
}

fn source(object: &Value) -> String {
    let source = object.at("source");
    let first_of = |a: &str, b: &str| {
        if a.is_empty() {
            b.to_owned()
        } else {
            a.to_owned()
        }
    };
    let component = first_of(source.text("component"), object.text("reportingComponent"));
    let host = first_of(source.text("host"), object.text("reportingInstance"));
    if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    }
}

fn validate_namespace(object: &Value, errors: &mut Errors) {
    let namespace = object.at("metadata").text("namespace");
    let involved = object.at("involvedObject").text("namespace");
    // What has no namespace is reported in the default one (or, for the newer API, in kube-system).
    let fits = if involved.is_empty() {
        namespace == "default" || namespace == "kube-system"
    } else {
        namespace == involved
    };
    if !fits {
        let path = Path::new("involvedObject.namespace");
        errors.invalid(&path, involved, "does not match event.namespace");
    }
}

fn validate_new_style(object: &Value, errors: &mut Errors) {
    for key in [
        "reportingComponent",
        "reportingInstance",
        "action",
        "reason",
    ] {
        let path = Path::new(match key {
            // The name by which the newer API knows it.
            "reportingComponent" => "reportingController",
            other => other,
        });
        let text = object.text(key);
        if text.is_empty() {
            errors.required(&path, "");
        } else if text.len() > REASON_BYTES_MAX {
            errors.too_long(&path, REASON_BYTES_MAX);
        }
    }
    if !matches!(object.text("type"), "Normal" | "Warning") {
        errors.not_supported(
            &Path::new("type"),
            object.text("type"),
            &["Normal", "Warning"],
        );
    }
    if object.text("message").len() > NOTE_BYTES_MAX {
        errors.too_long(&Path::new("message"), NOTE_BYTES_MAX);
    }
    if let Some(series) = object.opt("series") {
        if series.int("count").unwrap_or(0) < 2 {
            errors.invalid(&Path::new("series.count"), "", "should be at least 2");
        }
        if !series.has("lastObservedTime") {
            errors.required(&Path::new("series.lastObservedTime"), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, with};

    fn event() -> Value {
        json!({
            "metadata": {"name": "p.1", "namespace": "ns"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns", "fieldPath": "spec.containers{c}"},
            "reason": "Started", "message": " started\n", "type": "Normal", "count": 3,
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:04:00Z",
        })
    }

    #[test]
    fn rows_tell_who_what_and_how_often() {
        let now: Timestamp = "2024-01-01T00:05:00Z".parse().expect("a timestamp");
        let cells = row(&event(), now);
        assert_eq!(
            cells,
            [
                json!("60s"),
                json!("Normal"),
                json!("Started"),
                json!("pod/p"),
                json!("spec.containers{c}"),
                json!("kubelet, n1"),
                json!("started"),
                json!("5m"),
                json!(3),
                json!("p.1"),
            ]
        );
        let series = json!({"count": 7, "lastObservedTime": "2024-01-01T00:04:50Z"});
        let cells = row(&with(event(), "/series", series), now);
        assert_eq!((&cells[0], &cells[8]), (&json!("10s"), &json!(7)));
    }

    #[test]
    fn fields_can_be_selected() {
        let event = event();
        let fields = Event.selectable_fields(&event);
        assert_eq!(fields.get("involvedObject.name"), Some("p"));
        assert_eq!(fields.get("source"), Some("kubelet"));
        assert_eq!(fields.get("spec.nodeName"), None);
    }

    #[test]
    fn namespaces_must_agree() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&Event, event()), none);
        let errors = create(&Event, with(event(), "/metadata/namespace", json!("other")));
        assert_eq!(
            errors,
            ["involvedObject.namespace: Invalid value: \"ns\": does not match event.namespace"]
        );
    }
}
