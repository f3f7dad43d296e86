//! Match conditions: expressions that decide whether a request is looked at. Whether they compile is not checked here:
//! that needs an evaluator of CEL, which belongs to the admission that will run them.

use serde_json::Value;

use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

/// Conditions of one webhook or policy.
const CONDITIONS_MAX: usize = 64;

/// Checks the conditions of a webhook or a policy.
pub(super) fn validate_match_conditions(
    conditions: &[Value],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(path, conditions.len(), CONDITIONS_MAX);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        if condition.text("expression").trim().is_empty() {
            errors.required(&at.child("expression"), "");
        }
        let name = condition.text("name");
        let at = at.child("name");
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        errors.invalid_each(&at, name, names::qualified_name(name));
        if seen.contains(&name) {
            errors.duplicate(&at, name);
        }
        seen.push(name);
    }
}
