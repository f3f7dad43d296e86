//! The state machine of a member as the shell sees it: reads, watches, lease times and the upkeep of all three.
//! Not the writer: whoever applies entries owns that, and tells the engine what changed.
//! Invariant: `publish` is called once per committed round, in order, by one thread.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use corten_base::clock::{Clock, SystemClock};
use corten_base::shutdown::Shutdown;
use corten_store_core::backend::BackendError;
use corten_store_core::lessor::{KeepAlive, Lessor};
use corten_store_core::{Changes, Error, LeaseId, Revision, Store};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::LeaseTtl;
use super::usage::{PrefixQuota, Usage};
use super::watches::Watches;
use crate::offload::offload;

/// Rows of history per step of a compaction: a few milliseconds of work, so that writes are hardly held up.
const COMPACTION_STEP_ROWS: usize = 1000;
/// Rest between two steps.
const COMPACTION_PAUSE: Duration = Duration::from_millis(5);

/// A handle; clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    watches: Arc<Watches>,
    lessor: Mutex<Lessor>,
    /// Set at the start, if at all.
    usage: OnceLock<Usage>,
    clock: Box<dyn Clock>,
    /// Leases are counted in time since this.
    origin: Instant,
    /// Compacted revision: wanted by the log, and given back by `maintain`.
    compaction_wanted: watch::Sender<Revision>,
    compaction_done: watch::Sender<Revision>,
}

impl Engine {
    /// An engine over an open store, not leading.
    pub fn new(store: Store, checkpoint_every: Duration) -> Result<Self, BackendError> {
        Self::with_clock(store, checkpoint_every, Box::new(SystemClock))
    }

    /// The same with a clock of the caller's.
    pub fn with_clock(
        store: Store,
        checkpoint_every: Duration,
        clock: Box<dyn Clock>,
    ) -> Result<Self, BackendError> {
        let leases = store.leases().map_err(backend)?;
        let lessor = Mutex::new(Lessor::new(leases, checkpoint_every));
        let watches = Arc::new(Watches::new(store.clone()));
        let origin = clock.now();
        // What was compacted before the start may not have been given back: one run finds out.
        let compaction_wanted = watch::Sender::new(store.compacted());
        let compaction_done = watch::Sender::new(Revision::ZERO);
        let inner = Inner {
            store,
            watches,
            lessor,
            usage: OnceLock::new(),
            clock,
            origin,
            compaction_wanted,
            compaction_done,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Reads.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Watches.
    pub fn watches(&self) -> &Arc<Watches> {
        &self.inner.watches
    }

    /// Counts what is under some prefixes from now on; called before anything is applied.
    pub fn count_prefixes(&self, quotas: Vec<PrefixQuota>) -> Result<(), BackendError> {
        let usage = Usage::new(quotas, &self.inner.store).map_err(backend)?;
        // Nobody else sets it.
        let _ = self.inner.usage.set(usage);
        Ok(())
    }

    /// What is under prefixes with a quota.
    pub fn usage(&self) -> Option<&Usage> {
        self.inner.usage.get()
    }

    /// Follows a committed round: events to the watches, leases to the lessor, compaction to the upkeep.
    pub fn publish(&self, changes: Changes) {
        if !changes.leases.is_empty() {
            let now = self.elapsed();
            let mut lessor = self.inner.lessor.lock();
            changes
                .leases
                .iter()
                .for_each(|change| lessor.observe(change, now));
        }
        if let Some(usage) = self.usage() {
            usage.follow(&changes);
        }
        self.inner.watches.publish(&changes);
        if let Some(compacted) = changes.compacted {
            self.inner.compaction_wanted.send_replace(compacted);
        }
    }

    /// Starts over from the store, after its content was replaced by another member's snapshot.
    pub fn reset(&self) -> Result<(), BackendError> {
        let leases = self.inner.store.leases().map_err(backend)?;
        self.inner.lessor.lock().reset(leases);
        self.inner.watches.reset();
        if let Some(usage) = self.usage() {
            usage.recount(&self.inner.store).map_err(backend)?;
        }
        self.inner
            .compaction_wanted
            .send_replace(self.inner.store.compacted());
        Ok(())
    }

    /// This member leads: it counts leases from now on, each with what its checkpoint left it, and `grace`.
    pub fn promote(&self, grace: Duration) {
        let now = self.elapsed();
        self.inner.lessor.lock().promote(now, grace);
    }

    /// This member does not lead: it expires nothing.
    pub fn demote(&self) {
        self.inner.lessor.lock().demote();
    }

    /// Leases whose time left is to go through the log now, in one command.
    pub fn due_checkpoints(&self) -> Vec<(LeaseId, i64)> {
        let now = self.elapsed();
        self.inner.lessor.lock().due_checkpoints(now)
    }

    /// Renews a lease.
    pub fn keep_alive(&self, id: LeaseId) -> KeepAlive {
        let now = self.elapsed();
        self.inner.lessor.lock().keep_alive(id, now)
    }

    /// What a lease has left.
    pub fn lease_ttl(&self, id: LeaseId) -> Option<LeaseTtl> {
        let remaining = self.inner.lessor.lock().remaining(id, self.elapsed())?;
        Some(LeaseTtl {
            granted: remaining.granted,
            remaining: remaining.left,
        })
    }

    /// Leases that are due, for one revocation.
    pub fn expired(&self) -> Vec<LeaseId> {
        let now = self.elapsed();
        self.inner.lessor.lock().expired(now)
    }

    /// Waits until the space below a compacted revision is given back.
    pub async fn compacted_on_disk(&self, revision: Revision) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self
            .inner
            .compaction_done
            .subscribe()
            .wait_for(|done| *done >= revision)
            .await;
    }

    /// The upkeep: brings watchers up from history and gives back compacted space. Runs until `shutdown`.
    pub async fn maintain(self, shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.wait() => {}
            () = self.inner.watches.catch_up() => {}
            () = self.compact() => {}
        }
    }

    async fn compact(&self) {
        let mut wanted = self.inner.compaction_wanted.subscribe();
        wanted.mark_changed();
        while wanted.changed().await.is_ok() {
            let target = *wanted.borrow_and_update();
            match self.compact_to(target).await {
                Ok(()) => {
                    self.inner.compaction_done.send_replace(target);
                }
                // Nothing is lost but space; the next compaction starts over from the oldest row.
                Err(error) => tracing::error!(%error, %target, "cannot give back compacted space"),
            }
        }
    }

    async fn compact_to(&self, target: Revision) -> Result<(), BackendError> {
        let mut compaction = self.inner.store.compaction();
        loop {
            let step = offload(move || {
                let done = compaction.step(COMPACTION_STEP_ROWS);
                (compaction, done)
            });
            let done;
            (compaction, done) = step
                .await
                .map_err(|error| BackendError::new(format!("compact to {target}"), error))?;
            if done? {
                return Ok(());
            }
            tokio::time::sleep(COMPACTION_PAUSE).await;
        }
    }

    fn elapsed(&self) -> Duration {
        self.inner
            .clock
            .now()
            .saturating_duration_since(self.inner.origin)
    }
}

/// Reading rows fails for no other reason.
fn backend(error: Error) -> BackendError {
    match error {
        Error::Backend(error) => error,
        other => BackendError::new("read leases", other),
    }
}
