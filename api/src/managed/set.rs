//! Sets of fields, as paths into an object.
//!
//! A set is a tree: each node is a member, or only on the way to members. Its JSON form is upstream's `FieldsV1`. Invariant: a node
//! that is no member has members below it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path, in upstream's order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// A field or a key of a map.
    Field(String),
    /// An item of a list, by the fields that identify it: a JSON object with its keys sorted.
    Key(String),
    /// An item of a set, as JSON.
    Value(String),
    /// An item by its place. Never made here, only read.
    Index(u64),
}

impl Element {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let canonical = |text: &str| {
            let value: Value = serde_json::from_str(text).ok()?;
            Some(canonical(value))
        };
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => canonical(rest).map(Self::Key),
            "v" => canonical(rest).map(Self::Value),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(key) => format!("k:{key}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

impl fmt::Display for Element {
    /// As messages about conflicts write paths.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(key) => {
                let keys: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let keys: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                write!(f, "[{}]", keys.join(","))
            }
        }
    }
}

/// JSON with sorted keys, so that equal values have equal texts.
pub(super) fn canonical(value: Value) -> String {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().collect();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            let sorted: Map<String, Value> = pairs.into_iter().collect();
            Value::Object(sorted).to_string()
        }
        other => other.to_string(),
    }
}

/// A set of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    nodes: BTreeMap<Element, Node>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Node {
    member: bool,
    below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Puts an element in, with what is below it.
    pub(super) fn put(&mut self, element: Element, member: bool, below: Set) {
        if !member && below.is_empty() {
            return;
        }
        let node = self.nodes.entry(element).or_default();
        node.member |= member;
        if node.below.is_empty() {
            node.below = below;
        } else {
            node.below = node.below.union(&below);
        }
    }

    /// Whether the element itself is a member.
    pub(super) fn has(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// What is below an element.
    pub(super) fn below(&self, element: &Element) -> Option<&Set> {
        let below = &self.nodes.get(element)?.below;
        (!below.is_empty()).then_some(below)
    }

    /// The elements here, with what is below.
    pub(super) fn elements(&self) -> impl Iterator<Item = (&Element, bool, &Set)> {
        self.nodes
            .iter()
            .map(|(element, node)| (element, node.member, &node.below))
    }

    /// Takes one path of fields out; what is below it stays.
    pub(super) fn remove(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let element = Element::Field((*first).to_owned());
        let Some(node) = self.nodes.get_mut(&element) else {
            return;
        };
        if rest.is_empty() {
            node.member = false;
        } else {
            node.below.remove(rest);
        }
        if node.is_empty() {
            self.nodes.remove(&element);
        }
    }

    /// Paths of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (element, node) in &other.nodes {
            out.put(element.clone(), node.member, node.below.clone());
        }
        out
    }

    /// Paths of this one that the other has not.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && !theirs, Self::difference)
    }

    /// Paths of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && theirs, Self::intersection)
    }

    fn combine(
        &self,
        other: &Self,
        member: fn(bool, bool) -> bool,
        below: fn(&Self, &Self) -> Self,
    ) -> Self {
        let nothing = Node::default();
        let mut out = Self::default();
        for (element, node) in &self.nodes {
            let theirs = other.nodes.get(element).unwrap_or(&nothing);
            out.put(
                element.clone(),
                member(node.member, theirs.member),
                below(&node.below, &theirs.below),
            );
        }
        out
    }

    /// All members, as people read them: `.spec.replicas`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect(&mut String::new(), &mut out);
        out
    }

    fn collect(&self, path: &mut String, out: &mut Vec<String>) {
        for (element, node) in &self.nodes {
            let before = path.len();
            path.push_str(&element.to_string());
            if node.member {
                out.push(path.clone());
            }
            node.below.collect(path, out);
            path.truncate(before);
        }
    }

    /// Upstream's form.
    pub fn to_json(&self) -> Value {
        let nodes = self.nodes.iter().map(|(element, node)| {
            let below = match node.below.to_json() {
                Value::Object(below) if node.member && !below.is_empty() => {
                    let own = std::iter::once((".".to_owned(), Value::Object(Map::new())));
                    Value::Object(own.chain(below).collect())
                }
                below => below,
            };
            (element.text(), below)
        });
        Value::Object(nodes.collect())
    }

    /// Reads upstream's form; `None` when it is not that.
    pub fn from_json(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (key, below) in value.as_object()? {
            if key == "." {
                continue; // the parent has seen it
            }
            let below_map = below.as_object()?;
            let member = below_map.is_empty() || below_map.contains_key(".");
            set.put(Element::parse(key)?, member, Self::from_json(below)?);
        }
        Some(set)
    }
}
