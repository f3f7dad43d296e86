//! The one thread that writes log files.
//!
//! Decides nothing about contents. Invariant: callbacks run only after the `fdatasync` that covers their records, and
//! after the first error every later callback gets an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use corten_base::clock::{Clock as _, SystemClock};
use prometheus_client::metrics::histogram::Histogram;

use super::state::{Batch, Op};
use super::{Done, Shared, segment_path};

/// Runs until the log is closed and its queue is empty.
pub(super) fn run(shared: &Shared, file: File) {
    let mut writer = Writer {
        dir: shared.options.dir.clone(),
        segment_bytes: shared.options.segment_bytes,
        sync_seconds: shared.options.sync_seconds.clone(),
        file,
    };
    while let Some(batch) = next_batch(shared) {
        shared.drained.notify_waiters();
        let Batch { ops, mark } = batch;
        match writer.write(ops) {
            Ok(done) => {
                shared
                    .state
                    .lock()
                    .written(mark, shared.options.cache_bytes);
                for callback in done {
                    callback(Ok(()));
                }
            }
            Err(Failed { error, waiting }) => {
                tracing::error!(%error, "cannot write the log; this member must restart");
                shared.state.lock().fail(error.to_string());
                for callback in waiting {
                    callback(Err(io::Error::new(error.kind(), error.to_string())));
                }
                return refuse_all(shared);
            }
        }
    }
}

fn next_batch(shared: &Shared) -> Option<Batch> {
    let mut state = shared.state.lock();
    loop {
        if let Some(batch) = state.take(&shared.options) {
            return Some(batch);
        }
        if state.is_closed() {
            return None;
        }
        shared.work.wait(&mut state);
    }
}

/// After a failure: answers what was queued before callers could see it.
fn refuse_all(shared: &Shared) {
    while let Some(batch) = next_batch(shared) {
        shared.drained.notify_waiters();
        for op in batch.ops {
            if let Op::Done(callback) = op {
                callback(Err(io::Error::other("the log failed earlier")));
            }
        }
    }
}

struct Writer {
    dir: std::path::PathBuf,
    segment_bytes: u64,
    sync_seconds: Histogram,
    file: File,
}

struct Failed {
    error: io::Error,
    waiting: Vec<Done>,
}

impl Writer {
    /// Writes a batch; the callbacks come back to be called once nothing is locked.
    fn write(&mut self, ops: Vec<Op>) -> Result<Vec<Done>, Failed> {
        let mut waiting = Vec::new();
        let mut dead = Vec::new();
        let mut writes = Writes::default();
        let mut ops = ops.into_iter();
        while let Some(op) = ops.next() {
            let result = match op {
                Op::Write { offset, data } => writes.add(&self.file, offset, &data),
                Op::Rotate { segment } => {
                    writes.flush(&self.file).and_then(|()| self.rotate(segment))
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
        let result = writes.flush(&self.file).and_then(|()| {
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
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "cannot delete an old log file");
            }
        }
        Ok(waiting)
    }

    fn sync(&self) -> io::Result<()> {
        let began = SystemClock.now();
        self.file.sync_data()?;
        let took = SystemClock.now().saturating_duration_since(began);
        self.sync_seconds.observe(took.as_secs_f64());
        Ok(())
    }

    fn rotate(&mut self, segment: u64) -> io::Result<()> {
        self.sync()?;
        self.file = create_segment(&self.dir, segment, self.segment_bytes)?;
        Ok(())
    }
}

/// Creates a segment file with its space reserved, and makes its name durable.
pub(super) fn create_segment(dir: &Path, segment: u64, segment_bytes: u64) -> io::Result<File> {
    let path = segment_path(dir, segment);
    let file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)?;
    reserve(&file, segment_bytes)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Reserves space ahead, so that a sync has less of the file's own bookkeeping to write. Where that is not to be had, the file
/// grows as it is written: a disk that is nearly full must not keep a member from starting, or from writing the deletions that
/// free it.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error @ rustix::io::Errno::NOSPC) => {
            tracing::warn!(%error, bytes, "no space to reserve for the log");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Joins writes that follow each other into one system call.
#[derive(Default)]
struct Writes {
    offset: u64,
    data: Vec<u8>,
}

impl Writes {
    fn add(&mut self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
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

    fn flush(&mut self, file: &File) -> io::Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        file.write_all_at(&self.data, self.offset)?;
        self.offset += self.data.len() as u64;
        self.data.clear();
        Ok(())
    }
}
