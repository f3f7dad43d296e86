//! What a stream has to send: events, refusals that came late, progress.
//! Not the sending itself, and no waiting: a stream is woken when there is something.
//! Invariant: progress of a stream is told only when all its watchers are up to date and nothing of them is buffered.

use super::{Hub, Output, Subscriber, SubscriberId, WatcherId};
use crate::ids::Revision;

/// Bytes of one answer, beyond which a watcher that allows it gets fragments: etcd's request limit and some slack.
const FRAGMENT_BYTES: usize = 2 * 1024 * 1024;

impl Hub {
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

    pub(super) fn waiting_for_progress(&self) -> Vec<SubscriberId> {
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
                let found = self.watchers.get(&id);
                found.is_some_and(|watcher| watcher.has_all_until(self.revision))
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
            let is_due = watcher.request.progress_notify && watcher.is_idle();
            if is_due && watcher.has_all_until(self.revision) {
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
