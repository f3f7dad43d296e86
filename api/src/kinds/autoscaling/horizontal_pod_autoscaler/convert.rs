//! Between the two versions of an autoscaler. What autoscaling/v1 has no field for stands in annotations, as JSON whose
//! texts clients of upstream read and write: keys and their order are part of the contract.
//!
//! Invariant: an annotation that cannot be read is as good as none, and one that was read never stays in the newer form.
//! What upstream loses on the way (the order of metrics, a second CPU target) is lost here too.

mod amounts;

use serde_json::{Map, Value, json};

use self::amounts::{METRICS, STATUSES, from_v1, into_v1};
use super::{DEFAULT_CPU_PERCENT, DESCRIPTOR as V2, cpu_utilization, v1};
use crate::decode::{self, FieldValidation};
use crate::kinds::ResourceDescriptor;
use crate::kinds::value::{Get, object_at, remove, set};
use crate::meta::GroupVersionKind;

const METRICS_KEY: &str = "autoscaling.alpha.kubernetes.io/metrics";
const STATUSES_KEY: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS_KEY: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR_KEY: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// All annotations of this kind, those that only former versions wrote included.
const ANNOTATIONS: [&str; 6] = [
    METRICS_KEY,
    STATUSES_KEY,
    CONDITIONS_KEY,
    BEHAVIOR_KEY,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// Fields that are the same in both versions.
const SPEC: &[&str] = &["scaleTargetRef", "minReplicas", "maxReplicas"];
const STATUS: &[&str] = &["observedGeneration", "lastScaleTime"];
/// The fields of a condition.
const CONDITION: &[&str] = &["type", "status", "lastTransitionTime", "reason", "message"];

/// Takes the annotations out that only the older version has.
pub(super) fn drop_annotations(object: &mut Value) {
    let Some(meta) = object.get_mut("metadata") else {
        return;
    };
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) else {
        return;
    };
    for key in ANNOTATIONS {
        annotations.shift_remove(key);
    }
    if annotations.is_empty() {
        remove(meta, "annotations");
    }
}

/// From the stored form to autoscaling/v1.
pub(super) fn to_v1(object: &mut Value) {
    drop_annotations(object);
    let spec = remove(object, "spec").unwrap_or_default();
    let status = remove(object, "status");
    let metrics = spec.list("metrics");
    let others: Vec<Value> = metrics
        .iter()
        .filter(|metric| cpu_percent(metric).is_none())
        .map(|metric| into_v1(METRICS, metric))
        .collect();
    annotate(object, METRICS_KEY, others);
    if let Some(status) = &status {
        let statuses = status.list("currentMetrics").iter();
        let statuses: Vec<Value> = statuses.map(|s| into_v1(STATUSES, s)).collect();
        annotate(object, STATUSES_KEY, statuses);
    }
    if let Some(behavior) = spec.opt("behavior") {
        annotate(object, BEHAVIOR_KEY, behavior_into_v1(behavior));
    }
    if let Some(status) = &status {
        let conditions = status.list("conditions").iter();
        let conditions: Vec<Value> = conditions.map(condition_into_v1).collect();
        annotate(object, CONDITIONS_KEY, conditions);
    }
    let mut older = picked(&spec, SPEC);
    if let Some(percent) = metrics.iter().find_map(cpu_percent) {
        set(
            &mut older,
            "targetCPUUtilizationPercentage",
            percent.clone(),
        );
    }
    set(object, "spec", older);
    if let Some(status) = status {
        set(object, "status", status_into_v1(&status));
    }
    name_version(object, &v1::DESCRIPTOR);
}

/// From autoscaling/v1 to the stored form.
pub(super) fn to_v2(object: &mut Value) {
    let annotations = object.at("metadata").at("annotations");
    let annotation = |key: &str| serde_json::from_str::<Value>(annotations.opt_text(key)?).ok();
    let metrics = annotation(METRICS_KEY).and_then(|text| metrics_from(&text));
    let statuses = annotation(STATUSES_KEY).and_then(|text| statuses_from(&text));
    let behavior = annotation(BEHAVIOR_KEY).and_then(|text| behavior_from(&text));
    let conditions = annotation(CONDITIONS_KEY).and_then(|text| {
        let conditions = items(&text)?.iter().map(|c| picked(c, CONDITION));
        checked_list("status", "conditions", conditions.collect())
    });
    drop_annotations(object);
    let older = remove(object, "spec").unwrap_or_default();
    let status = remove(object, "status");

    let mut spec = picked(&older, SPEC);
    let mut metrics = metrics.unwrap_or_default();
    if let Some(percent) = older.opt("targetCPUUtilizationPercentage") {
        metrics.push(cpu_utilization(percent.clone()));
    }
    if metrics.is_empty() {
        metrics.push(cpu_utilization(DEFAULT_CPU_PERCENT.into()));
    }
    set(&mut spec, "metrics", metrics);
    if let Some(behavior) = behavior {
        set(&mut spec, "behavior", behavior);
    }
    set(object, "spec", spec);
    if status.is_some() || statuses.is_some() || conditions.is_some() {
        let older = status.unwrap_or_default();
        set(
            object,
            "status",
            status_from_v1(&older, statuses, conditions),
        );
    }
    name_version(object, &V2);
}

fn name_version(object: &mut Value, descriptor: &ResourceDescriptor) {
    if object.has("apiVersion") {
        set(object, "apiVersion", descriptor.api_version());
    }
}

/// The percentage of a metric that the older version has a field for.
fn cpu_percent(metric: &Value) -> Option<&Value> {
    let resource = metric.opt("resource")?;
    let cpu = metric.text("type") == "Resource" && resource.text("name") == "cpu";
    cpu.then(|| resource.at("target").opt("averageUtilization"))?
}

/// Writes an annotation; an empty list is not worth one.
fn annotate(object: &mut Value, key: &str, value: impl Into<Value>) {
    let value = value.into();
    if value.as_array().is_some_and(Vec::is_empty) {
        return;
    }
    if let Some(meta) = object_at(object, "metadata")
        && let Some(annotations) = object_at(meta, "annotations")
    {
        set(annotations, key, go_text(&value));
    }
}

/// JSON as Go's encoder writes it, with the characters escaped that HTML would take for its own.
fn go_text(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => text.push(other),
        }
    }
    text
}

/// A copy with only these fields, in this order.
fn picked(object: &Value, keys: &[&str]) -> Value {
    let fields = keys
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), object.opt(key)?.clone())));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn condition_into_v1(condition: &Value) -> Value {
    let mut older = json!({
        "type": condition.text("type"),
        "status": condition.text("status"),
        "lastTransitionTime": condition.at("lastTransitionTime"),
    });
    for optional in ["reason", "message"] {
        if !condition.is_empty_at(optional) {
            set(&mut older, optional, condition.text(optional));
        }
    }
    older
}

fn status_into_v1(status: &Value) -> Value {
    let mut older = picked(status, STATUS);
    for key in ["currentReplicas", "desiredReplicas"] {
        set(&mut older, key, status.int(key).unwrap_or(0));
    }
    let mut percents = status.list("currentMetrics").iter().filter_map(|metric| {
        let resource = metric.opt("resource")?;
        let cpu = metric.text("type") == "Resource" && resource.text("name") == "cpu";
        cpu.then(|| resource.at("current").opt("averageUtilization"))?
    });
    if let Some(percent) = percents.next_back() {
        set(
            &mut older,
            "currentCPUUtilizationPercentage",
            percent.clone(),
        );
    }
    older
}

fn status_from_v1(
    older: &Value,
    statuses: Option<Vec<Value>>,
    conditions: Option<Vec<Value>>,
) -> Value {
    let mut status = picked(older, STATUS);
    if let Some(replicas) = older.int("currentReplicas").filter(|count| *count != 0) {
        set(&mut status, "currentReplicas", replicas);
    }
    set(
        &mut status,
        "desiredReplicas",
        older.int("desiredReplicas").unwrap_or(0),
    );
    // The annotation tells more than the percentage, the amount behind it for one.
    let percent = older.opt("currentCPUUtilizationPercentage");
    let statuses = statuses.or_else(|| {
        let current = json!({"averageUtilization": percent?});
        Some(vec![
            json!({"type": "Resource", "resource": {"name": "cpu", "current": current}}),
        ])
    });
    for (key, list) in [("currentMetrics", statuses), ("conditions", conditions)] {
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            set(&mut status, key, list);
        }
    }
    status
}

fn metrics_from(text: &Value) -> Option<Vec<Value>> {
    let metrics = items(text)?.iter().map(|metric| from_v1(METRICS, metric));
    checked_list("spec", "metrics", metrics.collect())
}

fn statuses_from(text: &Value) -> Option<Vec<Value>> {
    let statuses = items(text)?.iter().map(|status| from_v1(STATUSES, status));
    checked_list("status", "currentMetrics", statuses.collect())
}

/// The items of a list of objects; null is an empty one.
fn items(text: &Value) -> Option<&[Value]> {
    let items = match text {
        Value::Null => &[],
        Value::Array(items) => items.as_slice(),
        _ => return None,
    };
    items.iter().all(Value::is_object).then_some(items)
}

fn checked_list(part: &str, key: &str, list: Vec<Value>) -> Option<Vec<Value>> {
    if list.is_empty() {
        return Some(list);
    }
    match checked(part, key, list.into())? {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

/// Holds what an annotation said to the schema of the newer version: types, amounts in their canonical texts.
fn checked(part: &str, key: &str, value: Value) -> Option<Value> {
    let gvk = GroupVersionKind::from_static(V2.group, V2.version, V2.kind);
    let object = json!({"metadata": {}, (part): {(key): value}});
    let mut object = decode::check(object, &gvk, FieldValidation::Ignore)
        .ok()?
        .object;
    remove(object.get_mut(part)?, key)
}

/// Upstream writes its internal type here, whose fields have no JSON names: capitals, and nulls for what is not set.
fn behavior_into_v1(behavior: &Value) -> Value {
    let policy = |policy: &Value| {
        json!({
            "Type": policy.text("type"),
            "Value": policy.int("value").unwrap_or(0),
            "PeriodSeconds": policy.int("periodSeconds").unwrap_or(0),
        })
    };
    let rules = |direction: &str| {
        let rules = behavior.opt(direction)?;
        let policies: Option<Vec<Value>> = rules
            .opt("policies")
            .map(|_| rules.list("policies").iter().map(policy).collect());
        Some(json!({
            "StabilizationWindowSeconds": rules.at("stabilizationWindowSeconds"),
            "SelectPolicy": rules.at("selectPolicy"),
            "Policies": policies,
            "Tolerance": rules.at("tolerance"),
        }))
    };
    json!({"ScaleUp": rules("scaleUp"), "ScaleDown": rules("scaleDown")})
}

/// The way back. Go matches keys in any case, so people could write the names they know from the newer version.
fn behavior_from(text: &Value) -> Option<Value> {
    let mut behavior = json!({});
    for direction in ["scaleUp", "scaleDown"] {
        let rules = any_case(text, direction);
        if rules.is_null() {
            continue;
        }
        let mut newer = renamed(
            rules,
            &["stabilizationWindowSeconds", "selectPolicy", "tolerance"],
        )?;
        let policies = any_case(rules, "policies");
        if !policies.is_null() {
            let policies: Option<Vec<Value>> = items(policies)?
                .iter()
                .map(|policy| renamed(policy, &["type", "value", "periodSeconds"]))
                .collect();
            set(&mut newer, "policies", policies?);
        }
        set(&mut behavior, direction, newer);
    }
    let nothing = behavior.as_object().is_none_or(Map::is_empty);
    if nothing {
        return None;
    }
    checked("spec", "behavior", behavior)
}

fn renamed(object: &Value, keys: &[&str]) -> Option<Value> {
    object.as_object()?;
    let fields = keys.iter().filter_map(|key| {
        let value = any_case(object, key);
        (!value.is_null()).then(|| ((*key).to_owned(), value.clone()))
    });
    Some(Value::Object(fields.collect::<Map<_, _>>()))
}

fn any_case<'a>(object: &'a Value, key: &str) -> &'a Value {
    let fields = object.as_object().into_iter().flatten();
    let mut matching = fields.filter(|(name, _)| name.eq_ignore_ascii_case(key));
    matching
        .next()
        .map_or(&crate::kinds::value::NULL, |(_, value)| value)
}
