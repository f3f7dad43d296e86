//! One open RocksDB, and views of it.
//!
//! Not responsible for which folder is the state. Invariant: a view keeps its database open; a retired database deletes
//! its folder when the last view of it is gone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use corten_store_core::backend::{BackendError, Batch, Cursor, Keyspace, Read, Result, Size};
use rocksdb::{
    ColumnFamily, DB, DBRawIterator, FlushOptions, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

use super::direct;
use super::held::Held;
use super::options::{RocksOptions, key_part};
use crate::raft::tables::Backlog;
use crate::repair::mark::{self, Damaged};

/// An open database.
pub(super) struct Live {
    pub(super) db: DB,
    pub(super) number: u64,
    path: PathBuf,
    retired: AtomicBool,
    /// Where the folder goes once it is retired; nowhere: it is deleted.
    aside: OnceLock<PathBuf>,
    /// What the engine found wrong with its files.
    damage: OnceLock<String>,
    /// Lets go when this is dropped: after the folder was deleted.
    _tables: Held,
}

impl Live {
    pub(super) fn open(path: &Path, number: u64, options: &RocksOptions) -> Result<Self> {
        // The engine makes a missing folder itself; asking about the one above it is as good.
        let dir = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(path)
        };
        let settings = options.database(direct::is_possible(dir));
        let opened = DB::open_cf_descriptors(&settings, path, options.families());
        let db = opened.map_err(|error| {
            let what = format!("open {}", path.display());
            match mark::is_damage(&error) {
                true => BackendError::new(what, Damaged(error.to_string())),
                false => BackendError::new(what, error),
            }
        })?;
        let damage = OnceLock::new();
        if let Some(what) = mark::get(path) {
            // Found in an earlier life.
            let _ = damage.set(what);
        }
        Ok(Self {
            db,
            number,
            path: path.to_owned(),
            retired: AtomicBool::new(false),
            aside: OnceLock::new(),
            damage,
            _tables: Held::begin(path),
        })
    }

    /// What was found damaged, if anything was.
    pub(super) fn damage(&self) -> Option<String> {
        self.damage.get().cloned()
    }

    /// An error of the engine; damage is remembered, and marked for the next start.
    fn failed<'a>(&'a self, what: &'a str) -> impl FnOnce(rocksdb::Error) -> BackendError + 'a {
        move |error| {
            if mark::is_damage(&error) && self.damage.set(format!("{what}: {error}")).is_ok() {
                tracing::error!(%error, path = %self.path.display(), "the tables are damaged");
                if let Err(error) = mark::set(&self.path, error.as_ref()) {
                    tracing::error!(%error, "cannot mark the damaged tables");
                }
            }
            BackendError::new(what, error)
        }
    }

    /// The folder goes when the last holder goes: to `aside`, or away.
    pub(super) fn retire(&self, aside: Option<PathBuf>) {
        if let Some(aside) = aside {
            // Retired once.
            let _ = self.aside.set(aside);
        }
        self.retired.store(true, Ordering::Relaxed);
    }

    fn family(&self, space: Keyspace) -> &ColumnFamily {
        self.db
            .cf_handle(space.name())
            .expect("every keyspace is opened")
    }

    pub(super) fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self
            .db
            .get_cf(self.family(space), key)
            .map_err(self.failed("read a row"))?;
        Ok(value.map(Bytes::from))
    }

    pub(super) fn write(&self, batch: &Batch) -> Result<()> {
        let mut rows = WriteBatch::default();
        for (space, key, value) in batch.iter() {
            let family = self.family(space);
            match value {
                Some(value) => rows.put_cf(family, key, value),
                None => rows.delete_cf(family, key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db
            .write_opt(rows, &options)
            .map_err(self.failed("write a batch"))
    }

    pub(super) fn flush(&self) -> Result<()> {
        let families: Vec<_> = Keyspace::ALL
            .into_iter()
            .map(|space| self.family(space))
            .collect();
        self.db
            .flush_cfs_opt(&families, &FlushOptions::default())
            .map_err(self.failed("flush"))
    }

    /// Rewrites the tables without what is gone.
    pub(super) fn reclaim(&self) -> Result<()> {
        self.flush()?;
        for space in Keyspace::ALL {
            self.db
                .compact_range_cf(self.family(space), None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    /// A figure of the engine for each keyspace. What cannot be read counts as nothing: figures are for people and quotas.
    fn figures(&self, name: &'static str) -> impl Iterator<Item = u64> {
        Keyspace::ALL.into_iter().map(move |space| {
            self.db
                .property_int_value_cf(self.family(space), name)
                .ok()
                .flatten()
                .unwrap_or(0)
        })
    }

    pub(super) fn size(&self) -> Size {
        let sum = |name| self.figures(name).sum::<u64>();
        let memory = sum("rocksdb.cur-size-all-mem-tables");
        Size {
            allocated: sum("rocksdb.total-sst-files-size") + memory,
            in_use: sum("rocksdb.estimate-live-data-size") + memory,
        }
    }

    pub(super) fn backlog(&self) -> Backlog {
        // The last two are of the whole database, whichever keyspace is asked.
        let most = |name| self.figures(name).max().unwrap_or(0);
        Backlog {
            unmerged: most("rocksdb.num-files-at-level0"),
            bytes: self
                .figures("rocksdb.estimate-pending-compaction-bytes")
                .sum(),
            writes_held_to: most("rocksdb.actual-delayed-write-rate"),
            writes_stopped: most("rocksdb.is-write-stopped") != 0,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if !self.retired.load(Ordering::Relaxed) {
            return;
        }
        // Still open here, and that is fine: the engine writes nothing to a database that nobody holds.
        self.db.cancel_all_background_work(true);
        let gone = match self.aside.get() {
            Some(aside) => std::fs::rename(&self.path, aside),
            None => std::fs::remove_dir_all(&self.path),
        };
        if let Err(error) = gone {
            tracing::warn!(%error, path = %self.path.display(), "cannot clear away a replaced state folder");
        }
    }
}

/// A reader's view: the newest state, or one that is frozen.
pub(super) struct View {
    // Before `live`: fields are dropped in order, and the snapshot must go before its database.
    frozen: Option<Snapshot<'static>>,
    live: Arc<Live>,
}

impl View {
    pub(super) fn newest(live: Arc<Live>) -> Self {
        Self { frozen: None, live }
    }

    pub(super) fn frozen(live: Arc<Live>) -> Self {
        let snapshot = live.db.snapshot();
        #[expect(
            unsafe_code,
            reason = "a snapshot that owns its database cannot be written with a lifetime"
        )]
        // SAFETY: the snapshot borrows the database inside `live`. The `Arc` beside it keeps that database alive and at
        // the same address, and is dropped after the snapshot. The extended lifetime does not leave this type.
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        Self {
            frozen: Some(snapshot),
            live,
        }
    }

    fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = &self.frozen {
            options.set_snapshot(snapshot);
        }
        options
    }

    fn iterator(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<DBRawIterator<'_>>> {
        if to.is_some_and(|to| to <= from) {
            return Ok(None);
        }
        let mut options = self.read_options();
        // Unless told otherwise, RocksDB takes a scan for one within the prefix of its start.
        options.set_total_order_seek(true);
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut rows = self
            .live
            .db
            .raw_iterator_cf_opt(self.live.family(space), options);
        rows.seek(from);
        rows.status().map_err(self.live.failed("scan"))?;
        Ok(Some(rows))
    }

    /// The first row of a range. Within the versions of one key, filters tell most files that have none.
    pub(super) fn first(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>> {
        let mut options = self.read_options();
        match to {
            Some(to) if to <= from => return Ok(None),
            Some(to) => options.set_iterate_upper_bound(to),
            None => {}
        }
        match is_one_key(space, from, to) {
            true => options.set_prefix_same_as_start(true),
            false => options.set_total_order_seek(true),
        }
        let family = self.live.family(space);
        let mut rows = self.live.db.raw_iterator_cf_opt(family, options);
        rows.seek(from);
        rows.status().map_err(self.live.failed("look up a row"))?;
        let copied = rows
            .item()
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(copied)
    }

    /// A cursor that keeps this view alive.
    pub(super) fn into_cursor(
        self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<OwnedRows> {
        let rows = self.iterator(space, from, to)?;
        #[expect(
            unsafe_code,
            reason = "a cursor that owns its view cannot be written with a lifetime"
        )]
        // SAFETY: as in `frozen`: the iterator borrows the database and the snapshot, both kept by the boxed view that
        // is stored beside it and dropped after it.
        let rows = rows.map(|rows| unsafe {
            std::mem::transmute::<DBRawIterator<'_>, DBRawIterator<'static>>(rows)
        });
        Ok(OwnedRows {
            rows: Rows {
                rows,
                live: Arc::clone(&self.live),
            },
            _view: self,
        })
    }
}

/// Whether a range ends with the versions of the key that it begins in: `to` is what they begin with, counted up.
fn is_one_key(space: Keyspace, from: &[u8], to: Option<&[u8]>) -> bool {
    let key = key_part(from);
    let counted_up = |to: &[u8]| match (to.split_last(), key.split_last()) {
        (Some((end, to)), Some((last, key))) => to == key && last.checked_add(1) == Some(*end),
        _ => false,
    };
    space == Keyspace::Key && to.is_some_and(counted_up)
}

impl Read for View {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self
            .live
            .db
            .get_cf_opt(self.live.family(space), key, &self.read_options())
            .map_err(self.live.failed("read a row"))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Box<dyn Cursor + '_>> {
        Ok(Box::new(Rows {
            rows: self.iterator(space, from, to)?,
            live: Arc::clone(&self.live),
        }))
    }

    fn first(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>> {
        View::first(self, space, from, to)
    }
}

/// A cursor over a view that lives elsewhere.
struct Rows<'a> {
    /// `None` is an empty range.
    rows: Option<DBRawIterator<'a>>,
    /// Hears of damage. After the rows: dropped last.
    live: Arc<Live>,
}

/// A cursor with its view.
pub(super) struct OwnedRows {
    // Before the view: dropped first.
    rows: Rows<'static>,
    _view: View,
}

impl Cursor for Rows<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.rows.as_ref().and_then(|rows| rows.key())
    }

    fn value(&self) -> &[u8] {
        self.rows
            .as_ref()
            .and_then(|rows| rows.value())
            .unwrap_or_default()
    }

    fn advance(&mut self) -> Result<()> {
        self.step(|rows| rows.next())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.step(|rows| {
            if rows.key().is_some_and(|at| at < key) {
                rows.seek(key);
            }
        })
    }
}

impl Rows<'_> {
    fn step(&mut self, step: impl FnOnce(&mut DBRawIterator<'_>)) -> Result<()> {
        let Some(rows) = &mut self.rows else {
            return Ok(());
        };
        // Moving an iterator that is at its end is undefined in RocksDB.
        if rows.valid() {
            step(rows);
        }
        rows.status().map_err(self.live.failed("scan"))
    }
}

impl Cursor for OwnedRows {
    fn key(&self) -> Option<&[u8]> {
        self.rows.key()
    }

    fn value(&self) -> &[u8] {
        self.rows.value()
    }

    fn advance(&mut self) -> Result<()> {
        self.rows.advance()
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.rows.seek(key)
    }
}
