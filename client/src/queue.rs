//! A queue of keys for reconcilers: deduplicated, first come first served, never one key in two hands at once, with
//! back-off per key and delayed keys. It holds keys, never reasons. Invariant: a key is in at most one of *ready* and
//! *in hand*; a key added while in hand comes again when it is handed back.
//!
//! Bounded by the number of distinct keys, which is bounded by the objects of the caches that feed it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a queue may hold.
pub trait Key: Clone + Eq + Ord + Hash + Debug + Send + Sync + 'static {}
impl<K: Clone + Eq + Ord + Hash + Debug + Send + Sync + 'static> Key for K {}

/// Back-off of failing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failure; doubles with each further one.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for RetryPolicy {
    /// Quick for a lost race, slow for what is broken for good.
    fn default() -> Self {
        Self {
            min: Duration::from_millis(10),
            max: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    fn delay(&self, failures: u32) -> Duration {
        self.min
            .checked_mul(1 << failures.min(20))
            .unwrap_or(self.max)
            .min(self.max)
    }
}

struct State<K> {
    ready: VecDeque<(K, Instant)>,
    waiting_ready: HashSet<K>,
    in_hand: HashSet<K>,
    /// Added while in hand.
    again: HashSet<K>,
    /// Delayed keys in order of time, and where to find each.
    delayed: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failures: BTreeMap<K, u32>,
    closed: bool,
}

struct Inner<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    policy: RetryPolicy,
}

/// A cheap handle; clones share the queue.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K: Key> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new(RetryPolicy::default())
    }
}

/// A key taken from a queue; handing it back (or dropping it) lets it be taken again.
#[derive(Debug)]
pub struct Taken<K: Key> {
    queue: WorkQueue<K>,
    key: K,
    queued: Duration,
}

impl<K: Key> Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkQueue({} ready)", self.len())
    }
}

impl<K: Key> Taken<K> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// How long it had been ready before it was taken.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// Done for now: forgets the key's failures.
    pub fn succeeded(self) {
        self.queue.forget(&self.key);
    }

    /// Comes again after its back-off. Returns the wait.
    pub fn failed(self) -> Duration {
        self.queue.add_failed(self.key.clone())
    }

    /// Done, and comes again after this time. Forgets the key's failures.
    pub fn again_after(self, delay: Duration) {
        self.queue.forget(&self.key);
        self.queue.add_after(self.key.clone(), delay);
    }
}

impl<K: Key> Drop for Taken<K> {
    fn drop(&mut self) {
        self.queue.hand_back(&self.key);
    }
}

impl<K: Key> WorkQueue<K> {
    /// An empty queue.
    pub fn new(policy: RetryPolicy) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting_ready: HashSet::new(),
            in_hand: HashSet::new(),
            again: HashSet::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failures: BTreeMap::new(),
            closed: false,
        };
        let inner = Inner {
            state: Mutex::new(state),
            changed: Notify::new(),
            policy,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Makes a key ready, unless it is already. A delay that it was under ends.
    pub fn add(&self, key: K) {
        let mut state = self.inner.state.lock();
        state.make_ready(key, Instant::now());
        drop(state);
        self.inner.changed.notify_one();
    }

    /// Makes a key ready after `delay`; of several delays the shortest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.inner.state.lock();
        match state.due.get(&key) {
            Some(due) if *due <= at => return,
            Some(due) => {
                let due = *due;
                state.delayed.remove(&(due, key.clone()));
            }
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.delayed.insert((at, key));
        drop(state);
        self.inner.changed.notify_one();
    }

    /// Makes a key ready after the back-off that its failures so far ask for. Returns the wait.
    pub fn add_failed(&self, key: K) -> Duration {
        let failures = {
            let mut state = self.inner.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        let delay = self.inner.policy.delay(failures);
        self.add_after(key, delay);
        delay
    }

    /// Moves a delayed key to no earlier than `delay` from now; does nothing to a key that is not delayed.
    pub fn postpone(&self, key: &K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.inner.state.lock();
        let Some(due) = state.due.get(key).copied().filter(|due| *due < at) else {
            return;
        };
        state.delayed.remove(&(due, key.clone()));
        state.due.insert(key.clone(), at);
        state.delayed.insert((at, key.clone()));
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often a key failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner
            .state
            .lock()
            .failures
            .get(key)
            .copied()
            .unwrap_or(0)
    }

    /// Keys that are ready.
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys that are in hand now.
    pub fn in_hand(&self) -> usize {
        self.inner.state.lock().in_hand.len()
    }

    /// Ends the queue: [`WorkQueue::take`] returns `None` from now on.
    pub fn close(&self) {
        self.inner.state.lock().closed = true;
        self.inner.changed.notify_waiters();
        self.inner.changed.notify_one();
    }

    /// Takes the next ready key; `None` once the queue is closed. Cancel-safe.
    pub async fn take(&self) -> Option<Taken<K>> {
        loop {
            let changed = self.inner.changed.notified();
            let next_due = {
                let mut state = self.inner.state.lock();
                let now = Instant::now();
                state.release_due(now);
                if state.closed {
                    // Each waiter wakes the next, so that all of them see the end.
                    self.inner.changed.notify_one();
                    return None;
                }
                if let Some((key, since)) = state.pop() {
                    if !state.ready.is_empty() {
                        self.inner.changed.notify_one();
                    }
                    let queued = now.saturating_duration_since(since);
                    return Some(Taken {
                        queue: self.clone(),
                        key,
                        queued,
                    });
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match next_due {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn hand_back(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.in_hand.remove(key);
        if state.again.remove(key) {
            state.make_ready(key.clone(), Instant::now());
        }
        drop(state);
        self.inner.changed.notify_one();
    }
}

impl<K: Key> State<K> {
    fn make_ready(&mut self, key: K, now: Instant) {
        if let Some(due) = self.due.remove(&key) {
            self.delayed.remove(&(due, key.clone()));
        }
        if self.in_hand.contains(&key) {
            self.again.insert(key);
        } else if self.waiting_ready.insert(key.clone()) {
            self.ready.push_back((key, now));
        }
    }

    fn release_due(&mut self, now: Instant) {
        while let Some((at, _)) = self.delayed.first() {
            if *at > now {
                return;
            }
            let Some((at, key)) = self.delayed.pop_first() else {
                return;
            };
            self.due.remove(&key);
            self.make_ready(key, at);
        }
    }

    fn pop(&mut self) -> Option<(K, Instant)> {
        let (key, since) = self.ready.pop_front()?;
        self.waiting_ready.remove(&key);
        self.in_hand.insert(key.clone());
        Some((key, since))
    }
}

#[cfg(test)]
mod tests;
