//! What one watcher sees: the initial state if it asks for it, then its selection's view of the events.
//!
//! It does not encode. Invariant: an object that enters the selection is ADDED, one that leaves it is DELETED with its last
//! selected state, and a bookmark's revision never lies behind an event that was not delivered.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::hub::Message;
use super::{Error, Event, EventType, Item, ResourceCache, Selection};
use crate::storage::Revision;

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchStart {
    /// Existing objects as ADDED, then changes.
    State,
    /// Only changes after this revision.
    After(Revision),
}

/// One thing to tell a watcher.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// An object that existed when the watch began.
    Initial(Arc<Item>),
    /// A change.
    Event(EventType, Arc<Event>),
    /// Nothing else has happened up to this revision.
    Bookmark {
        revision: Revision,
        /// All initial objects have been sent.
        initial_end: bool,
    },
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    selection: Selection,
    initial: VecDeque<Arc<Item>>,
    /// Sent once after the initial objects.
    initial_end: Option<Revision>,
    replay: VecDeque<Arc<Event>>,
    queue: mpsc::Receiver<Message>,
    last: Revision,
}

impl Watch {
    /// Starts watching. `observed` is the revision the caches have reached, for the initial state's bookmark.
    pub fn open(
        cache: &ResourceCache,
        selection: Selection,
        start: WatchStart,
        observed: Revision,
    ) -> Result<Self, Error> {
        let since = match start {
            WatchStart::State => None,
            WatchStart::After(revision) => Some(revision),
        };
        let subscription = cache.subscribe(&selection, since)?;
        let mut initial = VecDeque::new();
        let mut initial_end = None;
        if since.is_none() {
            let snapshot = &subscription.snapshot;
            let items = snapshot.range(selection.namespace.as_deref(), None);
            initial = items
                .filter(|item| selection.matches(item))
                .cloned()
                .collect();
            initial_end = Some(observed.max(snapshot.revision));
        }
        Ok(Self {
            selection,
            initial,
            initial_end,
            replay: subscription.replay,
            queue: subscription.queue,
            last: since.unwrap_or_default(),
        })
    }

    /// The next thing to tell; none when the watcher was too slow or the cache had to start over. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        if let Some(item) = self.initial.pop_front() {
            return Some(Delivery::Initial(item));
        }
        if let Some(revision) = self.initial_end.take() {
            self.last = revision;
            return Some(Delivery::Bookmark {
                revision,
                initial_end: true,
            });
        }
        loop {
            let event = match self.replay.pop_front() {
                Some(event) => event,
                None => match self.queue.recv().await? {
                    Message::Event(event) => event,
                    Message::Progress(revision) => {
                        self.last = self.last.max(revision);
                        return Some(Delivery::Bookmark {
                            revision: self.last,
                            initial_end: false,
                        });
                    }
                },
            };
            self.last = self.last.max(event.revision);
            if let Some(kind) = self.view(&event) {
                return Some(Delivery::Event(kind, event));
            }
        }
    }

    /// Whether something can be delivered without waiting.
    pub fn has_more(&self) -> bool {
        !self.initial.is_empty()
            || self.initial_end.is_some()
            || !self.replay.is_empty()
            || !self.queue.is_empty()
    }

    /// The revision up to which everything has been delivered.
    pub fn revision(&self) -> Revision {
        self.last
    }

    fn view(&self, event: &Event) -> Option<EventType> {
        let selected = |item: &Option<Arc<Item>>| {
            item.as_ref()
                .is_some_and(|item| self.selection.matches(item))
        };
        match (selected(&event.old), selected(&event.new)) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }
}
