//! What an update of a pod may change.

use serde_json::Value;

use crate::kinds::Errors;

pub(super) fn validate(_new: &Value, _old: &Value, _errors: &mut Errors) {}
pub(super) fn validate_status(_new: &Value, _old: &Value, _errors: &mut Errors) {}
pub(super) fn validate_ephemeral(_new: &Value, _old: &Value, _errors: &mut Errors) {}
