//! Paths into objects and the errors validation reports about them, with the texts upstream's clients know.
//! It is not validation itself. Invariant: an error prints as `path: kind: value: detail`, each part only when present.

use std::fmt;

use serde_json::Value;

use crate::quote::{quote, quote_list};

/// Where in an object something is: `spec.containers[0].ports[name]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FieldPath(String);

impl FieldPath {
    /// The path of a first field, such as `spec`.
    pub fn new(root: impl Into<String>) -> Self {
        FieldPath(root.into())
    }

    /// The empty path: the object itself.
    pub fn root() -> Self {
        FieldPath(String::new())
    }

    /// The field `name` below this path.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return FieldPath(name.to_owned());
        }
        let mut path = String::with_capacity(self.0.len() + name.len() + 1);
        path.push_str(&self.0);
        path.push('.');
        path.push_str(name);
        FieldPath(path)
    }

    /// The item at `index` of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        FieldPath(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        FieldPath(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Upstream prints a missing path as <nil>.
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

impl From<&str> for FieldPath {
    fn from(path: &str) -> Self {
        FieldPath(path.to_owned())
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Something the field refers to does not exist.
    NotFound,
    /// The field must have a value.
    Required,
    /// The value is already used and must be unique.
    Duplicate,
    /// The value is malformed.
    Invalid,
    /// The value is not one of a known set.
    NotSupported,
    /// The value is well formed, but not allowed here.
    Forbidden,
    /// The value is too long.
    TooLong,
    /// There are too many items.
    TooMany,
    /// Something broke while checking.
    Internal,
    /// The value has a wrong type.
    TypeInvalid,
}

impl ErrorKind {
    /// The text that people read.
    pub fn text(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::Internal => "Internal error",
        }
    }

    /// The cause type in a Status, which programs read.
    pub fn cause(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::Internal => "InternalError",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where.
    pub path: FieldPath,
    /// The offending value, where showing it helps.
    pub value: Option<Value>,
    /// Why, in words.
    pub detail: String,
}

impl FieldError {
    fn build(
        kind: ErrorKind,
        path: &FieldPath,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        FieldError {
            kind,
            path: path.clone(),
            value,
            detail: detail.into(),
        }
    }

    /// The field must have a value.
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Required, path, None, detail)
    }

    /// The value is malformed.
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// The value has a wrong type.
    pub fn type_invalid(
        path: &FieldPath,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::build(ErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// The value is not one of `supported`, which are listed in the order given.
    pub fn not_supported<S: AsRef<str>>(
        path: &FieldPath,
        value: impl Into<Value>,
        supported: impl IntoIterator<Item = S>,
    ) -> Self {
        let listed = quote_list(supported);
        let detail = if listed.is_empty() {
            listed
        } else {
            format!("supported values: {listed}")
        };
        Self::build(ErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// The value is not allowed here.
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Forbidden, path, None, detail)
    }

    /// The value is already used and must be unique.
    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::build(ErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// What the value refers to does not exist.
    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::build(ErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// The value has more than `max_bytes` bytes.
    pub fn too_long(path: &FieldPath, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::build(
            ErrorKind::TooLong,
            path,
            None,
            format!("may not be more than {max_bytes} {unit}"),
        )
    }

    /// The list or map has `actual` items, more than `max_items`.
    pub fn too_many(path: &FieldPath, actual: usize, max_items: usize) -> Self {
        let unit = if max_items == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max_items} {unit}");
        Self::build(ErrorKind::TooMany, path, Some(Value::from(actual)), detail)
    }

    /// Something broke while checking the field.
    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Internal, path, None, detail)
    }

    /// The error without its path: the message of a Status cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            match value {
                Value::String(value) => text.push_str(&quote(value)),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl std::error::Error for FieldError {}

/// All errors in one text: one stands alone, several stand in brackets, equal ones are told once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut messages: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.len() {
        1 => messages.remove(0),
        _ => format!("[{}]", messages.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_read_as_upstreams_do() {
        let path = FieldPath::new("spec").child("ports").index(1).child("port");
        let cases = [
            (
                FieldError::required(&path, ""),
                "spec.ports[1].port: Required value",
            ),
            (
                FieldError::invalid(&path, 0, "too small"),
                "spec.ports[1].port: Invalid value: 0: too small",
            ),
            (
                FieldError::invalid(&path, "x", ""),
                "spec.ports[1].port: Invalid value: \"x\"",
            ),
            (
                FieldError::invalid(&path, json!({"a": [1]}), "bad"),
                "spec.ports[1].port: Invalid value: {\"a\":[1]}: bad",
            ),
            (
                FieldError::not_supported(&path, "x", ["A", "B"]),
                "spec.ports[1].port: Unsupported value: \"x\": supported values: \"A\", \"B\"",
            ),
            (
                FieldError::forbidden(&path, "no"),
                "spec.ports[1].port: Forbidden: no",
            ),
            (
                FieldError::duplicate(&path, 80),
                "spec.ports[1].port: Duplicate value: 80",
            ),
            (
                FieldError::not_found(&path, "x"),
                "spec.ports[1].port: Not found: \"x\"",
            ),
            (
                FieldError::too_long(&path, 63),
                "spec.ports[1].port: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&path, 3, 1),
                "spec.ports[1].port: Too many: 3: must have at most 1 item",
            ),
        ];
        for (error, want) in cases {
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn paths_and_aggregates() {
        assert_eq!(
            FieldPath::root().child("a").key("k/x").to_string(),
            "a[k/x]"
        );
        assert_eq!(FieldPath::root().to_string(), "<nil>");
        let error = FieldError::required(&FieldPath::new("a"), "");
        let other = FieldError::required(&FieldPath::new("b"), "");
        assert_eq!(
            aggregate(&[error.clone(), error.clone()]),
            "a: Required value"
        );
        assert_eq!(
            aggregate(&[error, other]),
            "[a: Required value, b: Required value]"
        );
    }
}
