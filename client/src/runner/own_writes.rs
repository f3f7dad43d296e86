//! What each key wrote and the caches have not shown yet. Invariant: once `settled` says true, every watched cache holds
//! what earlier runs of the key wrote.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use crate::cache::Cache;
use crate::object::{Cached, ObjectName, Revision, Target};
use crate::queue::Key;

/// A write that a cache must show before its key is planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The object is stored at this revision.
    At {
        collection: Target,
        revision: Revision,
    },
    /// The object is gone, or at least marked.
    Gone {
        collection: Target,
        name: ObjectName,
        uid: Option<String>,
    },
}

impl Written {
    fn collection(&self) -> &Target {
        match self {
            Self::At { collection, .. } | Self::Gone { collection, .. } => collection,
        }
    }
}

/// A cache whose kind can be waited for.
pub(super) struct Watched {
    collection: Target,
    shows: Box<dyn Fn(Written, Duration) -> BoxFuture<'static, bool> + Send + Sync>,
}

impl Watched {
    pub(super) fn new<T: Cached>(cache: &Cache<T>) -> Self {
        let cache = cache.clone();
        let collection = cache.target().clone();
        let shows = move |written: Written, limit: Duration| -> BoxFuture<'static, bool> {
            let cache = cache.clone();
            Box::pin(async move {
                match written {
                    Written::At { revision, .. } => cache.wait_revision(revision, limit).await,
                    Written::Gone { name, uid, .. } => {
                        cache
                            .wait_until(limit, |cache| is_gone(cache, &name, uid.as_deref()))
                            .await
                    }
                }
            })
        };
        Self {
            collection,
            shows: Box::new(shows),
        }
    }
}

fn is_gone<T: Cached>(cache: &Cache<T>, name: &ObjectName, uid: Option<&str>) -> bool {
    let Some(held) = cache.get_named(name) else {
        return true;
    };
    let meta = held.meta();
    meta.deletion_timestamp.is_some() || uid.is_some_and(|uid| meta.uid.as_deref() != Some(uid))
}

/// The writes not yet seen, by key.
pub(super) struct OwnWrites<K> {
    watched: RwLock<Vec<std::sync::Arc<Watched>>>,
    pending: Mutex<HashMap<K, Vec<Written>>>,
}

impl<K> Default for OwnWrites<K> {
    fn default() -> Self {
        Self {
            watched: RwLock::default(),
            pending: Mutex::new(HashMap::new()),
        }
    }
}

impl<K: Key> OwnWrites<K> {
    pub(super) fn watch(&self, watched: Watched) {
        self.watched.write().push(std::sync::Arc::new(watched));
    }

    /// Remembers writes of a key, of watched kinds only.
    pub(super) fn add(&self, key: &K, written: Vec<Written>) {
        let watched = self.watched.read();
        let relevant: Vec<Written> = written
            .into_iter()
            .filter(|write| {
                watched
                    .iter()
                    .any(|cache| &cache.collection == write.collection())
            })
            .collect();
        if !relevant.is_empty() {
            self.pending
                .lock()
                .entry(key.clone())
                .or_default()
                .extend(relevant);
        }
    }

    /// Waits until all caches show the key's writes, at most `limit`; whether they do. Either way they are forgotten.
    pub(super) async fn settled(&self, key: &K, limit: Duration) -> bool {
        let Some(pending) = self.pending.lock().remove(key) else {
            return true;
        };
        let watched: Vec<_> = self.watched.read().clone();
        let waits = pending.into_iter().flat_map(|write| {
            watched
                .iter()
                .filter(|cache| &cache.collection == write.collection())
                .map(|cache| (cache.shows)(write.clone(), limit))
                .collect::<Vec<_>>()
        });
        futures::future::join_all(waits)
            .await
            .into_iter()
            .all(|shown| shown)
    }
}
