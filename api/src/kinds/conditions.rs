//! Conditions as most kinds have them: type, status, reason, message and the time of the last change.

use serde_json::Value;

use super::value::Get;
use super::{Errors, Path, names};
use crate::names::condition_reason;

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Checks a list of conditions: each whole, none twice.
pub(crate) fn validate_conditions(conditions: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        let kind = condition.text("type");
        if conditions[..i].iter().any(|c| c.text("type") == kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        validate_condition(condition, &at, errors);
    }
}

fn validate_condition(condition: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = condition.text("type");
    errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
    let statuses = ["False", "True", "Unknown"];
    let status = condition.text("status");
    if !statuses.contains(&status) {
        errors.not_supported(&path.child("status"), status, &statuses);
    }
    if let Some(generation) = condition.int("observedGeneration").filter(|g| *g < 0) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("observedGeneration"), generation, detail);
    }
    if condition.is_empty_at("lastTransitionTime") {
        errors.required(&path.child("lastTransitionTime"), "");
    }
    let at = path.child("reason");
    match condition.text("reason") {
        "" => errors.required(&at, ""),
        reason => {
            errors.invalid_each(&at, reason, condition_reason(reason));
            if reason.len() > REASON_BYTES_MAX {
                errors.too_long(&at, REASON_BYTES_MAX);
            }
        }
    }
    if condition.text("message").len() > MESSAGE_BYTES_MAX {
        errors.too_long(&path.child("message"), MESSAGE_BYTES_MAX);
    }
}
