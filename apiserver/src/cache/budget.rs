//! How much the watch cache may remember beyond the present objects, and what becomes of the watchers that are furthest behind
//! when it is too much.
//!
//! It holds no events: rings and mailboxes do, and are counted here. Invariant: bytes are counted once however many watchers
//! wait for them, from the moment an event is made until the last holder lets it go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::mailbox::Mailbox;

/// Bounds in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Old states and encodings that all resources together remember.
    pub history: usize,
    /// The same for one resource, so that one busy kind does not take the memory of all others.
    pub history_of_one: usize,
    /// What only waiting watchers still hold, all together.
    pub waiting: usize,
    /// What may wait for one watcher.
    pub waiting_of_one: usize,
    /// Objects that have changed since a page of a list was cut, and are kept for its further pages, per resource.
    pub pages: usize,
}

/// The default budget, in bytes.
const BUDGET: usize = 256 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self::of_budget(BUDGET)
    }
}

impl Limits {
    /// Half for history, half for what waits; no resource and no watcher takes more than an eighth of the whole.
    pub fn of_budget(bytes: usize) -> Self {
        Self {
            history: bytes / 2,
            history_of_one: bytes / 8,
            waiting: bytes / 2,
            waiting_of_one: bytes / 8,
            pages: bytes / 8,
        }
    }
}

/// What is held, and by whom.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limits: Limits,
    /// Bytes of all events that somebody holds, rings included.
    live: AtomicUsize,
    /// Bytes of objects that left the present state, ever.
    churn: AtomicUsize,
    /// The same when all watchers were looked at last.
    looked_at: AtomicUsize,
    watchers: Mutex<HashMap<u64, Weak<Mailbox>>>,
    next: AtomicU64,
    /// Watchers that were cut because their queue was full.
    pub(super) cut_slow: AtomicU64,
    /// Watchers that were cut because all together held too much.
    pub(super) cut_for_room: AtomicU64,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            live: AtomicUsize::new(0),
            churn: AtomicUsize::new(0),
            looked_at: AtomicUsize::new(0),
            watchers: Mutex::default(),
            next: AtomicU64::new(0),
            cut_slow: AtomicU64::new(0),
            cut_for_room: AtomicU64::new(0),
        }
    }

    pub(super) fn take(&self, bytes: usize) {
        self.live.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of events that somebody holds.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn churned(&self, bytes: usize) {
        self.churn.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many watchers there are.
    pub(super) fn watchers(&self) -> usize {
        self.watchers.lock().len()
    }

    /// A number for a new watcher.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn enter(&self, mailbox: &Arc<Mailbox>) {
        self.watchers
            .lock()
            .insert(mailbox.number, Arc::downgrade(mailbox));
    }

    pub(super) fn leave(&self, number: u64) {
        self.watchers.lock().remove(&number);
    }

    /// Cuts the watchers that are furthest behind until what only they hold fits. `history` is what the rings hold.
    pub(super) fn press(&self, history: usize) {
        let over = |budget: &Self| budget.live().saturating_sub(history) > budget.limits.waiting;
        let churn = self.churn.load(Ordering::Relaxed);
        let since = churn.saturating_sub(self.looked_at.load(Ordering::Relaxed));
        // Looking at all watchers costs; without pressure nobody is looked at.
        if !over(self) && since < self.limits.waiting / 4 {
            return;
        }
        self.looked_at.store(churn, Ordering::Relaxed);
        let mut behind: Vec<Arc<Mailbox>> = self
            .watchers
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        behind.retain(|mailbox| {
            let stale = mailbox.initial_holds_at_most() > self.limits.waiting;
            if stale {
                self.cut(mailbox);
            }
            !stale
        });
        if !over(self) {
            return;
        }
        behind.sort_by_key(|mailbox| mailbox.oldest());
        for mailbox in behind {
            if !over(self) {
                return;
            }
            self.cut(&mailbox);
        }
    }

    fn cut(&self, mailbox: &Mailbox) {
        if mailbox.cut() {
            self.cut_for_room.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                watcher = mailbox.number,
                "a watcher is too far behind and has to list again: the cache's budget is used up"
            );
        }
    }
}
