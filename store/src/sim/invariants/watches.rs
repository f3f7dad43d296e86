//! A watcher is shown every revision once, in order, over all restarts of its member.
//!
//! etcd's watch guarantees: ordered, unique, reliable, atomic. Every write of the workload touches one key, so revisions
//! follow each other without gaps.

use super::Verdict;
use crate::sim::client::Change;

/// How far a watcher is.
#[derive(Debug)]
pub(in crate::sim) struct Progress {
    next: i64,
}

impl Progress {
    /// A watcher from a revision on.
    pub(in crate::sim) fn from(next: i64) -> Self {
        Self { next }
    }

    /// The revision that it must be shown next.
    pub(in crate::sim) fn next(&self) -> i64 {
        self.next
    }

    /// It was shown a change.
    pub(in crate::sim) fn show(&mut self, change: &Change) -> Verdict {
        if change.revision != self.next {
            let next = self.next;
            return Err(format!("{change:?} was shown where {next} is next"));
        }
        self.next += 1;
        Ok(())
    }
}
