//! What an autoscaler must look like. The checks are written against autoscaling/v2; the older version is converted
//! before, so its errors name the newer fields too, as upstream's do.

use serde_json::Value;

use crate::kinds::core::pod::validate_resource_name;
use crate::kinds::errors::NOT_NEGATIVE;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};
use crate::quantity::Quantity;

/// Longest period of a scaling policy.
const PERIOD_SECONDS_MAX: i64 = 1800;
/// Longest time over which recommendations are smoothed.
const WINDOW_SECONDS_MAX: i64 = 3600;

/// Types of metrics, in the order in which errors list them.
const TYPES: &[&str] = &[
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];
/// Where the types keep what they need, in the order in which they are looked at.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// How strictly the `apiVersion` of a reference is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiVersion {
    /// It must name a group.
    Grouped,
    /// The core group will do, and so will nothing.
    Any,
    /// It was there before, so it is borne.
    Unchecked,
}

/// What is borne because the object had it before, or because of what it refers to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    replicas_min: i64,
    target: ApiVersion,
    described: ApiVersion,
}

impl Options {
    /// The options for a new object, or for an update of `old`.
    pub(super) fn of(new: &Value, old: Option<&Value>) -> Self {
        let old = old.map(|old| old.at("spec"));
        let target = new.at("spec").at("scaleTargetRef");
        let unchanged = old.is_some_and(|old| {
            let before = old.at("scaleTargetRef");
            ["apiVersion", "kind"]
                .iter()
                .all(|key| before.text(key) == target.text(key))
        });
        let malformed_before = old.is_some_and(|old| {
            let described = |metric: &Value| {
                let version = metric.at("object").at("describedObject").text("apiVersion");
                metric.text("type") == "Object"
                    && metric.has("object")
                    && api_version_fault(version, ApiVersion::Any).is_some()
            };
            old.list("metrics").iter().any(described)
        });
        Self {
            // Only who has it already keeps scaling to zero; it is behind a feature that is off.
            replicas_min: match old.and_then(|old| old.int("minReplicas")) {
                Some(0) => 0,
                _ => 1,
            },
            target: if unchanged {
                ApiVersion::Unchecked
            } else if target.text("kind") == "ReplicationController" {
                ApiVersion::Any
            } else {
                ApiVersion::Grouped
            },
            described: if malformed_before {
                ApiVersion::Unchecked
            } else {
                ApiVersion::Any
            },
        }
    }
}

/// Checks the spec.
pub(super) fn validate_spec(spec: &Value, options: Options, errors: &mut Errors) {
    let path = Path::new("spec");
    let min = spec.int("minReplicas");
    let max = spec.int("maxReplicas").unwrap_or(0);
    if let Some(min) = min.filter(|min| *min < options.replicas_min) {
        let detail = format!("must be greater than or equal to {}", options.replicas_min);
        errors.invalid(&path.child("minReplicas"), min, detail);
    }
    let at = path.child("maxReplicas");
    if max < 1 {
        errors.invalid(&at, max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errors.invalid(&at, max, "must be greater than or equal to `minReplicas`");
    }
    reference(
        spec.at("scaleTargetRef"),
        options.target,
        &path.child("scaleTargetRef"),
        errors,
    );
    let metrics = spec.list("metrics");
    let at = path.child("metrics");
    for (i, metric) in metrics.iter().enumerate() {
        validate_metric(metric, options, &at.index(i), errors);
    }
    let outside = |metric: &Value| matches!(metric.text("type"), "Object" | "External");
    if min == Some(0) && !metrics.iter().any(outside) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&at, detail);
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.at("behavior").opt(direction) {
            let at = path.child("behavior");
            validate_rules(rules, &at.child(direction), errors);
        }
    }
}

/// Checks a reference to another object.
fn reference(reference: &Value, rule: ApiVersion, path: &Path<'_>, errors: &mut Errors) {
    for key in ["kind", "name"] {
        segment(reference.text(key), "", &path.child(key), errors);
    }
    let version = reference.text("apiVersion");
    if let Some(fault) = api_version_fault(version, rule) {
        errors.invalid(&path.child("apiVersion"), version, fault);
    }
}

fn segment(name: &str, missing: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, missing);
    } else {
        errors.invalid_each(path, name, names::path_segment(name, false));
    }
}

fn api_version_fault(version: &str, rule: ApiVersion) -> Option<String> {
    let group = match (rule, version.matches('/').count()) {
        (ApiVersion::Unchecked, _) => return None,
        (_, 0) => "",
        (_, 1) => version.split('/').next().unwrap_or(""),
        _ => return Some(format!("unexpected GroupVersion string: {version}")),
    };
    (rule == ApiVersion::Grouped && group.is_empty())
        .then(|| "apiVersion must specify API group".to_owned())
}

fn validate_metric(metric: &Value, options: Options, path: &Path<'_>, errors: &mut Errors) {
    let kind = metric.text("type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    if !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
    let present: Vec<&str> = SOURCES
        .iter()
        .filter_map(|(_, key)| metric.has(key).then_some(*key))
        .collect();
    if let Some(first) = present.first() {
        validate_source(metric.at(first), first, options, &path.child(first), errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind);
    if let Some((_, key)) = expected
        && !metric.has(key)
    {
        let detail = "must populate information for the given metric source";
        errors.required(&path.child(key), detail);
    }
    if present.len() != 1 {
        let expected = expected.map_or("", |(_, key)| key);
        for other in present.iter().filter(|key| **key != expected) {
            let detail = "must populate the given metric source only";
            errors.forbidden(&path.child(other), detail);
        }
    }
}

fn validate_source(
    source: &Value,
    kind: &str,
    options: Options,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    match kind {
        "object" => {
            let described = path.child("describedObject");
            reference(
                source.at("describedObject"),
                options.described,
                &described,
                errors,
            );
        }
        "resource" if source.is_empty_at("name") => {
            errors.required(&path.child("name"), "must specify a resource name");
        }
        "containerResource" => container(source, path, errors),
        _ => {}
    }
    if matches!(kind, "object" | "external" | "pods") {
        let at = path.child("metric");
        let name = source.at("metric").text("name");
        segment(
            name,
            "must specify a metric name",
            &at.child("name"),
            errors,
        );
    }
    let target = source.at("target");
    let at = path.child("target");
    validate_target(target, &at, errors);
    require_amount(kind, target, &at, errors);
}

fn container(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("name");
    match source.text("name") {
        "" => errors.required(&at, "must specify a resource name"),
        name => validate_resource_name(name, &at, errors),
    }
    let at = path.child("container");
    match source.text("container") {
        "" => errors.required(&at, "must specify a container"),
        name => errors.invalid_each(&at, name, names::label(name, false)),
    }
}

fn validate_target(target: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = target.text("type");
    let at = path.child("type");
    if kind.is_empty() {
        errors.required(&at, "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.invalid(&at, kind, detail);
    }
    for key in ["value", "averageValue"] {
        let Some(amount) = target.opt(key) else {
            continue;
        };
        let positive = Quantity::from_json(amount).is_ok_and(|amount| amount > Quantity::ZERO);
        if !positive {
            errors.invalid(&path.child(key), amount, "must be positive");
        }
    }
    if let Some(percent) = target.int("averageUtilization").filter(|p| *p < 1) {
        let at = path.child("averageUtilization");
        errors.invalid(&at, percent, "must be greater than 0");
    }
}

/// Each kind of source knows which amounts it can be held against.
fn require_amount(kind: &str, target: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (value, average) = (target.has("value"), target.has("averageValue"));
    let utilization = target.has("averageUtilization");
    let average_path = path.child("averageValue");
    match kind {
        "object" if !value && !average => {
            let detail = "must set either a target value or averageValue";
            errors.required(&average_path, detail);
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.required(&average_path, detail);
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&path.child("value"), detail);
        }
        "pods" if !average => {
            let detail = "must specify a positive target averageValue";
            errors.required(&average_path, detail);
        }
        "resource" | "containerResource" if !utilization && !average => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&path.child("averageUtilization"), detail);
        }
        "resource" | "containerResource" if utilization && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&average_path, detail);
        }
        _ => {}
    }
}

/// Checks the rules of one direction.
fn validate_rules(rules: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(window) = rules.int("stabilizationWindowSeconds") {
        let at = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&at, window, "must be greater than or equal to zero");
        }
        if window > WINDOW_SECONDS_MAX {
            let detail = format!("must be less than or equal to {WINDOW_SECONDS_MAX}");
            errors.invalid(&at, window, detail);
        }
    }
    if let Some(policy) = rules.opt_text("selectPolicy") {
        let supported = ["Disabled", "Max", "Min"];
        if !supported.contains(&policy) {
            errors.not_supported(&path.child("selectPolicy"), policy, &supported);
        }
    }
    let at = path.child("policies");
    if rules.is_empty_at("policies") {
        errors.required(&at, "must specify at least one Policy");
    }
    for (i, policy) in rules.list("policies").iter().enumerate() {
        validate_policy(policy, &at.index(i), errors);
    }
    if let Some(tolerance) = rules.opt("tolerance") {
        let negative = Quantity::from_json(tolerance).is_ok_and(Quantity::is_negative);
        if negative {
            errors.invalid(&path.child("tolerance"), tolerance, NOT_NEGATIVE);
        }
    }
}

fn validate_policy(policy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = policy.text("type");
    if !matches!(kind, "Pods" | "Percent") {
        errors.not_supported(&path.child("type"), kind, &["Percent", "Pods"]);
    }
    for key in ["value", "periodSeconds"] {
        let amount = policy.int(key).unwrap_or(0);
        if amount <= 0 {
            errors.invalid(&path.child(key), amount, "must be greater than zero");
        }
    }
    if let Some(period) = policy
        .int("periodSeconds")
        .filter(|p| *p > PERIOD_SECONDS_MAX)
    {
        let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
        errors.invalid(&path.child("periodSeconds"), period, detail);
    }
}
