//! Watchers that are behind: brought up from recent events, from history, or told that it is too late.
//! Not the reading of history; the shell does that between `catch_up` and `supply`.
//! Invariant: a watcher is in `behind` exactly when it is not synced, has room, and is not told that it is too late.

use std::collections::BTreeSet;

use super::{Hub, Recent, SubscriberId, WatcherId, watcher};
use crate::{
    history::{Chunk, RevisionEvents},
    ids::Revision,
    span::Span,
};

/// Watchers brought up in one read of history.
const CATCH_UP_WATCHERS_MAX: usize = 512;

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

impl Hub {
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

    pub(super) fn fall_behind(&mut self, id: WatcherId, next: Revision) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.synced = false;
            watcher.next = next;
            self.behind.insert((next, id));
        }
    }
}
