//! openraft's log storage on top of the write-ahead log.
//!
//! Decides nothing: it translates calls. Invariant: every write goes into the one ordered stream of the log, so a vote
//! and the entries around it can never become durable in another order than openraft issued them.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::types::{Entry, LogId, TypeConfig, Vote};
use super::wal::Wal;
use crate::offload::offload;

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

/// Entries that are not in memory any more are read where nothing else waits: a slow disk must not hold up heartbeats.
async fn read(wal: &Arc<Wal>, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
    if let Some(entries) = wal.read_cached(range.clone(), max_bytes) {
        return Ok(entries);
    }
    let wal = Arc::clone(wal);
    let read = offload(move || wal.read(range, max_bytes)).await;
    read.map_err(io::Error::other)?
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
        read(&self.wal, start..end, usize::MAX).await
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
                match read(&wal, at..end, READ_BYTES_MAX).await {
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
        read(&self.wal, start..end, READ_BYTES_MAX).await
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use bytes::Bytes;
    use corten_base::tasks::{TaskKind, spawn};
    use openraft::EntryPayload;
    use parking_lot::Mutex;

    use super::*;
    use crate::disk::{Disk, DiskFile, HostDisk};
    use crate::raft::types::Command;
    use crate::raft::wal::WalOptions;

    /// Says when a file is opened, and opens it when told to.
    #[derive(Debug)]
    struct Gated {
        asked: SyncSender<()>,
        open: Mutex<Receiver<()>>,
    }

    impl Disk for Gated {
        fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
            HostDisk.create_dir_all(dir)
        }
        fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
            HostDisk.lock(path)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            HostDisk.list(dir)
        }
        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            HostDisk.create(path)
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.asked.send(()).expect("the test waits");
            self.open.lock().recv().expect("the test opens");
            HostDisk.open(path)
        }
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            HostDisk.read(path)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            HostDisk.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            HostDisk.sync_dir(dir)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_slow_read_of_old_entries_held_up_everything_else() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (asked, is_asked) = sync_channel(1);
        let (open, opens) = sync_channel(1);
        let wal = Wal::open(WalOptions {
            disk: Arc::new(Gated {
                asked,
                open: Mutex::new(opens),
            }),
            cache_bytes: 0,
            ..WalOptions::new(dir.path())
        });
        let wal = Arc::new(wal.expect("open"));
        let entry = Entry {
            log_id: LogId::new_term_index(1, 0),
            payload: EntryPayload::Normal(Command(Bytes::from_static(b"old"))),
        };
        let (done, durable) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(done.send(result)));
        wal.append([entry.clone()], done).expect("accepted");
        durable.await.expect("answered").expect("durable");

        let mut log = LogStore::new(Arc::clone(&wal));
        let reading = spawn("reading", TaskKind::Background, async move {
            log.limited_get_log_entries(0, 1).await
        });
        is_asked.recv().expect("the file is opened");
        // The runtime has one thread: it is either at the disk or here.
        let (beat, beats) = sync_channel(1);
        let _beating = spawn("beating", TaskKind::Background, async move {
            beat.send(()).expect("the test waits");
        });
        let beats = beats.recv_timeout(Duration::from_secs(5));
        open.send(()).expect("the reader waits");
        let read = reading.await.expect("no panic").expect("read");
        assert_eq!(read, vec![entry]);
        beats.expect("others go on meanwhile");
    }
}
