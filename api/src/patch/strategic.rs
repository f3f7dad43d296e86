//! Strategic merge: maps merge key by key, lists as the schema says. Lists are in `lists`.
//!
//! Directives are keys that start with `$`; they steer the merge and never reach the result. Invariant: recursion is as deep as
//! the patch, whose depth the decoder has bounded.

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Shape, Strategy, Type};

mod lists;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// What is known of a map's fields.
#[derive(Clone, Copy)]
enum Known {
    Fields(&'static Type),
    Values(&'static Shape),
    Nothing,
}

/// What is known of one field.
#[derive(Clone, Copy)]
struct Rule {
    known: Known,
    strategy: Strategy,
    merge_key: Option<&'static str>,
}

impl Known {
    fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Object(id) => Known::Fields(id.get()),
            Shape::Map(item) => Known::Values(item),
            Shape::List(item) => Known::of(item),
            _ => Known::Nothing,
        }
    }

    fn rule(self, key: &str) -> Rule {
        let (known, strategy, merge_key) = match self {
            Known::Fields(ty) => match ty.field(key) {
                Some(field) => (Known::of(&field.shape), field.strategy, field.merge_key),
                None => (Known::Nothing, Strategy::default(), None),
            },
            Known::Values(shape) => (Known::of(shape), Strategy::default(), None),
            Known::Nothing => (Known::Nothing, Strategy::default(), None),
        };
        Rule {
            known,
            strategy,
            merge_key,
        }
    }
}

pub(super) fn apply(
    ty: &'static Type,
    target: Value,
    patch: Map<String, Value>,
) -> Result<Value, PatchError> {
    let target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    merge_maps(target, patch, Known::Fields(ty)).map(Value::Object)
}

fn malformed(message: impl Into<String>) -> PatchError {
    PatchError::Malformed(message.into())
}

fn merge_maps(
    mut target: Map<String, Value>,
    mut patch: Map<String, Value>,
    known: Known,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.shift_remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(&directive, &patch)),
        };
    }
    if let Some(keys) = patch.shift_remove(RETAIN_KEYS) {
        retain_keys(&mut target, &patch, &keys)?;
    }
    lists::apply_orders(&mut target, &mut patch, known)?;
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_FROM_PRIMITIVES) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(name), &value)
            {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if value.is_null() {
            target.shift_remove(&key);
            continue;
        }
        merge_field(&mut target, key, value, known)?;
    }
    Ok(target)
}

fn merge_field(
    target: &mut Map<String, Value>,
    key: String,
    value: Value,
    known: Known,
) -> Result<(), PatchError> {
    let rule = known.rule(&key);
    let merged = match (target.get_mut(&key).map(Value::take), value) {
        (Some(Value::Object(old)), Value::Object(new)) if !rule.strategy.replace => {
            Some(Value::Object(merge_maps(old, new, rule.known)?))
        }
        (Some(Value::Array(old)), Value::Array(new)) if rule.strategy.merge => {
            Some(Value::Array(lists::merge(old, new, rule)?))
        }
        (_, new) => without_directives(new),
    };
    match merged {
        Some(merged) => {
            target.insert(key, merged);
        }
        None => {
            target.shift_remove(&key);
        }
    }
    Ok(())
}

/// A value that comes new: its nulls and directives have nothing to act on. A map with `$patch` is not there at all.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, value)| {
                let directive = key == RETAIN_KEYS
                    || key.starts_with(SET_ELEMENT_ORDER)
                    || key.starts_with(DELETE_FROM_PRIMITIVES);
                !directive && !value.is_null()
            });
            Some(
                kept.filter_map(|(key, value)| Some((key, without_directives(value)?)))
                    .collect(),
            )
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        value => Some(value),
    }
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> PatchError {
    let directive = directive
        .as_str()
        .map_or_else(|| directive.to_string(), str::to_owned);
    let keys: Vec<&str> = patch.keys().map(String::as_str).collect();
    malformed(format!(
        "unknown patch type: {directive} in map with keys: [{}]",
        keys.join(" ")
    ))
}

/// Only the listed keys stay in the target, and the patch may set no others.
fn retain_keys(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<(), PatchError> {
    let wrong = || malformed("invalid patch format of retainKeys");
    let keys: Vec<&str> = keys
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let foreign = |key: &String| !key.starts_with('$') && !keys.contains(&key.as_str());
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && foreign(key))
    {
        return Err(wrong());
    }
    target.retain(|key, _| keys.contains(&key.as_str()));
    Ok(())
}
