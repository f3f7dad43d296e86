//! Owners and dependents over the metadata caches. It reads, and says which objects a change wakes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corten_api::kinds::{self, ResourceDescriptor};
use corten_client::cache::{Change, MetaCache};
use corten_client::{ObjectName, PartialObject, Revision, Target};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Index of objects by the uids of their owners.
pub const BY_OWNER: &str = "owner";

/// An object: a kind by its place in the graph's list, and a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The place of the kind in [`Graph::kinds`].
    pub kind: usize,
    /// The object's name.
    pub name: ObjectName,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

/// The kinds that take part, each with the copy of its metadata.
#[derive(Clone)]
pub struct Graph {
    /// The kinds.
    pub kinds: Arc<Vec<(&'static ResourceDescriptor, MetaCache)>>,
}

/// The keys of [`BY_OWNER`].
pub fn owners_of(object: &PartialObject) -> Vec<String> {
    object
        .metadata
        .owner_references
        .iter()
        .flatten()
        .map(|owner| owner.uid.clone())
        .collect()
}

/// Drops what the collector never reads.
pub fn strip(object: &mut PartialObject) {
    object.metadata.labels = None;
    object.metadata.annotations = None;
}

impl Graph {
    /// The kinds that are collected: all that are stored and can be deleted, but Events, which nobody owns and which go
    /// by themselves.
    pub fn collected() -> impl Iterator<Item = &'static ResourceDescriptor> {
        let stored = kinds::registry().stored();
        stored.filter(|kind| {
            kind.has_verb("delete") && kind.has_verb("watch") && kind.kind != "Event"
        })
    }

    /// The object, as cached.
    pub(super) fn get(&self, node: &Node) -> Option<Arc<PartialObject>> {
        self.kinds.get(node.kind)?.1.get_named(&node.name)
    }

    /// Where the object lives.
    pub(super) fn target(&self, node: &Node) -> Target {
        self.kinds[node.kind]
            .1
            .target()
            .clone()
            .in_namespace(&node.name.namespace)
            .named(&node.name.name)
    }

    /// All objects that name this one as an owner.
    pub(super) fn dependents(&self, owner: &PartialObject) -> Vec<(Node, Arc<PartialObject>)> {
        let Some(uid) = owner.metadata.uid.as_deref() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (kind, (_, cache)) in self.kinds.iter().enumerate() {
            let objects = cache.by_index(BY_OWNER, uid);
            found.extend(objects.into_iter().map(|object| {
                (
                    Node {
                        kind,
                        name: ObjectName::of(&*object),
                    },
                    object,
                )
            }));
        }
        found
    }

    /// Where the owner that a reference names would be; `None` for kinds that are not here and for references that lead
    /// out of the dependent's scope.
    pub(super) fn owner(&self, dependent: &Node, reference: &OwnerReference) -> Option<Node> {
        let group = reference
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let kind = self
            .kinds
            .iter()
            .position(|(kind, _)| kind.group == group && kind.kind == reference.kind)?;
        let namespace = match (
            self.kinds[kind].0.namespaced,
            dependent.name.namespace.as_str(),
        ) {
            (true, "") => return None, // an owner in a namespace cannot hold what is outside of all
            (true, namespace) => namespace,
            (false, _) => "",
        };
        Some(Node {
            kind,
            name: ObjectName::new(namespace, reference.name.clone()),
        })
    }

    /// Where an object with its type written on it lives.
    pub(super) fn node_of(&self, object: &PartialObject) -> Option<Node> {
        let name = ObjectName::of(object);
        let uid = &object.metadata.uid;
        let holds = |cache: &MetaCache| {
            cache
                .get_named(&name)
                .is_some_and(|held| held.metadata.uid == *uid)
        };
        let kind = self.kinds.iter().position(|(_, cache)| holds(cache))?;
        Some(Node { kind, name })
    }

    /// Gives caches a moment to show what was written before this object's last change.
    pub(super) async fn catch_up(&self, meta: &ObjectMeta, limit: Duration) {
        let revision = Revision::of(meta);
        let waits = self
            .kinds
            .iter()
            .map(|(_, cache)| cache.wait_revision(revision, limit));
        futures::future::join_all(waits).await;
    }

    /// Objects to look at after a change of one of kind number `kind`.
    pub fn woken(&self, kind: usize, change: &Change<PartialObject>) -> Vec<Node> {
        let object = change.object();
        let meta = &object.metadata;
        let node = Node {
            kind,
            name: ObjectName::of(&**object),
        };
        let mut woken = Vec::new();
        let gone = matches!(change, Change::Deleted(_));
        let going = meta.deletion_timestamp.is_some();
        let waits = going && super::has(meta, super::FOREGROUND);
        if gone || waits {
            // Gone: its dependents may have lost their last owner. Waiting: they are to go first.
            woken.extend(
                self.dependents(object)
                    .into_iter()
                    .map(|(dependent, _)| dependent),
            );
        }
        // Owners that wait may wait for this one.
        let references = [Some(object), change.old()].into_iter().flatten();
        for reference in
            references.flat_map(|object| object.metadata.owner_references.iter().flatten())
        {
            let owner = self
                .owner(&node, reference)
                .filter(|owner| !woken.contains(owner));
            let waiting = |owner: &Node| {
                self.get(owner)
                    .is_some_and(|o| o.metadata.deletion_timestamp.is_some())
            };
            woken.extend(owner.filter(waiting));
        }
        let held = meta
            .owner_references
            .as_ref()
            .is_some_and(|owners| !owners.is_empty());
        if !gone && (held || going) {
            woken.push(node);
        }
        woken
    }
}
