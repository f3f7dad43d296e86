//! New revisions on their way to the watchers that are up to date.
//! Not those behind; they get theirs by `catch_up`.
//! Invariant: revisions come one by one; a watcher whose buffer is full falls back to history at that very revision.

use std::collections::BTreeSet;

use super::{Hub, SubscriberId, WatcherId, watcher};
use crate::history::RevisionEvents;

impl Hub {
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
}
