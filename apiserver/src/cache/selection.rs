//! Which objects a list or watch is about: namespace, label selector, field selector.
//!
//! It does not parse; `corten_api::selector` does. Invariant: a selection is decided from the index of an item alone, never from
//! its bytes.

use std::sync::Arc;

use corten_api::selector::{FieldSelector, LabelSelector};

use super::Item;

/// A namespace and two selectors; the default selects everything.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// None: all namespaces, or a cluster-scoped kind.
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

/// How events find the watchers that may be interested: by the most selective simple condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    All,
    Namespace(Box<str>),
    /// One object by its key.
    Key(Box<str>),
    /// All pods of a node: one watcher per node agent would otherwise see every pod's events.
    Node(Box<str>),
}

/// The field that gives [`Scope::Node`].
const NODE_FIELD: &str = "spec.nodeName";

/// The node that an item is bound to; only pods are.
pub(super) fn node_of(item: &Arc<Item>) -> Option<&str> {
    item.field(NODE_FIELD).filter(|node| !node.is_empty())
}

impl Selection {
    /// Whether an item is selected.
    pub fn matches(&self, item: &Item) -> bool {
        if let Some(namespace) = &self.namespace
            && **namespace != *item.namespace
        {
            return false;
        }
        self.labels.matches(item) && self.fields.matches(|name| item.field(name))
    }

    /// Whether selectors narrow the namespace further.
    pub fn has_selectors(&self) -> bool {
        !self.labels.is_everything() || !self.fields.is_everything()
    }

    /// The name that the field selector demands, if it does.
    pub fn pinned_name(&self) -> Option<&str> {
        self.fields.required_value("metadata.name")
    }

    /// The node that the field selector demands, if it does.
    pub(super) fn pinned_node(&self) -> Option<&str> {
        let node = self.fields.required_value(NODE_FIELD);
        node.filter(|node| !node.is_empty())
    }

    pub(super) fn scope(&self, namespaced: bool) -> Scope {
        let namespace = self
            .namespace
            .as_deref()
            .or_else(|| self.fields.required_value("metadata.namespace"));
        match (self.pinned_name(), namespace) {
            (Some(name), Some(namespace)) if namespaced => {
                return Scope::Key(format!("{namespace}/{name}").into());
            }
            (Some(name), _) if !namespaced => return Scope::Key(name.into()),
            _ => {}
        }
        if let Some(node) = self.fields.required_value(NODE_FIELD) {
            return Scope::Node(node.into());
        }
        namespace.map_or(Scope::All, |namespace| Scope::Namespace(namespace.into()))
    }
}

/// The scopes in which an item's watchers are to be found.
pub(super) fn scopes_of(item: &Item) -> impl Iterator<Item = Scope> + '_ {
    let namespace = (!item.namespace.is_empty()).then(|| Scope::Namespace(item.namespace.clone()));
    let node = item.field(NODE_FIELD).map(|node| Scope::Node(node.into()));
    [Scope::All, Scope::Key((*item.key).into())]
        .into_iter()
        .chain(namespace)
        .chain(node)
}
