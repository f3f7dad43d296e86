//! What one watcher sees: the initial state if it asks for it, then its selection's view of the events.
//!
//! It does not encode. Invariant: an object that enters the selection is ADDED, one that leaves it is DELETED with its last
//! selected state, and a bookmark's revision never lies behind an event that was not delivered.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::Budget;
use super::mailbox::{Mailbox, Message, Next};
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
    mailbox: Arc<Mailbox>,
    budget: Arc<Budget>,
    last: Revision,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.mailbox.cut();
        self.budget.leave(self.mailbox.number);
    }
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
        // Made first: whatever happens below, the budget forgets the watcher with it.
        let watch = Self {
            selection,
            mailbox: subscription.mailbox,
            budget: Arc::clone(cache.budget()),
            last: since.unwrap_or_default(),
        };
        if since.is_none() {
            let snapshot = &subscription.snapshot;
            let items = snapshot.candidates(&watch.selection, None);
            let initial: VecDeque<Arc<Item>> = items
                .filter(|item| watch.selection.matches(item))
                .cloned()
                .collect();
            let end = observed.max(snapshot.revision);
            watch.mailbox.begin_with(initial, end);
        }
        Ok(watch)
    }

    /// The next thing to tell; none when the watcher was too slow or the cache had to start over. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let event = match self.mailbox.take().await? {
                Next::Initial(item) => return Some(Delivery::Initial(item)),
                Next::InitialEnd(revision) => {
                    self.last = revision;
                    return Some(Delivery::Bookmark {
                        revision,
                        initial_end: true,
                    });
                }
                Next::Message(Message::Progress(revision)) => {
                    self.last = self.last.max(revision);
                    return Some(Delivery::Bookmark {
                        revision: self.last,
                        initial_end: false,
                    });
                }
                Next::Message(Message::Event(event)) => event,
            };
            self.last = self.last.max(event.revision);
            if let Some(kind) = self.view(&event) {
                return Some(Delivery::Event(kind, event));
            }
        }
    }

    /// Whether something can be delivered without waiting.
    pub fn has_more(&self) -> bool {
        self.mailbox.has_more()
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
