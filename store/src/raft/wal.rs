//! The write-ahead log of one member: votes, log entries, commit positions, in one ordered stream of records.
//!
//! Not a Raft: it stores what it is told, in the order it is told. One thread writes: it takes everything that is
//! queued, writes it, calls `fdatasync` once, and then completes all callbacks; so proposals in flight share one sync
//! and a lone proposal waits for nothing. (raft-log 0.4, the alternative, has a fixed linger: measured with 2 KiB
//! entries, its 50 us linger gave 182 appends/s at one in flight where no linger gave 503, and no linger gave it 534/s
//! at 128 in flight where lingering gave 23,548.)
//!
//! ```text
//!  append / save_vote ──▶ State (index, cache, encoded bytes) ──▶ flusher thread ──▶ NNNN.wal
//!                             ▲ readable at once                       │ after fdatasync
//!                          readers                                     └─▶ callbacks
//! ```
//!
//! Invariant: after a failed write or sync nothing is ever reported durable again; the process must restart.

mod flusher;
mod record;
mod recover;
mod state;
#[cfg(test)]
mod tests;
mod under_way;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::histogram::Histogram;
use prost::Message;

use super::codec;
use super::types::{Entry, LogId, Vote};
use crate::disk::{Disk, DiskFile, HostDisk};
use crate::metrics::Metrics;
pub(crate) use flusher::Flusher;
use state::{Fetched, Location, State};
pub(crate) use under_way::UnderWay;

/// Called with the result of the write that it was handed in with, on the flusher thread: must not block.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Sizes of a log; the defaults suit a member that has a few hundred MiB to spare.
#[derive(Debug, Clone)]
pub(crate) struct WalOptions {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    /// A new file is begun beyond this size. Space is given back in units of this.
    pub(crate) segment_bytes: u64,
    /// Entries kept in memory for replication and apply; older ones are read back from the files.
    pub(crate) cache_bytes: usize,
    /// Gets the seconds of each sync.
    pub(crate) sync_seconds: Histogram,
    /// Is told while the disk is waited for.
    pub(crate) under_way: UnderWay,
}

impl WalOptions {
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            disk: Arc::new(HostDisk),
            segment_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            sync_seconds: Metrics::default().wal_fsync,
            under_way: UnderWay::default(),
        }
    }
}

/// The log cannot be opened, and why.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system refused something.
    #[error("log folder {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file of another version, whole as it is.
    #[error("log file {file} is of format {format}, which this version does not know")]
    Format {
        /// The file.
        file: PathBuf,
        /// What it says.
        format: u32,
    },
    /// A file that was complete once does not read back: the disk lost data.
    #[error("log file {file} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What was expected.
        what: String,
    },
}

/// Queued bytes beyond which appends wait for the disk, so that a slow disk shows as latency and not as memory.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// Handle on the open log; cheap to share behind an `Arc`.
pub(crate) struct Wal {
    shared: Arc<Shared>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as this process may write: two writers would destroy the log.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

struct Shared {
    options: WalOptions,
    state: Mutex<State>,
    /// Signalled when there is something to write, or the log is closing.
    work: Condvar,
    /// Signalled when the queue was taken.
    drained: tokio::sync::Notify,
}

impl Wal {
    /// Opens or creates the log in `options.dir`, and starts its flusher thread.
    pub(crate) fn open(options: WalOptions) -> Result<Wal, WalError> {
        let dir = options.dir.clone();
        let (wal, flusher) = Wal::prepare(options)?;
        let thread = std::thread::Builder::new()
            .name("wal-flush".to_owned())
            .spawn(move || flusher.run())
            .map_err(|source| WalError::Io { dir, source })?;
        *wal.flusher.lock() = Some(thread);
        Ok(wal)
    }

    /// Opens or creates the log; nothing is written until the flusher runs.
    pub(crate) fn prepare(options: WalOptions) -> Result<(Wal, Flusher), WalError> {
        let io_error = |source| WalError::Io {
            dir: options.dir.clone(),
            source,
        };
        let disk = &options.disk;
        disk.create_dir_all(&options.dir).map_err(io_error)?;
        let lock = disk.lock(&options.dir.join("LOCK")).map_err(io_error)?;
        let (state, file) = recover::recover(&options)?;
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(state),
            work: Condvar::new(),
            drained: tokio::sync::Notify::new(),
        });
        let flusher = Flusher::new(Arc::clone(&shared), file);
        let wal = Wal {
            shared,
            flusher: Mutex::new(None),
            lock: Mutex::new(Some(lock)),
        };
        Ok((wal, flusher))
    }

    /// Last purged and last entry.
    pub(crate) fn bounds(&self) -> (Option<LogId>, Option<LogId>) {
        let state = self.shared.state.lock();
        (state.purged, state.last())
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        self.shared.state.lock().vote
    }

    pub(crate) fn committed(&self) -> Option<LogId> {
        self.shared.state.lock().committed
    }

    /// Bytes in log files, for deciding when a snapshot is due.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.shared.state.lock().disk_bytes()
    }

    /// Waits until the queue has room.
    pub(crate) async fn room(&self) {
        loop {
            let notified = self.shared.drained.notified();
            if self.shared.state.lock().queued_bytes() < QUEUED_BYTES_MAX {
                return;
            }
            notified.await;
        }
    }

    /// Adds entries after the last one; readable on return, durable when `done` is called with `Ok`.
    pub(crate) fn append(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        done: Done,
    ) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.check()?;
        for entry in entries {
            state.append(entry, &self.shared.options)?;
        }
        state.sync(done);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Records the vote; `done` is called once it is durable.
    pub(crate) fn save_vote(&self, vote: Vote, done: Done) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.check()?;
        state.save_vote(vote, &self.shared.options);
        state.sync(done);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Notes the commit position; written along with the next thing that is written, never synced for its own sake.
    pub(crate) fn save_committed(&self, committed: Option<LogId>) {
        self.shared.state.lock().save_committed(committed);
    }

    /// Removes every entry after `last`, ordered before whatever is appended next.
    pub(crate) fn truncate_after(&self, last: Option<LogId>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.check()?;
        state.truncate_after(last, &self.shared.options);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Removes every entry up to `upto`, and files that hold nothing else.
    pub(crate) fn purge(&self, upto: LogId) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.check()?;
        if state.puts_off(upto) {
            return Ok(());
        }
        state.purge(upto, &self.shared.options);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Keeps the entries that there are for somebody who needs them, until what is given here is dropped. One at a time.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.shared.state.lock().hold();
        Held(Arc::clone(self))
    }

    /// What `read` gives, if no file is needed for it.
    pub(crate) fn read_cached(&self, range: Range<u64>, max_bytes: usize) -> Option<Vec<Entry>> {
        let fetched = self.shared.state.lock().fetch(range, max_bytes);
        let cached = |item| match item {
            Fetched::Cached(entry) => Some(entry),
            Fetched::OnDisk(_) => None,
        };
        fetched.into_iter().map(cached).collect()
    }

    /// The entries of `range` that exist, in order, up to about `max_bytes` of commands but at least one. Blocks while the
    /// disk is read.
    pub(crate) fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let fetched = self.shared.state.lock().fetch(range, max_bytes);
        let mut entries = Vec::with_capacity(fetched.len());
        let mut reader = ColdReader {
            options: &self.shared.options,
            open: None,
        };
        for item in fetched {
            entries.push(match item {
                Fetched::Cached(entry) => entry,
                Fetched::OnDisk(location) => reader.read(&location)?,
            });
        }
        Ok(entries)
    }
}

impl Wal {
    /// Writes what is queued and refuses everything after; returns when the files are at rest.
    pub(crate) fn close(&self) {
        self.shared.state.lock().close();
        self.shared.work.notify_one();
        if let Some(thread) = self.flusher.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the log's flusher thread panicked");
        }
        self.lock.lock().take();
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

/// Entries are kept, whatever is purged meanwhile, as long as this lives.
pub(crate) struct Held(Arc<Wal>);

impl Drop for Held {
    fn drop(&mut self) {
        let put_off = self.0.shared.state.lock().let_go();
        if let Some(upto) = put_off
            && let Err(error) = self.0.purge(upto)
        {
            tracing::debug!(%error, "a purge that was put off");
        }
    }
}

/// Reads single entries back from the files; remembers the file of the last one.
struct ColdReader<'a> {
    options: &'a WalOptions,
    open: Option<(u64, Box<dyn DiskFile>)>,
}

impl ColdReader<'_> {
    fn read(&mut self, location: &Location) -> io::Result<Entry> {
        let path = segment_path(&self.options.dir, location.segment);
        let payload = self
            .payload(&path, location)
            .map_err(|error| in_file(&path, &error))?;
        let payload = payload.ok_or_else(|| {
            let at = location.offset;
            let error = format!("the entry at byte {at} does not match its checksum");
            in_file(&path, &io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        decode_entry(payload).map_err(|error| in_file(&path, &error))
    }

    /// The bytes of an entry; `None` when they are not what was written.
    fn payload(&mut self, path: &Path, location: &Location) -> io::Result<Option<Bytes>> {
        if self
            .open
            .as_ref()
            .is_none_or(|(segment, _)| *segment != location.segment)
        {
            let file = self.options.disk.open(path)?;
            self.open = Some((location.segment, file));
        }
        let (_, file) = self.open.as_ref().expect("opened above");
        let mut data = vec![0; location.len as usize];
        file.read_exact_at(&mut data, location.offset)?;
        Ok(record::parse_lone(&Bytes::from(data), location.chain))
    }
}

fn decode_entry(payload: Bytes) -> io::Result<Entry> {
    let message = corten_proto::corten::store::v1::LogEntry::decode(payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    codec::entry(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// An error that says where.
fn in_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016x}.wal"))
}
