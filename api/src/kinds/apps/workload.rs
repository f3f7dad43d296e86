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

/// Checks the selector of a workload: present and not empty. `kind` is the word for it in upstream's message.
pub(crate) fn validate_selector(spec: &Value, kind: &str, errors: &mut Errors) {
    let path = Path::new("spec.selector");
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.required(&path, "");
        return;
    }
    validate_label_selector(selector, &path, errors);
    validate_not_empty(selector, kind, errors);
}

/// Refuses a selector that would take every pod; none at all is another mistake.
pub(crate) fn validate_not_empty(selector: &Value, kind: &str, errors: &mut Errors) {
    let empty = selector.is_empty_at("matchLabels") && selector.is_empty_at("matchExpressions");
    if empty && !selector.is_null() {
        let detail = format!("empty selector is invalid for {kind}");
        errors.invalid(&Path::new("spec.selector"), selector, detail);
    }
}

/// Refuses a selector that would not find the template's pods. A missing one finds none, an empty one all.
pub(crate) fn validate_selector_matches(spec: &Value, errors: &mut Errors) {
    let labels = spec.at("template").at("metadata").at("labels");
    let none = serde_json::Map::new();
    if let Ok(selector) = LabelSelector::from_json(spec.at("selector"))
        && !selector.matches(labels.as_object().unwrap_or(&none))
    {
        let path = Path::new("spec.template.metadata.labels");
        errors.invalid(&path, labels, NO_MATCH);
    }
}

/// Checks the template of a workload whose pods run for ever, and that the selector finds them.
pub(crate) fn validate_pod_template(spec: &Value, kind: &str, errors: &mut Errors) {
    let path = Path::new("spec.template");
    let template = spec.at("template");
    validate_selector_matches(spec, errors);
    validate_template_spec(template, &path, errors);
    validate_template_life(template.at("spec"), kind, errors);
}

/// Checks a pod template by itself: its metadata and the spec of its pods.
pub fn validate_template_spec(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    // Upstream names the template's labels without `metadata`.
    validate_template(template.at("metadata"), path, errors);
    let spec = template.at("spec");
    let path = path.child("spec");
    pod::validate_spec(spec, &path, errors);
    if !spec.is_empty_at("ephemeralContainers") {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&path.child("ephemeralContainers"), detail);
    }
}

/// Pods of replicated workloads must be able to run for ever. `kind` is the workload's, for the message.
pub(crate) fn validate_template_life(pod_spec: &Value, kind: &str, errors: &mut Errors) {
    let path = Path::new("spec.template.spec");
    let policy = pod_spec.text("restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if pod_spec.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), detail);
    }
}

/// Checks the counts of pods in a status: none negative, none of `capped` above `replicas`, and no more available
/// than ready. `ready` is what the message calls the latter.
pub(crate) fn validate_counts(
    status: &Value,
    others: &[&str],
    capped: &[&str],
    ready: &str,
    errors: &mut Errors,
) {
    let path = Path::new("status");
    let count = |key: &str| status.int(key).unwrap_or(0);
    validate_non_negative(status, &path, others, errors);
    validate_non_negative(status, &path, capped, errors);
    for key in capped {
        if count(key) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.invalid(&path.child(key), count(key), detail);
        }
    }
    let available = count("availableReplicas");
    if available > count("readyReplicas") {
        let detail = format!("cannot be greater than {ready}");
        errors.invalid(&path.child("availableReplicas"), available, detail);
    }
}

/// Refuses negative numbers in the fields that are named.
pub(crate) fn validate_non_negative(
    object: &Value,
    path: &Path<'_>,
    keys: &[&str],
    errors: &mut Errors,
) {
    for key in keys {
        errors.non_negative(&path.child(key), object.int(key));
    }
}

/// Refuses a count of name collisions that shrinks: names would be given out twice.
pub(crate) fn validate_collisions(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |object: &Value| object.at("status").int("collisionCount");
    if let Some(before) = count(old)
        && count(new).is_none_or(|now| now < before)
    {
        let path = Path::new("status.collisionCount");
        errors.invalid(&path, count(new).unwrap_or(0), "cannot be decremented");
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

/// Whether a count is zero, as a number or as a percentage. What is neither counts as nothing.
pub(crate) fn is_zero(value: &Value) -> bool {
    let in_text = || value.as_str().and_then(|text| text.parse().ok());
    let amount = percent(value).or_else(|| value.as_i64()).or_else(in_text);
    amount.unwrap_or(0) == 0
}

/// What to tell whoever names a workload such that its pods' host names are no DNS labels.
pub(crate) fn pod_name_warning(object: &Value) -> Option<String> {
    let name = object.at("metadata").text("name");
    let faults = crate::names::dns1123_label(name);
    // A name that the server is to generate is not known yet.
    (!name.is_empty() && !faults.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            faults.join(" ")
        )
    })
}
