//! Snapshots that paged lists are still reading.
//!
//! It is not a history of the resource: only revisions at which a page was cut are kept. Invariant: bounded in number,
//! age and bytes; who comes later reads the store at the revision, or gets 410 when that is compacted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Snapshot;
use crate::storage::Revision;

/// Matches the store's compaction: a token lives between one and two of these.
const KEEP_FOR: Duration = Duration::from_secs(300);
/// Each pins at most the objects that changed since.
const SNAPSHOTS_MAX: usize = 64;

/// Snapshots by the revision that their lists show.
#[derive(Default)]
pub(super) struct History {
    kept: VecDeque<Kept>,
}

struct Kept {
    revision: Revision,
    since: Instant,
    /// Bytes that had left the resource by then: the snapshot holds at most what has left it since.
    churn: usize,
    snapshot: Arc<Snapshot>,
}

impl History {
    pub(super) fn keep(
        &mut self,
        revision: Revision,
        snapshot: &Arc<Snapshot>,
        churn: usize,
        now: Instant,
    ) {
        self.expire(now);
        if self.kept.iter().any(|kept| kept.revision == revision) {
            return;
        }
        if self.kept.len() == SNAPSHOTS_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept {
            revision,
            since: now,
            churn,
            snapshot: Arc::clone(snapshot),
        });
    }

    pub(super) fn get(&mut self, revision: Revision, now: Instant) -> Option<Arc<Snapshot>> {
        self.expire(now);
        let found = self.kept.iter().find(|kept| kept.revision == revision);
        found.map(|kept| Arc::clone(&kept.snapshot))
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(first) = self.kept.front()
            && now.duration_since(first.since) > KEEP_FOR
        {
            self.kept.pop_front();
        }
    }

    /// Drops the oldest until what the rest may hold fits; `churn` is what has left the resource by now.
    pub(super) fn shrink(&mut self, churn: usize, bytes_max: usize) {
        while let Some(first) = self.kept.front()
            && churn.saturating_sub(first.churn) > bytes_max
        {
            self.kept.pop_front();
        }
    }
}
