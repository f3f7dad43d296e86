//! Reading and filling in `serde_json::Value` objects without ceremony.
//!
//! Absent, null and wrongly typed all read as empty: the structural decoder has refused wrong types before, and
//! code here must not panic on what slips through.

use serde_json::{Map, Value};

/// What absent fields read as.
pub(crate) static NULL: Value = Value::Null;

/// Field access by key.
pub(crate) trait Get {
    /// The field, or null.
    fn at(&self, key: &str) -> &Value;

    /// The field if present and not null.
    fn opt(&self, key: &str) -> Option<&Value> {
        match self.at(key) {
            Value::Null => None,
            value => Some(value),
        }
    }

    /// Whether the field is present and not null.
    fn has(&self, key: &str) -> bool {
        !self.at(key).is_null()
    }

    /// A text field; empty when absent.
    fn text(&self, key: &str) -> &str {
        self.at(key).as_str().unwrap_or("")
    }

    /// A text field that is present.
    fn opt_text(&self, key: &str) -> Option<&str> {
        self.at(key).as_str()
    }

    /// An integer field.
    fn int(&self, key: &str) -> Option<i64> {
        self.at(key).as_i64()
    }

    /// A boolean field; false when absent.
    fn flag(&self, key: &str) -> bool {
        self.at(key).as_bool().unwrap_or(false)
    }

    /// A list field; empty when absent.
    fn list(&self, key: &str) -> &[Value] {
        self.at(key).as_array().map_or(&[], Vec::as_slice)
    }

    /// The entries of a map field.
    fn entries<'a>(&'a self, key: &str) -> Box<dyn Iterator<Item = (&'a str, &'a Value)> + 'a> {
        match self.at(key).as_object() {
            Some(map) => Box::new(map.iter().map(|(k, v)| (k.as_str(), v))),
            None => Box::new(std::iter::empty()),
        }
    }

    /// Whether a list, map or text field is absent or empty.
    fn is_empty_at(&self, key: &str) -> bool {
        match self.at(key) {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        }
    }
}

impl Get for Value {
    fn at(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
}

impl Get for Map<String, Value> {
    fn at(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
}

/// Sets `key` when it is absent, null, or an empty text.
pub(crate) fn default_to(object: &mut Value, key: &str, value: impl Into<Value>) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match map.get_mut(key) {
        None => {
            map.insert(key.to_owned(), value.into());
        }
        Some(slot) if slot.is_null() || slot.as_str() == Some("") => *slot = value.into(),
        Some(_) => {}
    }
}

/// Sets `key` when it is absent or null; an empty text was said on purpose.
pub(crate) fn default_absent(object: &mut Value, key: &str, value: impl Into<Value>) {
    if !object.has(key) {
        set(object, key, value);
    }
}

/// Sets `key` whatever was there; does nothing to what is not an object.
pub(crate) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes `key`, keeping the order of the others.
pub(crate) fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.as_object_mut()?.shift_remove(key)
}

/// Makes `key` of `new` what it is in `old`, absence included.
pub(crate) fn keep(new: &mut Value, old: &Value, key: &str) {
    match old.opt(key) {
        Some(value) => set(new, key, value.clone()),
        None => {
            remove(new, key);
        }
    }
}

/// The object at `key`, made when absent. `None` when `object` or the field is something else.
pub(crate) fn object_at<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let slot = object
        .as_object_mut()?
        .entry(key.to_owned())
        .or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.is_object().then_some(slot)
}

/// The items of a list field, to change them; none when absent.
pub(crate) fn items_at<'a>(object: &'a mut Value, key: &str) -> std::slice::IterMut<'a, Value> {
    match object.get_mut(key).and_then(Value::as_array_mut) {
        Some(items) => items.iter_mut(),
        None => [].iter_mut(),
    }
}

/// Compares ignoring the difference between absent, null, and empty lists, maps and texts, as the typed
/// comparison of two decoded objects would.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(k, v)| same(v, b.get(k).unwrap_or(&NULL)))
                && b.iter().all(|(k, v)| a.contains_key(k) || blank(v))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) if blank(a) && blank(b) => true,
        (a, b) => a == b,
    }
}

/// The paths below `root` that differ, one a line, with both values.
pub(crate) fn differences(root: &str, new: &Value, old: &Value) -> String {
    let mut lines = Vec::new();
    collect(root, new, old, &mut lines);
    lines.join("\n")
}

fn collect(path: &str, new: &Value, old: &Value, lines: &mut Vec<String>) {
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                collect(&format!("{path}.{key}"), value, old.at(key), lines);
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                collect(&format!("{path}.{key}"), &Value::Null, value, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (new, old)) in a.iter().zip(b).enumerate() {
                collect(&format!("{path}[{i}]"), new, old, lines);
            }
        }
        (new, old) if !same(new, old) => lines.push(format!("{path}: from {old} to {new}")),
        _ => {}
    }
}

fn blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn same_ignores_absence_of_empty_things() {
        assert!(same(&json!({"a": 1, "b": []}), &json!({"a": 1})));
        assert!(same(&json!({"a": 1}), &json!({"a": 1, "c": null, "d": {}})));
        assert!(!same(&json!({"a": 1}), &json!({"a": 1, "c": 0})));
        assert!(!same(&json!({"a": [1]}), &json!({"a": []})));
    }

    #[test]
    fn default_to_fills_only_what_is_missing() {
        let mut value = json!({"a": "x", "b": "", "c": null, "e": 0});
        for key in ["a", "b", "c", "d", "e"] {
            default_to(&mut value, key, "y");
        }
        assert_eq!(
            value,
            json!({"a": "x", "b": "y", "c": "y", "e": 0, "d": "y"})
        );
    }
}
