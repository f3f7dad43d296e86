//! Objects seen as fields: how each value merges, what set of fields an object has, and an object without some fields.
//!
//! Invariant: all walks agree on what a leaf is, and how items of lists are told apart.

use serde_json::{Map, Value};

use super::set::{Element, Set, canonical};
use crate::schema::{Field, ListKind, Shape, Type};

/// How a value merges.
#[derive(Clone, Copy, Debug)]
pub(super) enum View {
    /// As one.
    Leaf,
    /// Field by field.
    Struct(&'static Type),
    /// Key by key.
    Map(&'static Shape),
    /// Item by item, found by these fields.
    Keyed(&'static [&'static str], &'static Type),
    /// Item by item, found by value.
    Values,
}

impl View {
    /// Of an object of this type.
    pub(super) fn of_type(ty: &'static Type) -> Self {
        if ty.atomic || ty.fields().is_empty() {
            Self::Leaf
        } else {
            Self::Struct(ty)
        }
    }

    fn of_shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Object(id) => Self::of_type(id.get()),
            Shape::Map(item) => Self::Map(item),
            _ => Self::Leaf,
        }
    }

    fn of_field(field: &'static Field) -> Self {
        if field.atomic {
            return Self::Leaf;
        }
        match (&field.shape, &field.list) {
            (Shape::List(item), ListKind::Map(keys)) if !keys.is_empty() => match &**item {
                Shape::Object(id) => Self::Keyed(keys, id.get()),
                _ => Self::Leaf,
            },
            (Shape::List(_), ListKind::Set) => Self::Values,
            (Shape::List(_), _) => Self::Leaf,
            (shape, _) => Self::of_shape(shape),
        }
    }

    /// Of a field or key below it.
    pub(super) fn child(self, name: &str) -> Self {
        match self {
            Self::Struct(ty) => ty.field(name).map_or(Self::Leaf, Self::of_field),
            Self::Map(shape) => Self::of_shape(shape),
            Self::Leaf | Self::Keyed(..) | Self::Values => Self::Leaf,
        }
    }

    /// Whether every object has this field.
    pub(super) fn requires(self, name: &str) -> bool {
        match self {
            Self::Struct(ty) => ty.field(name).is_some_and(|field| field.required),
            _ => false,
        }
    }

    /// Of an item below it.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Keyed(_, ty) => Self::of_type(ty),
            _ => Self::Leaf,
        }
    }

    /// How an item of the list is told apart; `None` when it lacks what identifies it.
    pub(super) fn element(self, item: &Value) -> Option<Element> {
        match self {
            Self::Keyed(keys, ty) => {
                let map = item.as_object()?;
                let mut parts = Map::new();
                for key in keys {
                    let value = map.get(*key).cloned().or_else(|| default_of(ty, key))?;
                    parts.insert((*key).to_owned(), value);
                }
                Some(Element::Key(canonical(Value::Object(parts))))
            }
            Self::Values => Some(Element::Value(canonical(item.clone()))),
            _ => None,
        }
    }

    /// Whether it is a list that merges.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::Keyed(..) | Self::Values)
    }
}

fn default_of(ty: &'static Type, key: &str) -> Option<Value> {
    let default = ty.field(key)?.default?;
    serde_json::from_str(default).ok()
}

fn field(name: &str) -> Element {
    Element::Field(name.to_owned())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// All fields that a value has.
pub(super) fn fields_of(view: View, value: &Value) -> Set {
    let mut set = Set::default();
    match (view, value) {
        (View::Struct(_) | View::Map(_), Value::Object(map)) => {
            for (name, value) in map {
                let child = view.child(name);
                let below = fields_of(child, value);
                // Keys of maps are fields of their own; structs only live through what is in them.
                let member = is_leaf(child, value) || matches!(view, View::Map(_));
                set.put(field(name), member || is_empty(value), below);
            }
        }
        (View::Keyed(..) | View::Values, Value::Array(items)) => {
            for item in items {
                if let Some(element) = view.element(item) {
                    set.put(element, true, fields_of(view.item(), item));
                }
            }
        }
        _ => {}
    }
    set
}

/// Whether a value is owned as one, be it only because it is not of the form that its view speaks of.
pub(super) fn is_leaf(view: View, value: &Value) -> bool {
    match view {
        View::Leaf => true,
        View::Struct(_) | View::Map(_) => !value.is_object(),
        View::Keyed(..) | View::Values => !value.is_array(),
    }
}

/// The value without these fields; `None` when nothing is left of it.
pub(super) fn without(view: View, value: &Value, gone: &Set) -> Option<Value> {
    match (view, value) {
        (View::Struct(_) | View::Map(_), Value::Object(map)) if !map.is_empty() => {
            let kept: Map<String, Value> = map
                .iter()
                .filter_map(|(name, value)| {
                    let element = field(name);
                    if gone.has(&element) {
                        return None;
                    }
                    let kept = match gone.below(&element) {
                        Some(below) => without(view.child(name), value, below)?,
                        None => value.clone(),
                    };
                    Some((name.clone(), kept))
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (View::Keyed(..) | View::Values, Value::Array(items)) if !items.is_empty() => {
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|item| {
                    let Some(element) = view.element(item) else {
                        return Some(item.clone());
                    };
                    if gone.has(&element) {
                        return None;
                    }
                    match gone.below(&element) {
                        Some(below) => without(view.item(), item, below),
                        None => Some(item.clone()),
                    }
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => Some(value.clone()),
    }
}

/// The set with every named field of a struct on its way made a member: whoever owns something in a struct owns the struct.
pub(super) fn with_parents(view: View, set: &Set) -> Set {
    let mut out = Set::default();
    for (element, member, below) in set.elements() {
        let (child, named) = match element {
            Element::Field(name) => (view.child(name), matches!(view, View::Struct(_))),
            _ => (view.item(), false),
        };
        let below = with_parents(child, below);
        let member = member || (named && !below.is_empty());
        out.put(element.clone(), member, below);
    }
    out
}
