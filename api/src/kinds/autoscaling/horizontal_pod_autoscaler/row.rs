//! The row of an autoscaler: its metrics as `current/wanted`, two of them at most.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::duration;
use crate::kinds::value::Get;

/// Metrics that are shown; the others are counted.
const SHOWN_MAX: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// The cells of an autoscaler in its stored form.
pub(super) fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let meta = object.at("metadata");
    let (spec, status) = (object.at("spec"), object.at("status"));
    let target = spec.at("scaleTargetRef");
    let min = match spec.int("minReplicas") {
        Some(min) => min.to_string(),
        None => "<unset>".to_owned(),
    };
    vec![
        meta.text("name").into(),
        format!("{}/{}", target.text("kind"), target.text("name")).into(),
        metrics(spec.list("metrics"), status.list("currentMetrics")).into(),
        min.into(),
        spec.int("maxReplicas").unwrap_or(0).into(),
        status.int("currentReplicas").unwrap_or(0).into(),
        duration::age(meta.at("creationTimestamp"), now).into(),
    ]
}

fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    // Statuses stand in the order of their metrics.
    let texts = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| metric(spec, statuses.get(i).unwrap_or(&Value::Null)));
    let shown: Vec<String> = texts.take(SHOWN_MAX).collect();
    let shown = shown.join(", ");
    match specs.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    match spec.text("type") {
        "External" => outside(spec.at("external"), status.opt("external")),
        "Object" => outside(spec.at("object"), status.opt("object")),
        "Pods" => {
            let wanted = amount(spec.at("pods").at("target").at("averageValue"));
            let current = status.opt("pods").map_or_else(
                || UNKNOWN.to_owned(),
                |pods| amount(pods.at("current").at("averageValue")),
            );
            format!("{current}/{wanted}")
        }
        "Resource" => resource(spec.at("resource"), status.opt("resource")),
        "ContainerResource" => resource(
            spec.at("containerResource"),
            status.opt("containerResource"),
        ),
        _ => "<unknown type>".to_owned(),
    }
}

/// A metric from outside the pods: an amount, or an amount for each pod.
fn outside(source: &Value, status: Option<&Value>) -> String {
    let target = source.at("target");
    let current = status.map(|status| status.at("current"));
    if let Some(wanted) = target.opt("averageValue") {
        let current = current.and_then(|current| current.opt("averageValue"));
        let current = current.map_or_else(|| UNKNOWN.to_owned(), amount);
        return format!("{current}/{} (avg)", amount(wanted));
    }
    let current = current.map(|current| amount(current.at("value")));
    let current = current.unwrap_or_else(|| UNKNOWN.to_owned());
    format!("{current}/{}", amount(target.at("value")))
}

fn resource(source: &Value, status: Option<&Value>) -> String {
    let (name, target) = (source.text("name"), source.at("target"));
    let current = status.map(|status| status.at("current"));
    if let Some(wanted) = target.opt("averageValue") {
        let current = current.map(|current| amount(current.at("averageValue")));
        let current = current.unwrap_or_else(|| UNKNOWN.to_owned());
        return format!("{name}: {current}/{}", amount(wanted));
    }
    let percent = |amounts: &Value| Some(format!("{}%", amounts.int("averageUtilization")?));
    let current = current.and_then(percent);
    let current = current.unwrap_or_else(|| UNKNOWN.to_owned());
    let wanted = percent(target).unwrap_or_else(|| "<auto>".to_owned());
    format!("{name}: {current}/{wanted}")
}

/// A quantity as it stands there: the decoder has made it canonical.
fn amount(quantity: &Value) -> String {
    match quantity {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "<nil>".to_owned(),
    }
}
