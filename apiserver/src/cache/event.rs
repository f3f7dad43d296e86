//! One change of one object, and the bytes of its encodings, made once for all watchers.
//!
//! It does not know who watches. Invariant: at least one of `new` and `old` is set; an encoding, once made, never changes; and
//! its bytes are counted in the budget as long as anybody holds it, and in its ring's sum as long as the ring does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Item;
use super::budget::Budget;
use crate::storage::Revision;

/// How a change looks to a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

/// What an event was sent as, and its bytes.
type Encoded = ((EventType, u64), Bytes);

impl EventType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Event {
    pub revision: Revision,
    /// The state after the change; none: deleted.
    pub new: Option<Arc<Item>>,
    /// The state before it; none: created.
    pub old: Option<Arc<Item>>,
    /// When it was observed; decides how long it is remembered.
    pub(super) seen: Instant,
    made: Mutex<Made>,
    budget: Arc<Budget>,
}

/// What an event costs beside its object, without the old state.
const OVERHEAD: usize = 256;

#[derive(Debug, Default)]
struct Made {
    encodings: SmallVec<[Encoded; 1]>,
    bytes: usize,
    /// The sum of the ring that remembers the event.
    ring: Option<Arc<AtomicUsize>>,
}

impl Event {
    pub(super) fn new(
        revision: Revision,
        new: Option<Arc<Item>>,
        old: Option<Arc<Item>>,
        seen: Instant,
        budget: &Arc<Budget>,
    ) -> Self {
        let event = Self {
            revision,
            new,
            old,
            seen,
            made: Mutex::default(),
            budget: Arc::clone(budget),
        };
        budget.take(event.base());
        event
    }

    /// The item that names and places the object.
    pub fn subject(&self) -> &Arc<Item> {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("an event is about an object before or after it")
    }

    /// The object's bytes as an event of this type shows them: the last state for a deletion.
    pub fn object(&self, kind: EventType) -> Bytes {
        match (kind, &self.new, &self.old) {
            (EventType::Deleted, _, Some(old)) => {
                self.encoded(EventType::Deleted, 0, || old.json_at(self.revision))
            }
            (_, Some(new), _) => new.json.clone(),
            _ => self.subject().json.clone(),
        }
    }

    /// The bytes of one encoding, made by the first watcher that needs them. `encoding` names it and must not be 0.
    pub fn encoded(&self, kind: EventType, encoding: u64, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut made = self.made.lock();
        let known = made
            .encodings
            .iter()
            .find(|(key, _)| *key == (kind, encoding));
        if let Some((_, bytes)) = known {
            return bytes.clone();
        }
        let bytes = make();
        made.encodings.push(((kind, encoding), bytes.clone()));
        made.bytes += bytes.len();
        self.budget.take(bytes.len());
        if let Some(ring) = &made.ring {
            ring.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        bytes
    }

    /// What it costs to keep: the new state is counted by the snapshot, or as the old state of the next event.
    fn base(&self) -> usize {
        self.old.as_ref().map_or(0, |old| old.json.len()) + OVERHEAD
    }

    /// What it costs one watcher to wait for it: never less than what will be sent.
    pub(super) fn weight(&self) -> usize {
        self.subject().json.len() + OVERHEAD
    }

    /// A ring begins to remember it, and counts it from now on.
    pub(super) fn remember(&self, ring: &Arc<AtomicUsize>) {
        let mut made = self.made.lock();
        ring.fetch_add(self.base() + made.bytes, Ordering::Relaxed);
        made.ring = Some(Arc::clone(ring));
    }

    /// The ring forgets it; others may hold it still.
    pub(super) fn forget(&self) {
        let mut made = self.made.lock();
        if let Some(ring) = made.ring.take() {
            ring.fetch_sub(self.base() + made.bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.forget();
        let made = self.made.get_mut().bytes;
        self.budget.give(self.base() + made);
    }
}
