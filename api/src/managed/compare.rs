//! What differs between two states of an object, field by field.
//!
//! Invariant: a path is in at most one of the three sets.

use serde_json::{Map, Value};

use super::set::{Element, Set};
use super::walk::{View, is_leaf};
use crate::schema::Type;

/// The differences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

/// What became of one field itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Same,
    Added,
    Modified,
    Removed,
}

impl Changes {
    fn put(&mut self, element: &Element, mark: Mark, below: Self) {
        let parts = [
            (&mut self.added, Mark::Added, below.added),
            (&mut self.modified, Mark::Modified, below.modified),
            (&mut self.removed, Mark::Removed, below.removed),
        ];
        for (set, own, below) in parts {
            set.put(element.clone(), mark == own, below);
        }
    }
}

/// Compares two objects of a kind.
pub(super) fn compare(ty: &'static Type, old: &Value, new: &Value) -> Changes {
    between(View::of_type(ty), Some(old), Some(new)).1
}

fn between(view: View, old: Option<&Value>, new: Option<&Value>) -> (Mark, Changes) {
    let nothing = Changes::default();
    if let (Some(old), Some(new)) = (old, new)
        && old == new
    {
        return (Mark::Same, nothing);
    }
    let leaf = old.into_iter().chain(new).any(|value| is_leaf(view, value));
    if leaf || (is_bare(old) && is_bare(new)) {
        let mark = match (old, new) {
            (None, None) => Mark::Same,
            (None, Some(_)) => Mark::Added,
            (Some(_), None) => Mark::Removed,
            (Some(_), Some(_)) => Mark::Modified,
        };
        return (mark, nothing);
    }
    let changes = if view.is_list() {
        items(view, list(old), list(new))
    } else {
        keys(
            view,
            old.and_then(Value::as_object),
            new.and_then(Value::as_object),
        )
    };
    // A struct lives through its fields; keys of maps, and items, are there or not by themselves.
    let own = !matches!(view, View::Struct(_));
    let mark = match (old, new) {
        (None, Some(_)) if own => Mark::Added,
        (Some(_), None) => Mark::Removed,
        _ => Mark::Same,
    };
    (mark, changes)
}

fn is_bare(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn keys(view: View, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) -> Changes {
    let mut changes = Changes::default();
    let of = |map: Option<&'_ Map<String, Value>>, name: &str| {
        map.and_then(|map| map.get(name)).is_some()
    };
    let gone = old
        .into_iter()
        .flatten()
        .filter(|(name, _)| !of(new, name))
        .map(|(name, value)| (name, Some(value), None));
    let here = new
        .into_iter()
        .flatten()
        .map(|(name, value)| (name, old.and_then(|old| old.get(name)), Some(value)));
    for (name, old, new) in gone.chain(here) {
        let child = view.child(name);
        let (mut mark, below) = between(child, old, new);
        let holds = new.is_some_and(|new| !is_leaf(child, new) && !is_bare(Some(new)));
        if mark == Mark::Added && holds && view.requires(name) {
            // What every object has is nobody's merit; what is in it is.
            mark = Mark::Same;
        }
        changes.put(&Element::Field(name.clone()), mark, below);
    }
    changes
}

fn items(view: View, old: &[Value], new: &[Value]) -> Changes {
    let indexed = |items: &'_ [Value]| -> Vec<Option<Element>> {
        items.iter().map(|item| view.element(item)).collect()
    };
    let (old_elements, new_elements) = (indexed(old), indexed(new));
    let mut changes = Changes::default();
    let find = |elements: &[Option<Element>], element: &Element| {
        elements
            .iter()
            .position(|other| other.as_ref() == Some(element))
    };
    for (item, element) in old.iter().zip(&old_elements) {
        let Some(element) = element else { continue };
        if find(&new_elements, element).is_none() {
            let (_, below) = between(view.item(), Some(item), None);
            changes.put(element, Mark::Removed, below);
        }
    }
    for (item, element) in new.iter().zip(&new_elements) {
        let Some(element) = element else { continue };
        let before = find(&old_elements, element).map(|at| &old[at]);
        let (mark, below) = between(view.item(), before, Some(item));
        // An item is there or not, whatever its type says of itself.
        let mark = if before.is_none() { Mark::Added } else { mark };
        changes.put(element, mark, below);
    }
    changes
}
