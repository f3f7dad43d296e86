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

mod index;
mod recent;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};

use corten_proto::etcd::mvccpb::Event;

use crate::{
    history::{Chunk, RevisionEvents},
    ids::Revision,
    span::Span,
};
use index::Index;
use recent::Recent;
pub use watcher::Filters;
use watcher::Watcher;

/// Bytes of one answer, beyond which a watcher that allows it gets fragments: etcd's request limit and some slack.
const FRAGMENT_BYTES: usize = 2 * 1024 * 1024;
/// Watchers brought up in one read of history.
const CATCH_UP_WATCHERS_MAX: usize = 512;

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

/// A read of history that would bring watchers further. Give the result to `supply`.
#[derive(Debug, Clone)]
pub struct CatchUp {
    /// Where the read starts.
    pub from: Revision,
    watchers: Vec<(WatcherId, Revision, Span)>,
}

impl CatchUp {
    /// What is wanted of the history: since when, and which keys.
    pub fn interest(&self) -> Vec<(Revision, &Span)> {
        self.watchers
            .iter()
            .map(|(_, since, span)| (*since, span))
            .collect()
    }
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

    /// Takes the events of new revisions, in order and without gaps. Gives the streams that now have something.
    pub fn publish(&mut self, changes: &[RevisionEvents]) -> Vec<SubscriberId> {
        let mut woken = BTreeSet::new();
        for change in changes {
            assert_eq!(
                change.revision,
                self.revision.next(),
                "revisions must be published one by one"
            );
            self.revision = change.revision;
            self.recent.push(change.clone());
            for id in self.interested(change) {
                self.offer(id, change, &mut woken);
            }
        }
        woken.extend(self.waiting_for_progress());
        woken.into_iter().collect()
    }

    fn interested(&mut self, change: &RevisionEvents) -> BTreeSet<WatcherId> {
        let mut found = BTreeSet::new();
        for event in change.events.iter() {
            if let Some(kv) = &event.kv {
                self.index.find(&kv.key, &mut |id| {
                    found.insert(id);
                });
            }
        }
        found
    }

    fn offer(
        &mut self,
        id: WatcherId,
        change: &RevisionEvents,
        woken: &mut BTreeSet<SubscriberId>,
    ) {
        let Some(watcher) = self.watchers.get_mut(&id).filter(|watcher| watcher.synced) else {
            return;
        };
        if watcher.start > change.revision {
            return;
        }
        match watcher.accept(change) {
            watcher::Accepted::Nothing => {}
            watcher::Accepted::Buffered => self.mark_ready(id, woken),
            watcher::Accepted::Full => {
                watcher.synced = false;
                // Not in `behind` yet: it has no room until it was polled.
                watcher.next = change.revision;
                self.mark_ready(id, woken);
            }
        }
    }

    fn mark_ready(&mut self, id: WatcherId, woken: &mut BTreeSet<SubscriberId>) {
        if let Some(subscriber) = self.subscribers.get_mut(&id.subscriber) {
            subscriber.ready.insert(id.watch);
            woken.insert(id.subscriber);
        }
    }

    fn fall_behind(&mut self, id: WatcherId, next: Revision) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.synced = false;
            watcher.next = next;
            self.behind.insert((next, id));
        }
    }

    /// Notes that revisions below are no longer kept. Watchers that still need them are told by `catch_up`.
    pub fn compact(&mut self, compacted: Revision) {
        self.compacted = self.compacted.max(compacted);
    }

    /// After the state was replaced by a snapshot: events in between come from history, or are compacted.
    pub fn reset(&mut self, revision: Revision, compacted: Revision) {
        let next = self.revision.next();
        self.revision = revision;
        self.compacted = compacted;
        self.recent = Recent::new(revision);
        let synced: Vec<_> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.synced)
            .map(|(id, _)| *id)
            .collect();
        for id in synced {
            let start = self
                .watchers
                .get(&id)
                .map_or(next, |watcher| watcher.start.max(next));
            if start <= revision {
                self.fall_behind(id, start);
            }
        }
    }

    /// Whether some watcher is behind and has room.
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Brings watchers up from recent events, tells those that need what is compacted, and gives the read of history
    /// that the rest need. Streams with something to send are added to `woken`.
    pub fn catch_up(&mut self, woken: &mut BTreeSet<SubscriberId>) -> Option<CatchUp> {
        let mut plan: Option<CatchUp> = None;
        let behind: Vec<_> = self
            .behind
            .iter()
            .copied()
            .take(CATCH_UP_WATCHERS_MAX)
            .collect();
        for (next, id) in behind {
            if next < self.compacted {
                self.behind.remove(&(next, id));
                if let Some(watcher) = self.watchers.get_mut(&id) {
                    watcher.compacted = true;
                }
                self.mark_ready(id, woken);
            } else if self.recent.covers(next) {
                self.bridge(id, woken);
            } else if let Some(watcher) = self.watchers.get(&id) {
                let plan = plan.get_or_insert_with(|| CatchUp {
                    from: next,
                    watchers: Vec::new(),
                });
                plan.watchers.push((id, next, watcher.request.span.clone()));
            }
        }
        woken.extend(self.waiting_for_progress());
        plan
    }

    /// Takes what `catch_up` asked for. History may be ahead of what was published here; that part will come by itself.
    pub fn supply(&mut self, plan: &CatchUp, chunk: &Chunk, woken: &mut BTreeSet<SubscriberId>) {
        let through = chunk.through.min(self.revision);
        for (id, since, _) in &plan.watchers {
            // Cancelled meanwhile, or replaced by another watcher of the same number at another place.
            if !self.behind.contains(&(*since, *id)) || *since > through {
                continue;
            }
            let wanted =
                |change: &&RevisionEvents| change.revision >= *since && change.revision <= through;
            let changes = chunk.events.iter().filter(wanted).cloned().collect();
            self.feed(*id, changes, through, woken);
        }
    }

    fn bridge(&mut self, id: WatcherId, woken: &mut BTreeSet<SubscriberId>) {
        let Some(next) = self.watchers.get(&id).map(|watcher| watcher.next) else {
            return;
        };
        let changes = self.recent.since(next);
        self.feed(id, changes, self.revision, woken);
    }

    /// Gives a watcher that is behind the changes from its `next` through `through`, as far as they fit.
    fn feed(
        &mut self,
        id: WatcherId,
        changes: Vec<RevisionEvents>,
        through: Revision,
        woken: &mut BTreeSet<SubscriberId>,
    ) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        self.behind.remove(&(watcher.next, id));
        let mut buffered = false;
        for change in &changes {
            match watcher.accept(change) {
                watcher::Accepted::Nothing => {}
                watcher::Accepted::Buffered => buffered = true,
                watcher::Accepted::Full => {
                    watcher.next = change.revision;
                    self.mark_ready(id, woken);
                    return;
                }
            }
        }
        watcher.next = through.next();
        if through >= self.revision {
            watcher.synced = true;
        } else {
            self.behind.insert((watcher.next, id));
        }
        if buffered {
            self.mark_ready(id, woken);
        }
    }

    /// Takes what a stream has to send, about `bytes_max` of it. Gives also whether `catch_up` has new work.
    pub fn poll(&mut self, id: SubscriberId, bytes_max: usize) -> (Vec<Output>, bool) {
        let mut out = Vec::new();
        let (mut bytes, mut behind) = (0, false);
        while bytes < bytes_max {
            let Some(watch) = self
                .subscribers
                .get_mut(&id)
                .and_then(|sub| sub.ready.pop_first())
            else {
                break;
            };
            let id = WatcherId {
                subscriber: id,
                watch,
            };
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            bytes += watcher.drain(watch, self.revision, FRAGMENT_BYTES, &mut out);
            if watcher.compacted {
                out.push(Output::Compacted {
                    watch,
                    revision: self.revision,
                    compacted: self.compacted,
                });
                if let Some(subscriber) = self.subscribers.get_mut(&id.subscriber) {
                    subscriber.watchers.remove(&watch);
                }
                self.remove(id);
            } else if !watcher.synced {
                // Empty now, so it has room again.
                behind |= self.behind.insert((watcher.next, id));
            }
        }
        if let Some(revision) = self.progress_of(id) {
            out.push(Output::Progress {
                watch: None,
                revision,
            });
        }
        (out, behind)
    }

    /// A stream wants to know how far it is; answered by `poll` once all its watchers are up to date.
    pub fn request_progress(&mut self, id: SubscriberId) {
        if self.subscribers.contains_key(&id) {
            self.progress_wanted.insert(id);
        }
    }

    fn waiting_for_progress(&self) -> Vec<SubscriberId> {
        let is_due = |id: &&SubscriberId| {
            self.subscribers
                .get(*id)
                .is_some_and(|sub| self.is_up_to_date(**id, sub))
        };
        self.progress_wanted
            .iter()
            .filter(is_due)
            .copied()
            .collect()
    }

    fn is_up_to_date(&self, id: SubscriberId, subscriber: &Subscriber) -> bool {
        subscriber.ready.is_empty()
            && subscriber.watchers.iter().all(|watch| {
                let id = WatcherId {
                    subscriber: id,
                    watch: *watch,
                };
                self.watchers.get(&id).is_some_and(|watcher| watcher.synced)
            })
    }

    fn progress_of(&mut self, id: SubscriberId) -> Option<Revision> {
        let is_due = self.progress_wanted.contains(&id)
            && self.is_up_to_date(id, self.subscribers.get(&id)?);
        if !is_due {
            return None;
        }
        self.progress_wanted.remove(&id);
        Some(self.revision)
    }

    /// Periodic: progress of the watchers of a stream that asked for it and got nothing since the last call.
    pub fn idle_progress(&mut self, id: SubscriberId) -> Vec<Output> {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for watch in &subscriber.watchers {
            let id = WatcherId {
                subscriber: id,
                watch: *watch,
            };
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            if watcher.request.progress_notify && watcher.synced && watcher.is_idle() {
                out.push(Output::Progress {
                    watch: Some(*watch),
                    revision: self.revision,
                });
            }
            watcher.begin_idle();
        }
        out
    }
}
