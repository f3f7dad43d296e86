//! What the controller that checks types may write.

use serde_json::Value;

use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};
use crate::names::condition_reason;

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Checks the status of a policy.
pub(super) fn validate_status(status: &Value, errors: &mut Errors) {
    let path = Path::new("status.typeChecking.expressionWarnings");
    let warnings = status.at("typeChecking").list("expressionWarnings");
    for (i, warning) in warnings.iter().enumerate() {
        for key in ["warning", "fieldRef"] {
            if warning.text(key).trim().is_empty() {
                errors.required(&path.index(i).child(key), "");
            }
        }
    }
    let path = Path::new("status.conditions");
    let conditions = status.list("conditions");
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
