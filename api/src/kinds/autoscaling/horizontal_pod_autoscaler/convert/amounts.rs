//! The metrics and their statuses in both versions, as tables: where a field of the older version is in the newer one.
//! Invariant: within a table the order is the order in which the older version writes its fields.

use serde_json::{Value, json};

use crate::kinds::value::{Get, object_at, set};

/// A field of a source: its older name, where it is in the newer form, and what stands for nothing.
type Field = (&'static str, &'static [&'static str], Absent);

/// What the older form has where the newer one says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// No field.
    Omitted,
    /// An empty text.
    Text,
    /// An amount of nothing.
    Zero,
    /// The same; on the way back it means nothing when this other amount is there. Upstream takes it for an amount,
    /// and then refuses updates of such an object through the older version.
    ZeroUnless(&'static str),
    /// A reference to an object.
    Reference,
}

use Absent::{Omitted, Reference, Text, Zero, ZeroUnless};

/// The sources of metrics, or of their statuses, by key.
pub(super) type Table = &'static [(&'static str, &'static [Field])];

/// What is wanted.
pub(super) const METRICS: Table = &[
    (
        "object",
        &[
            ("target", &["describedObject"], Reference),
            ("metricName", &["metric", "name"], Text),
            (
                "targetValue",
                &["target", "value"],
                ZeroUnless("averageValue"),
            ),
            ("selector", &["metric", "selector"], Omitted),
            ("averageValue", &["target", "averageValue"], Omitted),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"], Text),
            ("targetAverageValue", &["target", "averageValue"], Zero),
            ("selector", &["metric", "selector"], Omitted),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"], Text),
            (
                "targetAverageUtilization",
                &["target", "averageUtilization"],
                Omitted,
            ),
            ("targetAverageValue", &["target", "averageValue"], Omitted),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"], Text),
            (
                "targetAverageUtilization",
                &["target", "averageUtilization"],
                Omitted,
            ),
            ("targetAverageValue", &["target", "averageValue"], Omitted),
            ("container", &["container"], Text),
        ],
    ),
    (
        "external",
        &[
            ("metricName", &["metric", "name"], Text),
            ("metricSelector", &["metric", "selector"], Omitted),
            ("targetValue", &["target", "value"], Omitted),
            ("targetAverageValue", &["target", "averageValue"], Omitted),
        ],
    ),
];

/// What is.
pub(super) const STATUSES: Table = &[
    (
        "object",
        &[
            ("target", &["describedObject"], Reference),
            ("metricName", &["metric", "name"], Text),
            (
                "currentValue",
                &["current", "value"],
                ZeroUnless("averageValue"),
            ),
            ("selector", &["metric", "selector"], Omitted),
            ("averageValue", &["current", "averageValue"], Omitted),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"], Text),
            ("currentAverageValue", &["current", "averageValue"], Zero),
            ("selector", &["metric", "selector"], Omitted),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"], Text),
            (
                "currentAverageUtilization",
                &["current", "averageUtilization"],
                Omitted,
            ),
            ("currentAverageValue", &["current", "averageValue"], Zero),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"], Text),
            (
                "currentAverageUtilization",
                &["current", "averageUtilization"],
                Omitted,
            ),
            ("currentAverageValue", &["current", "averageValue"], Zero),
            ("container", &["container"], Text),
        ],
    ),
    (
        "external",
        &[
            ("metricName", &["metric", "name"], Text),
            ("metricSelector", &["metric", "selector"], Omitted),
            (
                "currentValue",
                &["current", "value"],
                ZeroUnless("currentAverageValue"),
            ),
            ("currentAverageValue", &["current", "averageValue"], Omitted),
        ],
    ),
];

/// One metric or status in the older form.
pub(super) fn into_v1(table: Table, metric: &Value) -> Value {
    let mut older = json!({"type": metric.text("type")});
    for (key, fields) in table {
        let Some(source) = metric.opt(key) else {
            continue;
        };
        let mut out = json!({});
        for (name, path, absent) in *fields {
            let value = path.iter().fold(source, |value, key| value.at(key));
            match (absent, value) {
                (Reference, value) => set(&mut out, name, reference(value)),
                (Omitted, Value::Null) => {}
                (Text, Value::Null) => set(&mut out, name, ""),
                (Zero | ZeroUnless(_), Value::Null) => set(&mut out, name, "0"),
                (_, value) => set(&mut out, name, value.clone()),
            }
        }
        set(&mut older, key, out);
    }
    older
}

/// One metric or status in the newer form. What is not an object is left for the schema to refuse.
pub(super) fn from_v1(table: Table, older: &Value) -> Value {
    let kind = older.opt("type").cloned();
    let mut metric = json!({"type": kind.unwrap_or_else(|| "".into())});
    for (key, fields) in table {
        let Some(source) = older.opt(key) else {
            continue;
        };
        if !source.is_object() {
            set(&mut metric, key, source.clone());
            continue;
        }
        let mut out = json!({});
        for (name, path, absent) in *fields {
            let value = match (absent, source.opt(name)) {
                (ZeroUnless(other), None | Some(Value::String(_)))
                    if is_zero(source.at(name)) && source.has(other) =>
                {
                    continue;
                }
                (_, Some(value)) => value.clone(),
                (Zero | ZeroUnless(_), None) => "0".into(),
                (Text, None) => "".into(),
                (Reference, None) => json!({}),
                (Omitted, None) => continue,
            };
            put(&mut out, path, value);
        }
        if let Some(kind) = target_type(key, source).filter(|_| is_wanted(fields)) {
            put(&mut out, &["target", "type"], kind.into());
        }
        set(&mut metric, key, out);
    }
    metric
}

fn is_zero(amount: &Value) -> bool {
    matches!(amount.as_str(), None | Some("0"))
}

/// Only what is wanted has a type; what is does not.
fn is_wanted(fields: &[Field]) -> bool {
    fields
        .iter()
        .any(|(_, path, _)| path.first() == Some(&"target"))
}

/// The older form tells the type of a target only by which amounts are there.
fn target_type(key: &str, source: &Value) -> Option<&'static str> {
    Some(match key {
        "object" if !source.has("averageValue") => "Value",
        "external" if source.has("targetValue") => "Value",
        "resource" | "containerResource" if source.has("targetAverageUtilization") => "Utilization",
        "object" | "pods" | "external" | "resource" | "containerResource" => "AverageValue",
        _ => return None,
    })
}

fn put(object: &mut Value, path: &[&str], value: Value) {
    match path {
        [] => {}
        [key] => set(object, key, value),
        [key, rest @ ..] => {
            if let Some(inner) = object_at(object, key) {
                put(inner, rest, value);
            }
        }
    }
}

fn reference(object: &Value) -> Value {
    let mut out = json!({"kind": object.text("kind"), "name": object.text("name")});
    if !object.is_empty_at("apiVersion") {
        set(&mut out, "apiVersion", object.text("apiVersion"));
    }
    out
}
