//! The objects and their indexes, without any IO. Invariant: after every method, each index holds exactly what its
//! function says of the objects held.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::IndexFn;
use super::changes::{Change, Changes, Delivery, Subscribers};
use crate::object::{Cached, ObjectName, Revision};

struct Index<T> {
    name: &'static str,
    keys: IndexFn<T>,
    filed: HashMap<String, BTreeMap<ObjectName, Arc<T>>>,
}

impl<T: Cached> Index<T> {
    fn file(&mut self, object: &Arc<T>) {
        for key in (self.keys)(object) {
            self.filed
                .entry(key)
                .or_default()
                .insert(ObjectName::of(&**object), Arc::clone(object));
        }
    }

    fn unfile(&mut self, object: &T) {
        let name = ObjectName::of(object);
        for key in (self.keys)(object) {
            if let Some(filed) = self.filed.get_mut(&key) {
                filed.remove(&name);
                if filed.is_empty() {
                    self.filed.remove(&key);
                }
            }
        }
    }
}

/// The copy itself.
pub(super) struct Store<T> {
    /// Namespace, then name: lookups need no allocation, and lists are ordered.
    objects: BTreeMap<String, BTreeMap<String, Arc<T>>>,
    count: usize,
    indexes: Vec<Index<T>>,
    strip: Option<fn(&mut T)>,
    revision: Revision,
    subscribers: Subscribers<T>,
}

impl<T: Cached> Store<T> {
    pub(super) fn new(indexes: Vec<(&'static str, IndexFn<T>)>, strip: Option<fn(&mut T)>) -> Self {
        let indexes = indexes
            .into_iter()
            .map(|(name, keys)| Index {
                name,
                keys,
                filed: HashMap::new(),
            })
            .collect();
        Self {
            objects: BTreeMap::new(),
            count: 0,
            indexes,
            strip,
            revision: Revision::default(),
            subscribers: Subscribers::default(),
        }
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.objects.get(namespace)?.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values().flat_map(BTreeMap::values)
    }

    pub(super) fn namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        self.objects
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    pub(super) fn by_index(&self, index: &'static str, key: &str) -> Vec<Arc<T>> {
        let index = self
            .indexes
            .iter()
            .find(|candidate| candidate.name == index)
            .unwrap_or_else(|| panic!("index {index} is not registered"));
        index
            .filed
            .get(key)
            .map(|filed| filed.values().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Nothing up to `revision` is missing.
    pub(super) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    pub(super) fn subscribe(&mut self) -> Changes<T> {
        let current = self.iter().cloned().collect();
        self.subscribers.add(current)
    }

    /// Holds `object` instead of what had its name. An object with another uid is another object: the old one goes first.
    pub(super) fn put(&mut self, mut object: T) -> Delivery<T> {
        object.meta_mut().managed_fields = None;
        if let Some(strip) = self.strip {
            strip(&mut object);
        }
        let object = Arc::new(object);
        let name = ObjectName::of(&*object);
        self.advance(Revision::of(object.meta()));
        let old = self
            .objects
            .entry(name.namespace)
            .or_default()
            .insert(name.name, Arc::clone(&object));
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.unfile(old);
            }
            index.file(&object);
        }
        let Some(old) = old else {
            self.count += 1;
            return self.subscribers.delivery(vec![Change::Added(object)]);
        };
        let changes = if old.meta().uid == object.meta().uid {
            // A relist brings what is held already: nobody needs to hear it.
            if old.meta().resource_version.is_some()
                && old.meta().resource_version == object.meta().resource_version
            {
                return Delivery::nothing();
            }
            vec![Change::Updated { old, new: object }]
        } else {
            vec![Change::Deleted(old), Change::Added(object)]
        };
        self.subscribers.delivery(changes)
    }

    /// Lets an object go. `last` is its final state, where the server told.
    pub(super) fn remove(&mut self, namespace: &str, name: &str, last: Option<T>) -> Delivery<T> {
        if let Some(last) = &last {
            self.advance(Revision::of(last.meta()));
        }
        let Some(held) = self
            .objects
            .get_mut(namespace)
            .and_then(|objects| objects.remove(name))
        else {
            return Delivery::nothing();
        };
        if self.objects.get(namespace).is_some_and(BTreeMap::is_empty) {
            self.objects.remove(namespace);
        }
        self.count -= 1;
        for index in &mut self.indexes {
            index.unfile(&held);
        }
        let gone = match last {
            Some(mut last) if last.meta().uid == held.meta().uid => {
                last.meta_mut().managed_fields = None;
                Arc::new(last)
            }
            _ => held,
        };
        self.subscribers.delivery(vec![Change::Deleted(gone)])
    }

    /// Lets go of all objects that a new initial state did not name.
    pub(super) fn retain(&mut self, named: &HashSet<ObjectName>) -> Vec<Delivery<T>> {
        let gone: Vec<ObjectName> = self
            .iter()
            .map(|object| ObjectName::of(&**object))
            .filter(|name| !named.contains(name))
            .collect();
        gone.iter()
            .map(|name| self.remove(&name.namespace, &name.name, None))
            .collect()
    }
}
