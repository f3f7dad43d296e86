//! The last few revisions, so that a watcher that is nearly up to date needs no read of history.
//! Not a cache of the store: bounded by count and bytes, whatever happens.
//! Invariant: holds every revision from its first to the hub's newest.

use std::collections::VecDeque;

use crate::{history::RevisionEvents, ids::Revision};

const REVISIONS_MAX: usize = 4096;
const BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Recent {
    changes: VecDeque<RevisionEvents>,
    bytes: usize,
    /// First revision that is covered.
    first: Revision,
}

impl Recent {
    /// Empty, after `revision`.
    pub(super) fn new(revision: Revision) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            first: revision.next(),
        }
    }

    pub(super) fn push(&mut self, change: RevisionEvents) {
        self.bytes += change.bytes;
        self.changes.push_back(change);
        while self.changes.len() > REVISIONS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
            self.first = oldest.revision.next();
        }
    }

    pub(super) fn covers(&self, revision: Revision) -> bool {
        revision >= self.first
    }

    /// Changes from a covered revision on.
    pub(super) fn since(&self, revision: Revision) -> Vec<RevisionEvents> {
        let skip = self
            .changes
            .partition_point(|change| change.revision < revision);
        self.changes.range(skip..).cloned().collect()
    }
}
