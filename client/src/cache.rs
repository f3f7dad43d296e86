//! An in-memory copy of a collection, kept current by a watch: lookups, indexes and a stream of changes.
//!
//! ```text
//! watch ──▶ reflector (one task) ──▶ store (lock, short) ──▶ subscribers (bounded channels)
//! ```
//!
//! It is not a way to write, and never ahead of the server. Invariants: objects are immutable `Arc`s; a subscriber sees
//! every change once and in order, and only after the store holds it; a subscriber that does not read holds the
//! reflector back instead of filling memory.

mod changes;
mod reflector;
mod store;

use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use tokio::sync::watch;

pub use changes::{Change, Changes};
use store::Store;

use crate::client::{Client, ListOptions};
use crate::object::{Cached, Object, ObjectName, PartialObject, Revision, Target};

/// Computes the index keys of an object.
pub type IndexFn<T> = Arc<dyn Fn(&T) -> Vec<String> + Send + Sync>;

/// What to hold and how to index it.
pub struct CacheOptions<T> {
    select: ListOptions,
    indexes: Vec<(&'static str, IndexFn<T>)>,
    strip: Option<fn(&mut T)>,
}

impl<T> Default for CacheOptions<T> {
    fn default() -> Self {
        Self {
            select: ListOptions::default(),
            indexes: Vec::new(),
            strip: None,
        }
    }
}

impl<T: Cached> CacheOptions<T> {
    /// Everything of the kind, without indexes.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only what these options select.
    #[must_use]
    pub fn select(mut self, select: ListOptions) -> Self {
        self.select = select;
        self
    }

    /// Adds an index for [`Cache::by_index`].
    #[must_use]
    pub fn index(
        mut self,
        name: &'static str,
        keys: impl Fn(&T) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.indexes.push((name, Arc::new(keys)));
        self
    }

    /// Drops what this cache's readers never look at, before the object is kept. `managedFields` always goes.
    #[must_use]
    pub fn strip(mut self, strip: fn(&mut T)) -> Self {
        self.strip = Some(strip);
        self
    }
}

struct Shared<T> {
    target: Target,
    store: parking_lot::RwLock<Store<T>>,
    /// (synced, revision): the latest value, for waiters.
    progress: watch::Sender<Progress>,
}

/// How far a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    synced: bool,
    revision: Revision,
}

/// A cheap handle; clones share the copy.
pub struct Cache<T: Cached> {
    shared: Arc<Shared<T>>,
}

/// A cache of metadata of any kind.
pub type MetaCache = Cache<PartialObject>;

impl<T: Cached> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Cached> std::fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({}, {} objects)", self.shared.target, self.len())
    }
}

impl<K: Object> Cache<K> {
    /// Starts to copy a typed kind, until `shutdown`.
    pub fn start(client: &Client, options: CacheOptions<K>, shutdown: &Shutdown) -> Self {
        Self::start_target(client, Target::of::<K>(), options, shutdown)
    }

    /// A cache that holds these objects and follows nothing: for tests of views. It counts as synced.
    pub fn fixed(objects: impl IntoIterator<Item = K>, options: CacheOptions<K>) -> Self {
        Self::fixed_target(Target::of::<K>(), objects, options)
    }
}

impl MetaCache {
    /// Starts to copy the metadata of any kind, until `shutdown`.
    pub fn start_for(
        client: &Client,
        target: &Target,
        options: CacheOptions<PartialObject>,
        shutdown: &Shutdown,
    ) -> Self {
        Self::start_target(client, target.collection(), options, shutdown)
    }

    /// A metadata cache that holds these objects and follows nothing: for tests.
    pub fn fixed_for(
        target: &Target,
        objects: impl IntoIterator<Item = PartialObject>,
        options: CacheOptions<PartialObject>,
    ) -> Self {
        Self::fixed_target(target.collection(), objects, options)
    }
}

impl<T: Cached> Cache<T> {
    fn start_target(
        client: &Client,
        target: Target,
        options: CacheOptions<T>,
        shutdown: &Shutdown,
    ) -> Self {
        let select = options.select.clone();
        let cache = Self::detached(target, options);
        let reflector =
            reflector::Reflector::new(client.clone(), select, cache.clone(), shutdown.clone());
        spawn("cache", TaskKind::Critical, reflector.run());
        cache
    }

    fn fixed_target(
        target: Target,
        objects: impl IntoIterator<Item = T>,
        options: CacheOptions<T>,
    ) -> Self {
        let cache = Self::detached(target, options);
        for object in objects {
            // Nobody can have subscribed yet.
            drop(cache.shared.store.write().put(object));
        }
        cache.advance(true);
        cache
    }

    fn detached(target: Target, options: CacheOptions<T>) -> Self {
        let store = Store::new(options.indexes, options.strip);
        let (progress, _) = watch::channel(Progress::default());
        let shared = Shared {
            target,
            store: parking_lot::RwLock::new(store),
            progress,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The collection that this is a copy of.
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// One object; the namespace is "" for cluster scope.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.shared.store.read().get(namespace, name).cloned()
    }

    /// One object by its name.
    pub fn get_named(&self, name: &ObjectName) -> Option<Arc<T>> {
        self.get(&name.namespace, &name.name)
    }

    /// All objects, in order of namespace and name.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.shared.store.read().iter().cloned().collect()
    }

    /// All objects of a namespace, in order of name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        self.shared
            .store
            .read()
            .namespace(namespace)
            .cloned()
            .collect()
    }

    /// All objects that an index files under `key`, in order of namespace and name. An index that was not registered
    /// is a programming fault and panics.
    pub fn by_index(&self, index: &'static str, key: &str) -> Vec<Arc<T>> {
        self.shared.store.read().by_index(index, key)
    }

    /// Visits all objects under one lock, without copying the list; `visit` must be short.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<T>)) {
        self.shared.store.read().iter().for_each(&mut visit);
    }

    /// How many objects are held.
    pub fn len(&self) -> usize {
        self.shared.store.read().len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the initial state has arrived.
    pub fn is_synced(&self) -> bool {
        self.shared.progress.borrow().synced
    }

    /// The newest revision seen, by event or bookmark.
    pub fn revision(&self) -> Revision {
        self.shared.progress.borrow().revision
    }

    /// Returns when the initial state has arrived. Cancel-safe.
    pub async fn wait_synced(&self) {
        let mut progress = self.shared.progress.subscribe();
        // The sender lives in `self.shared`, so the channel cannot close.
        let _ = progress.wait_for(|progress| progress.synced).await;
    }

    /// Returns when the cache holds everything up to `revision`, or after `limit`; whether it does.
    pub async fn wait_revision(&self, revision: Revision, limit: Duration) -> bool {
        let mut progress = self.shared.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.revision >= revision);
        tokio::time::timeout(limit, reached).await.is_ok()
    }

    /// Returns when `holds` is true of this cache, or after `limit`; whether it is. Asked again at every change.
    pub async fn wait_until(&self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let mut progress = self.shared.progress.subscribe();
        let reached = progress.wait_for(|_| holds(self));
        tokio::time::timeout(limit, reached).await.is_ok()
    }

    /// The current objects as `Added`, then every change.
    pub fn subscribe(&self) -> Changes<T> {
        self.shared.store.write().subscribe()
    }

    /// Puts an object as if the watch had brought it: for tests on a fixed cache.
    pub async fn put_for_test(&self, object: T) {
        let sent = self.shared.store.write().put(object);
        self.advance(true);
        sent.deliver().await;
    }

    /// Removes an object as if the watch had said so: for tests on a fixed cache.
    pub async fn remove_for_test(&self, namespace: &str, name: &str) {
        let sent = self.shared.store.write().remove(namespace, name, None);
        self.advance(true);
        sent.deliver().await;
    }

    /// Publishes the store's revision to waiters, and that the initial state is complete.
    fn advance(&self, synced: bool) {
        let revision = self.shared.store.read().revision();
        self.shared.progress.send_modify(|progress| {
            progress.synced |= synced;
            progress.revision = revision;
        });
    }
}

#[cfg(test)]
mod tests;
