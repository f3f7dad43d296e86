//! Lists in strategic merge patches: items are found by the merge key, or by equality when they are scalars.
//!
//! Order: items the patch names stand in the patch's order, others keep their place before the named ones they stood before.
//! Invariant: no item of the target is lost unless a directive names it.

use serde_json::{Map, Value};

use super::{
    Known, PATCH, Rule, SET_ELEMENT_ORDER, malformed, merge_maps, unknown_directive,
    without_directives,
};
use crate::patch::PatchError;

/// Merges every list for which the patch holds a `$setElementOrder`, and takes both out of the patch.
pub(super) fn apply_orders(
    target: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    known: Known,
) -> Result<(), PatchError> {
    let orders: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ELEMENT_ORDER))
        .cloned()
        .collect();
    for directive in orders {
        let order = patch.shift_remove(&directive).unwrap_or_default();
        let name = &directive[SET_ELEMENT_ORDER.len()..];
        let rule = known.rule(name);
        if !rule.strategy.merge {
            continue;
        }
        let Value::Array(order) = order else {
            return Err(malformed("invalid patch format of setElementOrder list"));
        };
        let keyed = Keyed::of(rule, &order)?;
        order
            .iter()
            .try_for_each(|item| keyed.key(item).map(drop))?;
        let changes = match patch.get(name) {
            Some(Value::Array(_)) => match patch.shift_remove(name) {
                Some(Value::Array(changes)) => changes,
                _ => Vec::new(),
            },
            // Anything else, null for example, is for the map merge to handle.
            Some(_) => continue,
            None => Vec::new(),
        };
        check_order(&changes, &order, keyed, &directive)?;
        let old = match target.get_mut(name).map(Value::take) {
            Some(Value::Array(old)) => old,
            _ if changes.is_empty() => {
                target.shift_remove(name);
                continue;
            }
            _ => Vec::new(),
        };
        let merged = merge_items(&old, changes, rule, keyed)?;
        target.insert(
            name.to_owned(),
            Value::Array(in_order(merged, &order, &old, keyed)?),
        );
    }
    Ok(())
}

/// Merges two lists of the same field.
pub(super) fn merge(
    old: Vec<Value>,
    changes: Vec<Value>,
    rule: Rule,
) -> Result<Vec<Value>, PatchError> {
    let Some(first) = changes.first() else {
        return Ok(old);
    };
    let keyed = Keyed::of(rule, std::slice::from_ref(first))?;
    if replaces(&changes) {
        return Ok(changes
            .into_iter()
            .filter(|item| item.get(PATCH).is_none())
            .filter_map(without_directives)
            .collect());
    }
    let order: Vec<Value> = changes
        .iter()
        .filter(|item| item.get(PATCH).is_none())
        .cloned()
        .collect();
    let merged = merge_items(&old, changes, rule, keyed)?;
    in_order(merged, &order, &old, keyed)
}

fn replaces(changes: &[Value]) -> bool {
    changes
        .iter()
        .any(|item| item.get(PATCH).and_then(Value::as_str) == Some("replace"))
}

/// How items of a list are told apart.
#[derive(Clone, Copy)]
enum Keyed {
    By(&'static str),
    Scalar,
}

impl Keyed {
    fn of(rule: Rule, sample: &[Value]) -> Result<Self, PatchError> {
        if let Some(key) = rule.merge_key {
            return Ok(Keyed::By(key));
        }
        match sample.first() {
            Some(Value::Object(_)) => Err(malformed("cannot merge lists without merge key")),
            Some(Value::Array(_)) => Err(malformed("lists of lists are not supported")),
            _ => Ok(Keyed::Scalar),
        }
    }

    fn key(self, item: &Value) -> Result<&Value, PatchError> {
        match (self, item) {
            (Keyed::By(key), Value::Object(map)) => map.get(key).ok_or_else(|| {
                malformed(format!(
                    "map: {item} does not contain declared merge key: {key}"
                ))
            }),
            (Keyed::Scalar, Value::Object(_) | Value::Array(_)) | (Keyed::By(_), _) => Err(
                malformed(format!("list element types are not identical: {item}")),
            ),
            (Keyed::Scalar, item) => Ok(item),
        }
    }
}

/// Merges the changes into the old items; new ones go to the end.
fn merge_items(
    old: &[Value],
    changes: Vec<Value>,
    rule: Rule,
    keyed: Keyed,
) -> Result<Vec<Value>, PatchError> {
    let mut merged: Vec<Value> = Vec::with_capacity(old.len() + changes.len());
    for item in old {
        keyed.key(item)?;
        // Scalars are a set; items with equal keys may differ in the rest.
        if matches!(keyed, Keyed::By(_)) || !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    if replaces(&changes) {
        merged.clear();
    }
    for change in changes {
        let directive = change.get(PATCH).and_then(Value::as_str).map(str::to_owned);
        match directive.as_deref() {
            Some("replace") => continue,
            Some("delete") => {
                let key = keyed.key(&change)?;
                merged.retain(|item| keyed.key(item).ok() != Some(key));
                continue;
            }
            Some("merge") => {
                return Err(malformed(
                    "merging lists cannot yet be specified in the patch",
                ));
            }
            Some(other) => {
                let fields = change.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(&Value::from(other), &fields));
            }
            None => {}
        }
        let key = keyed.key(&change)?;
        let found = merged
            .iter()
            .position(|item| keyed.key(item).ok() == Some(key));
        match (found, change) {
            (Some(at), Value::Object(change)) => {
                let item = match merged[at].take() {
                    Value::Object(item) => item,
                    _ => Map::new(),
                };
                merged[at] = Value::Object(merge_maps(item, change, rule.known)?);
            }
            (Some(_), _) => {}
            (None, change) => merged.extend(without_directives(change)),
        }
    }
    Ok(merged)
}

/// The patch's items must stand in the order the patch demands.
fn check_order(
    changes: &[Value],
    order: &[Value],
    keyed: Keyed,
    directive: &str,
) -> Result<(), PatchError> {
    let mut rest = order.iter();
    for change in changes.iter().filter(|change| change.get(PATCH).is_none()) {
        let key = keyed.key(change)?;
        if !rest.any(|item| keyed.key(item).ok() == Some(key)) {
            let (changes, order) = (Value::from(changes.to_vec()), Value::from(order.to_vec()));
            let name = directive
                .trim_end_matches(|c| c != '/')
                .trim_end_matches('/');
            return Err(malformed(format!(
                "The order in patch list:\n{changes}\n doesn't match {name} list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// Puts the items named in `order` into its order, and the others among them as they stood in `old`.
fn in_order(
    merged: Vec<Value>,
    order: &[Value],
    old: &[Value],
    keyed: Keyed,
) -> Result<Vec<Value>, PatchError> {
    let place = |list: &[Value], item: &Value| {
        let key = keyed.key(item).ok();
        list.iter().position(|other| keyed.key(other).ok() == key)
    };
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        match place(order, &item) {
            Some(at) => named.push((at, item)),
            None => others.push((place(old, &item).unwrap_or(usize::MAX), item)),
        }
    }
    named.sort_by_key(|(at, _)| *at);
    others.sort_by_key(|(at, _)| *at);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, item) in named {
        if let Some(old_place) = place(old, &item) {
            while let Some((_, other)) = others.next_if(|(at, _)| *at < old_place) {
                out.push(other);
            }
        }
        out.push(item);
    }
    out.extend(others.map(|(_, item)| item));
    Ok(out)
}
