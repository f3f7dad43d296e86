//! openraft's log storage on top of the write-ahead log.
//!
//! Decides nothing: it translates calls. Invariant: every write goes into the one ordered stream of the log, so a vote
//! and the entries around it can never become durable in another order than openraft issued them.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::types::{Entry, LogId, TypeConfig, Vote};
use super::wal::Wal;

/// Commands in one replication message, so that heartbeats and small writes are not stuck behind a huge one.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log as openraft sees it; clones share one log.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Arc<Wal>,
}

impl LogStore {
    pub(crate) fn new(wal: Arc<Wal>) -> Self {
        Self { wal }
    }
}

/// A range as first index and end, exclusive.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end + 1,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.wal.read(start..end, usize::MAX)
    }

    /// In chunks, so that applying a long tail does not hold all of it in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let wal = Arc::clone(&self.wal);
        let (start, end) = bounds(&range);
        let chunks = stream::unfold(Some(start), move |at| {
            let wal = Arc::clone(&wal);
            async move {
                let at = at.filter(|at| *at < end)?;
                match wal.read(at..end, READ_BYTES_MAX) {
                    Ok(entries) if entries.is_empty() => None,
                    Ok(entries) => {
                        let next = at + entries.len() as u64;
                        Some((entries.into_iter().map(Ok).collect::<Vec<_>>(), Some(next)))
                    }
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        });
        Box::pin(chunks.flat_map(stream::iter))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.wal.read(start..end, READ_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.wal.vote())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let (last_purged_log_id, last_log_id) = self.wal.bounds();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, durable) = tokio::sync::oneshot::channel();
        self.wal
            .save_vote(*vote, Box::new(|result| drop(done.send(result))))?;
        durable
            .await
            .map_err(|_| io::Error::other("the log stopped before the vote was durable"))?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.wal.save_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        // A position beyond the log would make openraft replay entries that are not there; it is only a hint, so drop it.
        let (_, last) = self.wal.bounds();
        Ok(self
            .wal
            .committed()
            .filter(|committed| Some(*committed) <= last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter();
        self.wal.room().await;
        self.wal
            .append(entries, Box::new(|result| callback.io_completed(result)))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.wal.truncate_after(last_log_id)
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.wal.purge(log_id)
    }
}
