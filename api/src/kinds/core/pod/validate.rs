//! What a pod must look like.

use serde_json::Value;

use crate::kinds::{Errors, Path};

/// Checks the spec of a pod or of a template.
pub fn validate_spec(_spec: &Value, _path: &Path<'_>, _errors: &mut Errors) {}

pub(super) fn mirror_pod(_pod: &Value, _errors: &mut Errors) {}

pub(crate) fn validate_taint_effect(
    effect: &str,
    empty_ok: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if effect.is_empty() && !empty_ok {
        errors.required(path, "");
    } else if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        errors.not_supported(
            path,
            effect,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
    }
}
