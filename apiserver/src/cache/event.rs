//! One change of one object, and the bytes of its encodings, made once for all watchers.
//!
//! It does not know who watches. Invariant: at least one of `new` and `old` is set, and an encoding, once made, never
//! changes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Item;
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
    encodings: Mutex<SmallVec<[Encoded; 1]>>,
}

impl Event {
    pub(super) fn new(
        revision: Revision,
        new: Option<Arc<Item>>,
        old: Option<Arc<Item>>,
        seen: Instant,
    ) -> Self {
        Self {
            revision,
            new,
            old,
            seen,
            encodings: Mutex::new(SmallVec::new()),
        }
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
        let mut encodings = self.encodings.lock();
        if let Some((_, bytes)) = encodings.iter().find(|(key, _)| *key == (kind, encoding)) {
            return bytes.clone();
        }
        let bytes = make();
        encodings.push(((kind, encoding), bytes.clone()));
        bytes
    }

    pub(super) fn bytes(&self) -> usize {
        // The new state is counted by the snapshot, or as the old state of the next event.
        self.old.as_ref().map_or(0, |old| old.json.len()) + 256
    }
}
