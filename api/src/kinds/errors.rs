//! Collecting what is wrong with an object, and paths that cost nothing until something is.
//!
//! A valid object is the common case, so a [`Path`] is a chain of borrowed segments on the stack; only an error
//! turns it into a `FieldPath`.

use serde_json::Value;

use crate::field::{ErrorKind, FieldError, FieldPath};

/// Where in an object something is, as a chain to its parent.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself.
    pub const ROOT: Path<'static> = Path {
        parent: None,
        segment: Segment::Root,
    };

    /// A first field, or several joined by dots.
    pub const fn new(name: &'a str) -> Self {
        Self {
            parent: None,
            segment: Segment::Child(name),
        }
    }

    /// A field of what is here.
    pub fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path {
            parent: Some(self),
            segment: Segment::Child(name),
        }
    }

    /// An item of the list that is here.
    pub fn index(&self, index: usize) -> Path<'_> {
        Path {
            parent: Some(self),
            segment: Segment::Index(index),
        }
    }

    /// An entry of the map that is here.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path {
            parent: Some(self),
            segment: Segment::Key(key),
        }
    }

    /// The path that errors carry.
    pub fn to_field_path(&self) -> FieldPath {
        let above = self
            .parent
            .map_or_else(FieldPath::root, Path::to_field_path);
        match self.segment {
            Segment::Root => above,
            Segment::Child(name) => above.child(name),
            Segment::Index(index) => above.index(index),
            Segment::Key(key) => above.key(key),
        }
    }
}

/// The errors found so far, in order.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// No errors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The errors found.
    pub fn finish(self) -> Vec<FieldError> {
        self.0
    }

    /// How many were found.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one found elsewhere.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// A value is missing.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.0
            .push(FieldError::required(&path.to_field_path(), detail));
    }

    /// A value is malformed.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl IntoValue, detail: impl Into<String>) {
        self.0.push(FieldError::invalid(
            &path.to_field_path(),
            value.into_value(),
            detail,
        ));
    }

    /// Something is malformed, but showing it would not tell where.
    pub fn invalid_unshown(&mut self, path: &Path<'_>, detail: &str) {
        self.0.push(FieldError {
            kind: ErrorKind::Invalid,
            path: path.to_field_path(),
            value: None,
            detail: detail.to_owned(),
        });
    }

    /// One error for each thing that is wrong with a value.
    pub fn invalid_each(&mut self, path: &Path<'_>, value: &str, details: Vec<String>) {
        for detail in details {
            self.invalid(path, value, detail);
        }
    }

    /// The same for numbers.
    pub fn invalid_each_of(&mut self, path: &Path<'_>, value: i64, details: Vec<String>) {
        for detail in details {
            self.invalid(path, value, detail);
        }
    }

    /// A value is not one of those listed.
    pub fn not_supported(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        self.0.push(FieldError::not_supported(
            &path.to_field_path(),
            value,
            supported,
        ));
    }

    /// A value stands there twice.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl IntoValue) {
        self.0.push(FieldError::duplicate(
            &path.to_field_path(),
            value.into_value(),
        ));
    }

    /// A value is not allowed here.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.0
            .push(FieldError::forbidden(&path.to_field_path(), detail));
    }

    /// What a value refers to does not exist.
    pub fn not_found(&mut self, path: &Path<'_>, value: impl IntoValue) {
        self.0.push(FieldError::not_found(
            &path.to_field_path(),
            value.into_value(),
        ));
    }

    /// A value has more bytes than allowed.
    pub fn too_long(&mut self, path: &Path<'_>, max_bytes: usize) {
        self.0
            .push(FieldError::too_long(&path.to_field_path(), max_bytes));
    }

    /// A list has more items than allowed.
    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, max_items: usize) {
        self.0.push(FieldError::too_many(
            &path.to_field_path(),
            actual,
            max_items,
        ));
    }

    /// Refuses a text that is not one of those listed; an empty one is missing.
    pub fn one_of(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    /// Refuses negative numbers.
    pub fn non_negative(&mut self, path: &Path<'_>, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value < 0) {
            self.invalid(path, value, NOT_NEGATIVE);
        }
    }
}

/// Upstream's words for a number that must not be negative.
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// What can be shown as the offending value of an error.
pub trait IntoValue {
    /// The value as JSON.
    fn into_value(self) -> Value;
}

impl IntoValue for &Value {
    fn into_value(self) -> Value {
        self.clone()
    }
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::from(self)
    }
}

impl IntoValue for String {
    fn into_value(self) -> Value {
        Value::from(self)
    }
}

impl IntoValue for i64 {
    fn into_value(self) -> Value {
        Value::from(self)
    }
}

impl IntoValue for bool {
    fn into_value(self) -> Value {
        Value::from(self)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What tests of kinds share.

    use serde_json::Value;

    use super::super::Strategy;

    /// What creating the object (with defaults) reports, one text an error.
    pub(crate) fn create(strategy: &dyn Strategy, mut object: Value) -> Vec<String> {
        strategy.default(&mut object);
        strategy.prepare_for_create(&mut object);
        strategy
            .validate_create(&object)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// What updating `old` to `new` reports.
    pub(crate) fn update(strategy: &dyn Strategy, mut new: Value, mut old: Value) -> Vec<String> {
        strategy.default(&mut old);
        strategy.default(&mut new);
        strategy.prepare_for_update(&mut new, &old);
        strategy
            .validate_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// The object with a change: the JSON at `pointer` replaced, or removed when `value` is null.
    pub(crate) fn with(mut object: Value, pointer: &str, value: Value) -> Value {
        let (parent, last) = pointer
            .rsplit_once('/')
            .expect("pointers begin with a slash");
        let parent = object.pointer_mut(parent).expect("the parent exists");
        match (parent, value) {
            (Value::Object(map), Value::Null) => {
                map.shift_remove(last);
            }
            (Value::Object(map), value) => {
                map.insert(last.to_owned(), value);
            }
            (Value::Array(items), value) => match last.parse::<usize>() {
                Ok(index) if index < items.len() => items[index] = value,
                _ => items.push(value),
            },
            _ => panic!("{pointer} has no place"),
        }
        object
    }
}
