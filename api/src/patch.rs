//! The three languages of patches: JSON patch (RFC 6902), merge patch (RFC 7396) and strategic merge patch.
//!
//! They are functions from a tree and a patch to a tree; the result is not checked here, the caller hands it to
//! `decode::check`. Server-side apply is not a patch in this sense and has no place here. Invariant: the work and the result
//! are bounded by the sizes of tree and patch, whatever the patch says.

use serde_json::{Map, Value};

use crate::decode::{self, Encoding};
use crate::meta::GroupVersionKind;
use crate::schema;
use crate::status::{Reason, Status};

mod json;
mod strategic;
#[cfg(test)]
mod tests;

/// Why a patch has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object.
    #[error("{0}")]
    DoesNotApply(String),
    /// The patch asks for too much.
    #[error("{0}")]
    TooLarge(String),
    /// The kind has no schema, so lists cannot be merged by it.
    #[error("strategic merge patch format is not supported")]
    Unsupported,
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(message) => Status::bad_request(message),
            PatchError::DoesNotApply(message) => Status::failure(
                Reason::Invalid,
                format!(
                    "the server rejected our request due to an error in our request: {message}"
                ),
            ),
            PatchError::TooLarge(message) => Status::request_too_large(&message),
            PatchError::Unsupported => Status::unsupported_media_type([
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ]),
        }
    }
}

/// Reads the bytes of a patch. Some clients send YAML, which JSON is a part of.
pub fn parse(bytes: &[u8], encoding: Encoding) -> Result<Value, Status> {
    decode::parse(bytes, encoding)
        .map_err(|status| Status::bad_request(format!("error decoding patch: {}", status.message)))
}

/// Applies a list of operations; all of them, or none.
pub fn json_patch(target: &Value, patch: &Value) -> Result<Value, PatchError> {
    json::apply(target, patch)
}

/// Lays the patch over the object: maps merge, null removes, everything else replaces.
pub fn merge_patch(target: &Value, patch: &Value) -> Result<Value, PatchError> {
    let patch = object(patch)?;
    let mut target = target.clone();
    merge(&mut target, patch);
    Ok(target)
}

/// Merges with the schema's knowledge of lists, and with the directives `$patch`, `$retainKeys`, `$setElementOrder` and
/// `$deleteFromPrimitiveList`.
pub fn strategic_merge_patch(
    gvk: &GroupVersionKind,
    target: &Value,
    patch: &Value,
) -> Result<Value, PatchError> {
    let ty = schema::lookup(gvk).ok_or(PatchError::Unsupported)?;
    strategic::apply(ty, target.clone(), object(patch)?.clone())
}

fn object(patch: &Value) -> Result<&Map<String, Value>, PatchError> {
    let found = match patch {
        Value::Object(patch) => return Ok(patch),
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    let message = format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
    );
    Err(PatchError::Malformed(message))
}

fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().expect("it was just made an object");
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.shift_remove(key);
            }
            Value::Object(value) => merge(target.entry(key.as_str()).or_insert(Value::Null), value),
            value => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}
