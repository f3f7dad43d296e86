//! The storage engine on RocksDB: one column family per keyspace, written without RocksDB's own log.
//!
//! Not responsible for durability of single writes: the Raft log is. A flush is atomic over all column families, and a
//! batch carries the applied position with its rows; so after a crash the state is that of some position, whole, and
//! the log replays the rest. Invariant: the folder named in `CURRENT` is the state; switching to another one is one
//! rename, and a folder that is not named is deleted once the one that is named was found.

mod current;
mod direct;
mod held;
mod live;
mod options;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use corten_store_core::backend::{
    Backend, BackendError, Batch, Cursor, Keyspace, Read, Result, Size,
};
use parking_lot::RwLock;

use crate::raft::snapshot::{SnapshotDir, sync_dir};
use crate::raft::tables::{Backlog, Tables};
use crate::repair::mark;
#[cfg(test)]
pub(crate) use current::settle as settle_for_tests;
use current::{current, set_current, state_path};
use live::{Live, View};
pub(crate) use options::RocksOptions;

/// The open engine.
pub(crate) struct Rocks {
    dir: PathBuf,
    options: RocksOptions,
    /// `None` once closed.
    live: RwLock<Option<Arc<Live>>>,
}

fn failed(what: impl Into<String>) -> impl FnOnce(rocksdb::Error) -> BackendError {
    let what = what.into();
    move |error| BackendError::new(what, error)
}

fn io_failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> BackendError {
    let what = what.into();
    move |error| BackendError::new(what, error)
}

impl Rocks {
    /// Opens or creates the state under `dir`, and clears away folders that are not it.
    pub(crate) fn open(dir: &Path, options: RocksOptions) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(io_failed("create the state folder"))?;
        let number = current::settle(dir)?;
        let live = Live::open(&state_path(dir, number), number, &options)?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            live: RwLock::new(Some(Arc::new(live))),
        })
    }

    /// What a mark says on the tables of a folder that is not open. They may open and answer all the same.
    pub(crate) fn marked(dir: &Path) -> Option<String> {
        let number = current(dir).ok().flatten();
        let inner = number.and_then(|number| mark::get(&state_path(dir, number)));
        inner.or_else(|| mark::get(dir))
    }

    /// Marks the tables of a folder that is not open. The mark goes when they do, whoever replaces them.
    pub(crate) fn mark(dir: &Path, what: &str) -> io::Result<()> {
        let number = current(dir).ok().flatten();
        let inner = number.map(|number| state_path(dir, number));
        match inner.filter(|path| path.is_dir()) {
            Some(path) => mark::set(&path, what),
            None => mark::set(dir, what),
        }
    }

    /// Makes a snapshot the state of a folder that `open` then opens.
    pub(crate) fn make_of(dir: &Path, snapshot: &SnapshotDir) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::rename(snapshot.path(), state_path(dir, 1))?;
        snapshot.keep();
        set_current(dir, 1)?;
        sync_dir(dir)
    }

    /// The state of a folder that is not open, as a snapshot to install.
    pub(crate) fn snapshot_of(dir: &Path) -> io::Result<SnapshotDir> {
        let number = current(dir)?.unwrap_or(1);
        Ok(SnapshotDir::new(state_path(dir, number)))
    }

    fn put(&self, snapshot: &SnapshotDir, aside: Option<PathBuf>) -> Result<()> {
        let number = self.live()?.number + 1;
        let path = state_path(&self.dir, number);
        let what = "install a snapshot";
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BackendError::new(what, error));
            }
            _ => {}
        }
        std::fs::rename(snapshot.path(), &path).map_err(io_failed(what))?;
        snapshot.keep();
        sync_dir(&self.dir).map_err(io_failed(what))?;
        // Opened before it becomes the state: a snapshot that does not open leaves the old state in place.
        let live = Live::open(&path, number, &self.options)?;
        set_current(&self.dir, number).map_err(io_failed(what))?;
        if let Some(old) = self.live.write().replace(Arc::new(live)) {
            old.retire(aside);
        }
        Ok(())
    }

    fn live(&self) -> Result<Arc<Live>> {
        let live = self.live.read().clone();
        live.ok_or_else(|| BackendError::corrupt("the store is closed"))
    }
}

impl Tables for Rocks {
    fn close(&self) {
        self.live.write().take();
    }

    fn flush(&self) -> Result<()> {
        self.live()?.flush()
    }

    fn checkpoint(&self, target: &SnapshotDir) -> Result<()> {
        let live = self.live()?;
        live.flush()?;
        rocksdb::checkpoint::Checkpoint::new(&live.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(target.path()))
            .map_err(failed("create a checkpoint"))
    }

    fn install(&self, snapshot: &SnapshotDir) -> Result<()> {
        self.put(snapshot, None)
    }

    fn replace(&self, snapshot: &SnapshotDir, aside: PathBuf) -> Result<()> {
        self.put(snapshot, Some(aside))
    }

    fn backlog(&self) -> Backlog {
        self.live().map(|live| live.backlog()).unwrap_or_default()
    }

    fn damage(&self) -> Option<String> {
        self.live().ok()?.damage()
    }
}

impl Read for Rocks {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.live()?.get(space, key)
    }

    fn scan(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Box<dyn Cursor + '_>> {
        let cursor = View::newest(self.live()?).into_cursor(space, from, to)?;
        Ok(Box::new(cursor))
    }

    fn first(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>> {
        View::newest(self.live()?).first(space, from, to)
    }
}

impl Backend for Rocks {
    fn snapshot(&self) -> Box<dyn Read + Send + '_> {
        match self.live() {
            Ok(live) => Box::new(View::frozen(live)),
            Err(_) => Box::new(Closed),
        }
    }

    fn write(&self, batch: Batch) -> Result<()> {
        self.live()?.write(&batch)
    }

    fn size(&self) -> Size {
        self.live().map(|live| live.size()).unwrap_or_default()
    }

    fn reclaim(&self) -> Result<()> {
        self.live()?.reclaim()
    }
}

/// What a reader gets that comes after the end.
struct Closed;

impl Read for Closed {
    fn get(&self, _: Keyspace, _: &[u8]) -> Result<Option<Bytes>> {
        Err(BackendError::corrupt("the store is closed"))
    }

    fn scan(&self, _: Keyspace, _: &[u8], _: Option<&[u8]>) -> Result<Box<dyn Cursor + '_>> {
        Err(BackendError::corrupt("the store is closed"))
    }
}
