//! What kinds that make pods from a template share: selectors, templates, counts that may be percentages.

use serde_json::Value;

use crate::kinds::core::pod;
use crate::kinds::object_meta::validate_template;
use crate::kinds::strategy::immutable;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};
use crate::selector::LabelSelector;

/// Upstream's words for a selector that would not find the template's pods.
const NO_MATCH: &str = "`selector` does not match template `labels`";

/// Checks a label selector.
pub fn validate_label_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in selector.entries("matchLabels") {
        let at = path.child("matchLabels");
        errors.invalid_each(&at, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        errors.invalid_each(&at, value, names::label_value(value));
    }
    let at = path.child("matchExpressions");
    for (i, expression) in selector.list("matchExpressions").iter().enumerate() {
        validate_expression(expression, &at.index(i), errors);
    }
}

fn validate_expression(expression: &Value, path: &Path<'_>, errors: &mut Errors) {
    let values = expression.list("values");
    match expression.text("operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&path.child("values"), detail);
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
        }
        operator => errors.invalid(
            &path.child("operator"),
            operator,
            "not a valid selector operator",
        ),
    }
    let key = expression.text("key");
    errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    let at = path.child("values");
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        errors.invalid_each(&at.index(i), value, names::label_value(value));
    }
}

/// Checks the selector of a workload: present, not empty, and finding the template's pods.
pub(crate) fn validate_selector(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec.selector");
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.required(&path, "");
        return;
    }
    validate_label_selector(selector, &path, errors);
    if selector.is_empty_at("matchLabels") && selector.is_empty_at("matchExpressions") {
        errors.invalid(&path, selector, "empty selector is invalid for deployment");
    }
}

/// Checks a pod template, and that the workload's selector finds its pods.
pub(crate) fn validate_pod_template(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec.template");
    let template = spec.at("template");
    let metadata = path.child("metadata");
    let labels = template.at("metadata").at("labels");
    let selector = spec.at("selector");
    let empty = selector.is_empty_at("matchLabels") && selector.is_empty_at("matchExpressions");
    if let Ok(parsed) = LabelSelector::from_json(selector)
        && !empty
    {
        let none = serde_json::Map::new();
        if !parsed.matches(labels.as_object().unwrap_or(&none)) {
            errors.invalid(&metadata.child("labels"), labels, NO_MATCH);
        }
    }
    validate_template(template.at("metadata"), &metadata, errors);
    pod::validate_spec(template.at("spec"), &path.child("spec"), errors);
    validate_template_life(template.at("spec"), &path.child("spec"), errors);
}

/// Pods of replicated workloads must be able to run for ever.
fn validate_template_life(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let policy = spec.text("restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if spec.has("activeDeadlineSeconds") {
        errors.forbidden(
            &path.child("activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}

/// Refuses another selector: the controller would lose the pods of the old one.
pub(crate) fn validate_selector_stays(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (new.at("spec"), old.at("spec"));
    immutable(
        new.at("selector"),
        old.at("selector"),
        &Path::new("spec.selector"),
        errors,
    );
}

/// Checks a count that may be a percentage. `bounded` refuses more than 100 %.
pub(crate) fn validate_int_or_percent(
    value: &Value,
    bounded: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    match value {
        Value::String(text) => {
            let faults = crate::names::percent(text);
            let malformed = !faults.is_empty();
            errors.invalid_each(path, text, faults);
            if !malformed && bounded && percent(value).is_some_and(|p| p > 100) {
                errors.invalid(path, value, "must not be greater than 100%");
            }
        }
        number => errors.non_negative(path, number.as_i64()),
    }
}

/// The percentage in a value such as `25%`.
pub(crate) fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// Whether a count is zero, as a number or as a percentage.
pub(crate) fn is_zero(value: &Value) -> bool {
    percent(value).or_else(|| value.as_i64()) == Some(0)
}
