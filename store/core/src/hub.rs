//! The watch hub: who watches what, and what each still has to get.
//! Not here: tasks, streams, locks; reading history (`Store::history`), which the shell does between two calls.
//! Invariant: a watcher gets every event of its span from its start on exactly once, in order of revisions, whole
//! revisions at a time; when its buffer is full it falls back to history instead of growing.
//!
//! ```text
//!   publish ─▶ recent (bounded) ─┬─▶ synced watcher: buffer ─▶ poll
//!                                │        │ full
//!                                │        ▼
//!   Store::history ─▶ supply ────┴─▶ behind watcher: buffer ─▶ poll
//! ```

mod catch_up;
mod index;
mod outgoing;
mod publish;
mod recent;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};

use corten_proto::etcd::mvccpb::Event;

use crate::{ids::Revision, span::Span};
pub use catch_up::CatchUp;
use index::Index;
use recent::Recent;
pub use watcher::Filters;
use watcher::Watcher;

/// One client stream; it may carry many watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u64);

/// One watcher. The watch id is unique within its stream only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId {
    /// Its stream.
    pub subscriber: SubscriberId,
    /// Its number on the stream.
    pub watch: i64,
}

/// What a client asks to watch.
#[derive(Debug, Clone)]
pub struct Request {
    /// The keys.
    pub span: Span,
    /// First revision wanted; zero: from now on.
    pub start: Revision,
    /// Kinds of events not wanted.
    pub filters: Filters,
    /// Whether events carry what the key was before.
    pub prev_kv: bool,
    /// Whether an idle watcher is told the revision now and then.
    pub progress_notify: bool,
    /// Whether a large answer may be cut.
    pub fragment: bool,
}

/// Why a watcher was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The client's own number is taken.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    /// The range covers nothing.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The stream was closed.
    #[error("mvcc: watch stream is closed")]
    Closed,
}

/// Something to send on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Events of a watcher.
    Events {
        /// The watcher.
        watch: i64,
        /// Revision up to which the hub has seen everything.
        revision: Revision,
        /// In order; `prev_kv` is already dropped where it is not wanted.
        events: Vec<Event>,
        /// More of the same answer follows.
        fragment: bool,
    },
    /// The watcher starts before what is kept, and is gone.
    Compacted {
        /// The watcher.
        watch: i64,
        /// Newest revision.
        revision: Revision,
        /// Oldest revision that can be watched.
        compacted: Revision,
    },
    /// Everything up to the revision was sent: of one watcher, or (none) of the whole stream.
    Progress {
        /// The watcher, or the stream.
        watch: Option<i64>,
        /// The revision.
        revision: Revision,
    },
}

#[derive(Debug, Default)]
struct Subscriber {
    watchers: BTreeSet<i64>,
    next_watch: i64,
    /// Watchers that have something to send.
    ready: BTreeSet<i64>,
}

/// All watchers of a member.
#[derive(Debug)]
pub struct Hub {
    revision: Revision,
    compacted: Revision,
    subscribers: BTreeMap<SubscriberId, Subscriber>,
    watchers: BTreeMap<WatcherId, Watcher>,
    next_subscriber: u64,
    /// Watchers that are behind and have room, by what they need next.
    behind: BTreeSet<(Revision, WatcherId)>,
    /// Streams that asked for their progress and have not been told.
    progress_wanted: BTreeSet<SubscriberId>,
    index: Index,
    recent: Recent,
}

impl Hub {
    /// A hub for a state at this revision.
    pub fn new(revision: Revision, compacted: Revision) -> Self {
        Self {
            revision,
            compacted,
            subscribers: BTreeMap::new(),
            watchers: BTreeMap::new(),
            next_subscriber: 0,
            behind: BTreeSet::new(),
            progress_wanted: BTreeSet::new(),
            index: Index::default(),
            recent: Recent::new(revision),
        }
    }

    /// The revision up to which events were published.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Number of watchers.
    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// Opens a stream.
    pub fn subscribe(&mut self) -> SubscriberId {
        let id = SubscriberId(self.next_subscriber);
        self.next_subscriber += 1;
        self.subscribers.insert(id, Subscriber::default());
        id
    }

    /// Closes a stream with all its watchers.
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.remove(&id) else {
            return;
        };
        self.progress_wanted.remove(&id);
        for watch in subscriber.watchers {
            self.remove(WatcherId {
                subscriber: id,
                watch,
            });
        }
    }

    /// Adds a watcher; `watch` 0 lets the hub number it. Gives its number.
    pub fn watch(
        &mut self,
        id: SubscriberId,
        watch: i64,
        request: Request,
    ) -> Result<i64, Refused> {
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return Err(Refused::Closed);
        };
        if request.span.is_empty() {
            return Err(Refused::EmptyRange);
        }
        let watch = if watch != 0 {
            watch
        } else {
            while subscriber.watchers.contains(&subscriber.next_watch) {
                subscriber.next_watch += 1;
            }
            // Never given twice, so that a late answer of a cancelled watcher cannot be taken for another's.
            subscriber.next_watch += 1;
            subscriber.next_watch - 1
        };
        if !subscriber.watchers.insert(watch) {
            return Err(Refused::DuplicateId);
        }
        let id = WatcherId {
            subscriber: id,
            watch,
        };
        let next = self.revision.next();
        let start = if request.start == Revision::ZERO {
            next
        } else {
            request.start
        };
        self.index.insert(&request.span, id);
        self.watchers
            .insert(id, Watcher::new(request, start, start >= next));
        if start < next {
            self.fall_behind(id, start);
        }
        Ok(watch)
    }

    /// Removes a watcher. Gives whether it was there.
    pub fn cancel(&mut self, id: SubscriberId, watch: i64) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return false;
        };
        subscriber.ready.remove(&watch);
        let known = subscriber.watchers.remove(&watch);
        self.remove(WatcherId {
            subscriber: id,
            watch,
        });
        known
    }

    fn remove(&mut self, id: WatcherId) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.behind.remove(&(watcher.next, id));
            self.index.remove(&watcher.request.span, id);
        }
    }

    fn mark_ready(&mut self, id: WatcherId, woken: &mut BTreeSet<SubscriberId>) {
        if let Some(subscriber) = self.subscribers.get_mut(&id.subscriber) {
            subscriber.ready.insert(id.watch);
            woken.insert(id.subscriber);
        }
    }
}
