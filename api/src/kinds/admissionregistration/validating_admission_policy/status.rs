//! What the controller that checks types may write.

use serde_json::Value;

use crate::kinds::conditions::validate_conditions;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path};

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
    validate_conditions(status.list("conditions"), &path, errors);
}
