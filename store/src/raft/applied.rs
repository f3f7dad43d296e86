//! How far this member has applied the log, who waits for it to get further, and who the members are as of it.
//!
//! Not a queue of work. Invariant: a waiter is woken once, when its index is reached, and not by every step before.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::types::StoredMembership;

/// Shared by the apply thread (writer) and everybody who needs to see its effects.
#[derive(Clone, Default)]
pub(crate) struct AppliedIndex {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// One past the last applied index, so that zero means nothing.
    next: u64,
    waiters: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    closed: bool,
    membership: Arc<StoredMembership>,
}

impl AppliedIndex {
    /// The last applied index, if any entry was applied.
    pub(crate) fn get(&self) -> Option<u64> {
        self.inner.lock().next.checked_sub(1)
    }

    /// Everything up to `index` is applied and visible. Never moves back.
    pub(crate) fn advance(&self, index: u64) {
        let mut inner = self.inner.lock();
        inner.next = inner.next.max(index + 1);
        let later = inner.waiters.split_off(&(index + 1));
        let reached = std::mem::replace(&mut inner.waiters, later);
        drop(inner);
        for waiter in reached.into_values().flatten() {
            // A waiter that gave up does not mind.
            let _ = waiter.send(());
        }
    }

    /// The last membership that was applied: committed, and so for good. Empty before the first.
    pub(crate) fn membership(&self) -> Arc<StoredMembership> {
        Arc::clone(&self.inner.lock().membership)
    }

    /// This membership is applied; its index is named afterwards.
    pub(crate) fn set_membership(&self, membership: StoredMembership) {
        self.inner.lock().membership = Arc::new(membership);
    }

    /// Nothing will be applied any more: waiters get an error.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.waiters.clear();
    }

    /// Waits until `index` is applied; an error means that the member has stopped.
    pub(crate) async fn reached(&self, index: u64) -> Result<(), Stopped> {
        let waiter = {
            let mut inner = self.inner.lock();
            if index < inner.next {
                return Ok(());
            }
            if inner.closed {
                return Err(Stopped);
            }
            let (waiter, woken) = oneshot::channel();
            inner.waiters.entry(index).or_default().push(waiter);
            woken
        };
        waiter.await.map_err(|_| Stopped)
    }
}

/// The apply thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the member has stopped")]
pub(crate) struct Stopped;

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn waiters_are_woken_when_their_index_is_reached() {
        let applied = AppliedIndex::default();
        assert_eq!(applied.get(), None);
        let mut fifth = Box::pin(applied.reached(5));
        let mut ninth = Box::pin(applied.reached(9));
        assert!((&mut fifth).now_or_never().is_none());
        assert!((&mut ninth).now_or_never().is_none());
        applied.advance(7);
        assert_eq!((&mut fifth).now_or_never(), Some(Ok(())));
        assert!((&mut ninth).now_or_never().is_none());
        applied.advance(3);
        assert_eq!(applied.get(), Some(7));
        applied.close();
        assert_eq!(ninth.await, Err(Stopped));
        assert_eq!(applied.reached(8).await, Err(Stopped));
        assert_eq!(applied.reached(7).await, Ok(()));
    }
}
