//! The one thread that writes log files.
//!
//! Decides nothing about contents. Invariant: callbacks run only after the `fdatasync` that covers their records, and
//! after the first error every later callback gets an error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::clock::{Clock as _, SystemClock};
use prometheus_client::metrics::histogram::Histogram;

use super::state::{Batch, Op};
use super::{Done, Shared, in_file, segment_path};
use crate::disk::{Disk, DiskFile};

/// Writes the log's files; one thread's own.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    writer: Writer,
    failed: bool,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, file: Box<dyn DiskFile>) -> Self {
        let options = &shared.options;
        let segment = shared.state.lock().segment();
        let writer = Writer {
            path: segment_path(&options.dir, segment),
            slow: Slow::default(),
            dir: options.dir.clone(),
            disk: Arc::clone(&options.disk),
            segment_bytes: options.segment_bytes,
            sync_seconds: options.sync_seconds.clone(),
            file,
        };
        Self {
            shared,
            writer,
            failed: false,
        }
    }

    /// Runs until the log is closed and its queue is empty.
    pub(super) fn run(mut self) {
        while self.wait() {
            self.turn();
        }
    }

    /// Waits for something to write; false: there will be nothing any more.
    fn wait(&self) -> bool {
        let mut state = self.shared.state.lock();
        loop {
            if state.has_work() {
                return true;
            }
            if state.is_closed() {
                return false;
            }
            self.shared.work.wait(&mut state);
        }
    }

    /// Writes what is queued.
    pub(crate) fn turn(&mut self) {
        let Some(batch) = self.shared.state.lock().take(&self.shared.options) else {
            return;
        };
        self.shared.drained.notify_waiters();
        let Batch { ops, mark } = batch;
        if self.failed {
            return refuse(ops);
        }
        self.shared.options.under_way.begin();
        let written = self.writer.write(ops);
        self.shared.options.under_way.end();
        match written {
            Ok(done) => {
                let cache_bytes = self.shared.options.cache_bytes;
                self.shared.state.lock().written(mark, cache_bytes);
                for callback in done {
                    callback(Ok(()));
                }
            }
            Err(Failed { error, waiting }) => {
                tracing::error!(%error, "cannot write the log; this member must restart");
                self.failed = true;
                self.shared.state.lock().fail(error.to_string());
                for callback in waiting {
                    callback(Err(io::Error::new(error.kind(), error.to_string())));
                }
            }
        }
    }
}

/// After a failure: answers what was queued before callers could see it.
fn refuse(ops: Vec<Op>) {
    for op in ops {
        if let Op::Done(callback) = op {
            callback(Err(io::Error::other("the log failed earlier")));
        }
    }
}

/// A sync that takes longer is told in the log: so does etcd, from as many seconds on.
const SLOW: Duration = Duration::from_secs(1);
/// Between two such lines, so that a slow disk does not get the log to write as well.
const SLOW_EVERY: Duration = Duration::from_secs(10);

/// Tells of slow syncs, now and then.
#[derive(Default)]
struct Slow {
    told: Option<Instant>,
    untold: u32,
}

impl Slow {
    fn notice(&mut self, took: Duration, now: Instant, path: &Path) {
        if took < SLOW {
            return;
        }
        let lately = |told| now.saturating_duration_since(told) < SLOW_EVERY;
        if self.told.is_some_and(lately) {
            self.untold += 1;
            return;
        }
        let others = std::mem::take(&mut self.untold);
        self.told = Some(now);
        tracing::warn!(?took, others, path = %path.display(), "a sync of the log was slow");
    }
}

struct Writer {
    /// Of the file that is written to.
    path: PathBuf,
    slow: Slow,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    sync_seconds: Histogram,
    file: Box<dyn DiskFile>,
}

struct Failed {
    error: io::Error,
    waiting: Vec<Done>,
}

impl Writer {
    /// Writes a batch; the callbacks come back to be called once nothing is locked.
    fn write(&mut self, ops: Vec<Op>) -> Result<Vec<Done>, Failed> {
        self.write_all(ops).map_err(|failed| Failed {
            error: in_file(&self.path, &failed.error),
            waiting: failed.waiting,
        })
    }

    fn write_all(&mut self, ops: Vec<Op>) -> Result<Vec<Done>, Failed> {
        let mut waiting = Vec::new();
        let mut dead = Vec::new();
        let mut writes = Writes::default();
        let mut ops = ops.into_iter();
        while let Some(op) = ops.next() {
            let result = match op {
                Op::Write { offset, data } => writes.add(self.file.as_ref(), offset, &data),
                Op::Rotate { segment } => {
                    let flushed = writes.flush(self.file.as_ref());
                    flushed.and_then(|()| self.rotate(segment))
                }
                Op::Done(done) => {
                    waiting.push(done);
                    Ok(())
                }
                Op::Delete(segments) => {
                    dead.extend(segments);
                    Ok(())
                }
            };
            if let Err(error) = result {
                // No callback may be dropped unanswered.
                waiting.extend(ops.filter_map(|op| match op {
                    Op::Done(done) => Some(done),
                    _ => None,
                }));
                return Err(Failed { error, waiting });
            }
        }
        let result = writes.flush(self.file.as_ref()).and_then(|()| {
            if waiting.is_empty() && dead.is_empty() {
                Ok(())
            } else {
                self.sync()
            }
        });
        if let Err(error) = result {
            return Err(Failed { error, waiting });
        }
        for segment in dead {
            let path = segment_path(&self.dir, segment);
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(%error, path = %path.display(), "cannot delete an old log file");
            }
        }
        Ok(waiting)
    }

    fn sync(&mut self) -> io::Result<()> {
        let began = SystemClock.now();
        self.file.sync_data()?;
        let now = SystemClock.now();
        let took = now.saturating_duration_since(began);
        self.sync_seconds.observe(took.as_secs_f64());
        self.slow.notice(took, now, &self.path);
        Ok(())
    }

    fn rotate(&mut self, segment: u64) -> io::Result<()> {
        self.sync()?;
        self.path = segment_path(&self.dir, segment);
        self.file = create_segment(self.disk.as_ref(), &self.dir, segment, self.segment_bytes)?;
        Ok(())
    }
}

/// Creates a segment file with its space reserved, and makes its name durable.
pub(super) fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    segment: u64,
    segment_bytes: u64,
) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.create(&segment_path(dir, segment))?;
    file.reserve(segment_bytes)?;
    file.sync_all()?;
    disk.sync_dir(dir)?;
    Ok(file)
}

/// Joins writes that follow each other into one system call.
#[derive(Default)]
struct Writes {
    offset: u64,
    data: Vec<u8>,
}

impl Writes {
    fn add(&mut self, file: &dyn DiskFile, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset != self.offset + self.data.len() as u64 {
            self.flush(file)?;
            self.offset = offset;
        }
        if self.data.is_empty() {
            self.offset = offset;
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn flush(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        file.write_all_at(&self.data, self.offset)?;
        self.offset += self.data.len() as u64;
        self.data.clear();
        Ok(())
    }
}
