//! The stream of changes of a cache. Invariant: a subscriber sees the state at its subscription and then every change
//! exactly once, in order; its channel is bounded, and a full channel makes the reflector wait.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

/// Changes that a subscriber may be behind before the reflector waits for it.
const BACKLOG: usize = 4_096;

/// One change of a cache.
#[derive(Debug)]
pub enum Change<T> {
    /// The object is new (or was there when the subscription began).
    Added(Arc<T>),
    /// The object changed.
    Updated {
        /// Before.
        old: Arc<T>,
        /// After.
        new: Arc<T>,
    },
    /// The object went away; its last known state.
    Deleted(Arc<T>),
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(object) => Self::Added(Arc::clone(object)),
            Self::Updated { old, new } => Self::Updated {
                old: Arc::clone(old),
                new: Arc::clone(new),
            },
            Self::Deleted(object) => Self::Deleted(Arc::clone(object)),
        }
    }
}

impl<T> Change<T> {
    /// The newest state that the change tells.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => {
                object
            }
        }
    }

    /// Whether the object went away.
    pub fn is_removed(&self) -> bool {
        matches!(self, Self::Deleted(_))
    }

    /// The state before, if there was one and it differs.
    pub fn old(&self) -> Option<&Arc<T>> {
        match self {
            Self::Updated { old, .. } => Some(old),
            Self::Added(_) | Self::Deleted(_) => None,
        }
    }
}

/// A subscription.
#[derive(Debug)]
pub struct Changes<T> {
    current: VecDeque<Arc<T>>,
    receiver: mpsc::Receiver<Change<T>>,
}

impl<T> Changes<T> {
    /// The next change; `None` when the cache stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change<T>> {
        match self.current.pop_front() {
            Some(object) => Some(Change::Added(object)),
            None => self.receiver.recv().await,
        }
    }

    /// The next change if it is already there.
    pub fn try_next(&mut self) -> Option<Change<T>> {
        match self.current.pop_front() {
            Some(object) => Some(Change::Added(object)),
            None => self.receiver.try_recv().ok(),
        }
    }
}

/// Who is to hear of changes.
pub(super) struct Subscribers<T> {
    /// Replaced as a whole, so that a delivery keeps the set of its moment.
    senders: Arc<[mpsc::Sender<Change<T>>]>,
}

impl<T> Default for Subscribers<T> {
    fn default() -> Self {
        Self {
            senders: Arc::new([]),
        }
    }
}

impl<T> Subscribers<T> {
    pub(super) fn add(&mut self, current: VecDeque<Arc<T>>) -> Changes<T> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.senders = self
            .senders
            .iter()
            .filter(|sender| !sender.is_closed())
            .cloned()
            .chain([sender])
            .collect();
        Changes { current, receiver }
    }

    pub(super) fn delivery(&self, changes: Vec<Change<T>>) -> Delivery<T> {
        Delivery {
            senders: Arc::clone(&self.senders),
            changes,
        }
    }
}

/// Changes on their way to those who had subscribed when they happened. Must be delivered in the order of creation.
#[must_use]
pub(super) struct Delivery<T> {
    senders: Arc<[mpsc::Sender<Change<T>>]>,
    changes: Vec<Change<T>>,
}

impl<T> Delivery<T> {
    pub(super) fn nothing() -> Self {
        Self {
            senders: Arc::new([]),
            changes: Vec::new(),
        }
    }

    /// Waits for room at each subscriber; one that is gone is passed over.
    pub(super) async fn deliver(self) {
        for change in &self.changes {
            for sender in self.senders.iter() {
                let _ = sender.send(change.clone()).await;
            }
        }
    }
}
