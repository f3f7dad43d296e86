//! The watch hub in its shell: a lock around it, wake-ups for streams, reads of history for those behind.
//! Not the protocol of the Watch service, and no decision about who gets what.
//! Invariant: the lock is never held over a read of history or an await.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use corten_store_core::hub::{Hub, Output, Refused, Request, SubscriberId};
use corten_store_core::{Changes, Error, Revision, Store};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::offload::offload;

/// All watches of a member.
pub struct Watches {
    store: Store,
    state: Mutex<State>,
    /// Some watcher is behind.
    behind: Notify,
}

struct State {
    hub: Hub,
    wakers: HashMap<SubscriberId, Arc<Notify>>,
}

impl State {
    fn wake(&self, woken: impl IntoIterator<Item = SubscriberId>) {
        for id in woken {
            if let Some(waker) = self.wakers.get(&id) {
                waker.notify_one();
            }
        }
    }
}

/// One client's stream of watches. Dropping it cancels them.
pub struct Subscription {
    watches: Arc<Watches>,
    id: SubscriberId,
    waker: Arc<Notify>,
}

impl Watches {
    pub(super) fn new(store: Store) -> Self {
        let hub = Hub::new(store.revision(), store.compacted());
        Self {
            store,
            state: Mutex::new(State {
                hub,
                wakers: HashMap::new(),
            }),
            behind: Notify::new(),
        }
    }

    /// Opens a stream.
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        let waker = Arc::new(Notify::new());
        let mut state = self.state.lock();
        let id = state.hub.subscribe();
        state.wakers.insert(id, Arc::clone(&waker));
        Subscription {
            watches: Arc::clone(self),
            id,
            waker,
        }
    }

    /// Number of watchers, for metrics.
    pub fn count(&self) -> usize {
        self.state.lock().hub.watchers()
    }

    pub(super) fn publish(&self, changes: &Changes) {
        let mut state = self.state.lock();
        if let Some(compacted) = changes.compacted {
            state.hub.compact(compacted);
        }
        let woken = state.hub.publish(&changes.events);
        state.wake(woken);
    }

    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        state
            .hub
            .reset(self.store.revision(), self.store.compacted());
        drop(state);
        self.behind.notify_one();
    }

    /// Serves watchers that are behind, for ever. Cancel-safe: what was read and not supplied is read again.
    pub(super) async fn catch_up(self: &Arc<Self>) {
        loop {
            self.behind.notified().await;
            if let Err(error) = self.catch_up_all().await {
                tracing::error!(%error, "cannot read history for watchers");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                self.behind.notify_one();
            }
        }
    }

    async fn catch_up_all(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let mut woken = BTreeSet::new();
            let plan = {
                let mut state = self.state.lock();
                let plan = state.hub.catch_up(&mut woken);
                state.wake(woken);
                if plan.is_none() && !state.hub.is_behind() {
                    return Ok(());
                }
                plan
            };
            let Some(plan) = plan else { continue };
            let store = self.store.clone();
            let read = offload(move || {
                let chunk = store.history(plan.from, &plan.interest());
                (plan, chunk)
            });
            // A panic in the read is a bug; it is not to be hidden by trying again.
            let (plan, chunk) = read.await.expect("reading history does not panic");
            let mut state = self.state.lock();
            match chunk {
                Ok(chunk) => {
                    let mut woken = BTreeSet::new();
                    state.hub.supply(&plan, &chunk, &mut woken);
                    state.wake(woken);
                }
                Err(Error::Compacted) => state.hub.compact(self.store.compacted()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Subscription {
    /// Adds a watcher; 0 lets the hub number it. Gives its number and the present revision.
    pub fn watch(&self, watch: i64, request: Request) -> Result<(i64, Revision), Refused> {
        let mut state = self.watches.state.lock();
        let watch = state.hub.watch(self.id, watch, request)?;
        let revision = state.hub.revision();
        if state.hub.is_behind() {
            self.watches.behind.notify_one();
        }
        Ok((watch, revision))
    }

    /// Removes a watcher; false if there is none of that number.
    pub fn cancel(&self, watch: i64) -> bool {
        self.watches.state.lock().hub.cancel(self.id, watch)
    }

    /// Asks for the revision up to which everything was sent; `poll` gives it when it is so.
    pub fn request_progress(&self) {
        self.watches.state.lock().hub.request_progress(self.id);
        self.waker.notify_one();
    }

    /// Returns when `poll` may have something. Cancel-safe.
    pub async fn ready(&self) {
        self.waker.notified().await;
    }

    /// Takes what is to be sent now. If it is not empty, there may be more.
    pub fn poll(&self, bytes_max: usize) -> Vec<Output> {
        let (out, behind) = self.watches.state.lock().hub.poll(self.id, bytes_max);
        if behind {
            self.watches.behind.notify_one();
        }
        out
    }

    /// Progress of idle watchers that want it; to be called at intervals.
    pub fn idle_progress(&self) -> Vec<Output> {
        self.watches.state.lock().hub.idle_progress(self.id)
    }

    /// Revision up to which watches have seen everything.
    pub fn revision(&self) -> Revision {
        self.watches.state.lock().hub.revision()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.watches.state.lock();
        state.hub.unsubscribe(self.id);
        state.wakers.remove(&self.id);
    }
}
