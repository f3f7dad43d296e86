//! The watch cache: every object of every stored kind as its encoded bytes, with a small index, kept current by one watch
//! over the store's `/registry/`.
//!
//! It never writes and never decodes an object twice: what is kept is the JSON that clients receive, `resourceVersion`
//! included. One watch serves all kinds, because then every write of ours moves the observed revision by itself and a
//! consistent read rarely has to ask the store for progress; the price, one decoding task, is paid once per event
//! however many watchers there are. Invariant: when [`Caches::observed`] says N, every cache holds the state at N or later, and every watcher has
//! been sent all events up to N.
//!
//! What is remembered of the past has a budget in bytes ([`Limits`]): the oldest history goes first, then the watchers that are
//! furthest behind have to list again.
//!
//! ```text
//!  store ── watch ──▶ feeder ──▶ ResourceCache ──▶ ring of events ──▶ watchers (bounded queues, cut when full)
//!                        │            └──▶ snapshot (persistent map) ──▶ lists, gets, authorizers
//!                        └──▶ observed revision ──▶ consistent reads wait here
//! ```

mod budget;
mod event;
mod feeder;
mod history;
mod hub;
mod item;
mod mailbox;
mod metrics;
mod selection;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use corten_api::kinds::{self, ResourceDescriptor};
use corten_base::admin::{AdminServer, LoopLog};
use corten_base::shutdown::Shutdown;
use tokio::sync::watch as latest;

pub use budget::Limits;
pub use event::{Event, EventType};
pub use feeder::object_key;
pub use hub::{ResourceCache, Snapshot};
pub use item::{DecodeError, Item};
pub use selection::Selection;
pub use watch::{Delivery, Watch, WatchStart};

use budget::Budget;

use crate::storage::{self, ProgressRequests, ROOT, Revision, Store};

/// A read that has waited this long for its revision is answered with 504 rather than with old data.
const FRESH_WITHIN: Duration = Duration::from_secs(3);
/// After this long the store is asked to report progress: the revision may belong to a key nobody caches.
const ASK_AFTER: Duration = Duration::from_millis(30);

/// Why a read could not be answered from the cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the store's current revision failed")]
    Store(#[from] storage::Error),
    #[error("the cache has reached revision {observed}, not yet {wanted}")]
    Behind {
        observed: Revision,
        wanted: Revision,
    },
    #[error("revision {wanted} is older than the oldest remembered event {floor}")]
    TooOld { wanted: Revision, floor: Revision },
}

/// All resource caches and how far they have come.
pub struct Caches {
    store: Store,
    budget: Arc<Budget>,
    by_prefix: BTreeMap<String, Arc<ResourceCache>>,
    observed: latest::Sender<Revision>,
    progress: ArcSwapOption<ProgressRequests>,
    /// How following the store goes.
    log: LoopLog,
}

impl Caches {
    /// Empty caches for every stored kind; [`Caches::run`] fills them.
    pub fn new(store: Store) -> Arc<Self> {
        Self::with_limits(store, Limits::default())
    }

    /// The same with other bounds on what is remembered.
    pub fn with_limits(store: Store, limits: Limits) -> Arc<Self> {
        let budget = Arc::new(Budget::new(limits));
        let mut by_prefix = BTreeMap::new();
        for descriptor in kinds::registry().all().filter(|kind| !kind.is_virtual()) {
            let prefix = format!("{ROOT}{}/", descriptor.storage_prefix);
            // The first view of shared storage is the one whose form is stored.
            by_prefix.entry(prefix.clone()).or_insert_with(|| {
                Arc::new(ResourceCache::new(prefix, descriptor, Arc::clone(&budget)))
            });
        }
        Arc::new(Self {
            store,
            budget,
            by_prefix,
            observed: latest::Sender::new(Revision::default()),
            progress: ArcSwapOption::empty(),
            log: LoopLog::default(),
        })
    }

    /// Follows the store until shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        feeder::run(self, shutdown).await;
    }

    /// The cache that holds a resource's objects; none for virtual kinds.
    pub fn of(&self, descriptor: &ResourceDescriptor) -> Option<&Arc<ResourceCache>> {
        if descriptor.is_virtual() {
            return None;
        }
        self.by_prefix
            .get(&format!("{ROOT}{}/", descriptor.storage_prefix))
    }

    /// The cache of a resource by group and plural name.
    pub fn named(&self, group: &str, resource: &str) -> Option<&Arc<ResourceCache>> {
        self.of(kinds::registry().preferred(group, resource)?)
    }

    /// Shows what the caches hold among a server's metrics.
    pub fn register(self: &Arc<Self>, admin: &AdminServer) {
        metrics::register(self, admin);
    }

    /// Keeps what is remembered within its bounds. The feeder calls it after each batch, being the only one that adds.
    fn trim(&self) {
        let limits = self.budget.limits;
        loop {
            let held: usize = self
                .by_prefix
                .values()
                .map(|cache| cache.history_bytes())
                .sum();
            let excess = held.saturating_sub(limits.history);
            let largest = self
                .by_prefix
                .values()
                .max_by_key(|cache| cache.history_bytes());
            match largest {
                Some(cache) if excess > 0 => cache.forget(excess),
                _ => {
                    self.budget.press(held);
                    return;
                }
            }
        }
    }

    /// The cache whose prefix a store key has.
    fn by_key(&self, key: &str) -> Option<&Arc<ResourceCache>> {
        let (prefix, cache) = self
            .by_prefix
            .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        key.starts_with(prefix.as_str()).then_some(cache)
    }

    /// The revision that all caches have reached; zero before the first load.
    pub fn observed(&self) -> Revision {
        *self.observed.borrow()
    }

    /// Waits until the caches hold everything that was acknowledged before the call.
    pub async fn wait_fresh(&self) -> Result<Revision, Error> {
        let current = self.store.current_revision().await?;
        self.wait_for(current).await?;
        Ok(current)
    }

    /// Waits until the caches have reached a revision.
    pub async fn wait_for(&self, wanted: Revision) -> Result<(), Error> {
        let mut observed = self.observed.subscribe();
        let deadline = tokio::time::Instant::now() + FRESH_WITHIN;
        loop {
            // Zero means that nothing is loaded: even "any revision" has to wait for that.
            let reached = observed.wait_for(|at| *at >= wanted && *at > Revision::default());
            if tokio::time::timeout(ASK_AFTER, reached).await.is_ok() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let observed = self.observed();
                return Err(Error::Behind { observed, wanted });
            }
            if let Some(progress) = &*self.progress.load() {
                progress.ask();
            }
        }
    }
}
