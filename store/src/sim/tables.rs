//! The tables of a simulated host: rows in memory, with what a crash would leave of them.
//!
//! Stands for RocksDB, of which the store asks only this: batches become durable whole, in order, at the latest with the
//! next flush. Invariant: a crash leaves the rows of one batch, not older than the last flush.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use corten_store_core::backend::{
    Backend, BackendError, Batch, Cursor, Keyspace, Read, Result, Size,
};
use corten_store_core::memory::MemoryBackend;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use super::disk::SimDisk;
use crate::raft::snapshot::SnapshotDir;
use crate::raft::tables::{Backlog, Tables};

/// The one file of a snapshot.
const ROWS: &str = "rows";

type Rows = BTreeMap<(Keyspace, Bytes), Bytes>;

/// What is on the disk, and what would follow.
#[derive(Default)]
pub(super) struct Platter {
    flushed: Rows,
    written: Vec<Batch>,
}

impl Platter {
    /// Decides how much of what was not flushed is there after all. Gives what is.
    pub(super) fn crash(&mut self, rng: &mut StdRng) {
        let keep = rng.random_range(0..=self.written.len());
        self.written.truncate(keep);
        self.flush();
    }

    fn flush(&mut self) {
        for batch in self.written.drain(..) {
            apply(&mut self.flushed, &batch);
        }
    }
}

fn apply(rows: &mut Rows, batch: &Batch) {
    for (space, key, value) in batch.iter() {
        let row = (space, key.clone());
        match value {
            Some(value) => rows.insert(row, value.clone()),
            None => rows.remove(&row),
        };
    }
}

/// The tables as a running member has them.
pub(super) struct SimTables {
    memory: MemoryBackend,
    platter: Arc<Mutex<Platter>>,
    disk: SimDisk,
}

impl SimTables {
    /// Opens what is on the disk.
    pub(super) fn open(platter: Arc<Mutex<Platter>>, disk: SimDisk) -> Result<Self> {
        let memory = MemoryBackend::new();
        {
            let mut platter = platter.lock();
            platter.flush();
            memory.write(all(&platter.flushed))?;
        }
        Ok(Self {
            memory,
            platter,
            disk,
        })
    }

    fn step(&self, what: &str) -> Result<()> {
        self.disk
            .step()
            .map_err(|error| BackendError::new(what, error))
    }
}

fn all(rows: &Rows) -> Batch {
    let mut batch = Batch::default();
    for ((space, key), value) in rows {
        batch.put(*space, key.clone(), value.clone());
    }
    batch
}

impl Read for SimTables {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.memory.get(space, key)
    }

    fn scan(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Box<dyn Cursor + '_>> {
        self.memory.scan(space, from, to)
    }
}

impl Backend for SimTables {
    fn snapshot(&self) -> Box<dyn Read + Send + '_> {
        self.memory.snapshot()
    }

    fn write(&self, batch: Batch) -> Result<()> {
        self.step("write")?;
        if self.disk.is_full() && batch.bytes() > 1024 {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(BackendError::new("write", full));
        }
        self.platter.lock().written.push(batch.clone());
        self.memory.write(batch)
    }

    fn size(&self) -> Size {
        self.memory.size()
    }
}

impl Tables for SimTables {
    fn flush(&self) -> Result<()> {
        self.step("flush")?;
        self.platter.lock().flush();
        Ok(())
    }

    fn checkpoint(&self, target: &SnapshotDir) -> Result<()> {
        self.flush()?;
        let mut data = Vec::new();
        for ((space, key), value) in &self.platter.lock().flushed {
            let slot = Keyspace::ALL.iter().position(|known| known == space);
            data.push(u8::try_from(slot.unwrap_or_default()).unwrap_or(u8::MAX));
            for part in [key, value] {
                data.extend_from_slice(&(part.len() as u64).to_le_bytes());
                data.extend_from_slice(part);
            }
        }
        let write = || {
            std::fs::create_dir(target.path())?;
            std::fs::write(target.path().join(ROWS), &data)
        };
        write().map_err(|error| BackendError::new("checkpoint", error))?;
        self.step("checkpoint")
    }

    fn install(&self, snapshot: &SnapshotDir) -> Result<()> {
        self.step("install")?;
        let data = std::fs::read(snapshot.path().join(ROWS))
            .map_err(|error| BackendError::new("install", error))?;
        let rows = parse(&data).ok_or_else(|| BackendError::corrupt("a snapshot"))?;
        let mut platter = self.platter.lock();
        platter.flush();
        let mut batch = Batch::default();
        for (space, key) in platter.flushed.keys() {
            batch.delete(*space, key.clone());
        }
        for ((space, key), value) in &rows {
            batch.put(*space, key.clone(), value.clone());
        }
        // One rename decides.
        platter.flushed = rows;
        drop(platter);
        self.memory.write(batch)?;
        self.step("install")
    }

    fn replace(&self, snapshot: &SnapshotDir, _aside: PathBuf) -> Result<()> {
        self.install(snapshot)
    }

    fn backlog(&self) -> Backlog {
        Backlog::default()
    }

    fn damage(&self) -> Option<String> {
        None
    }

    fn close(&self) {}
}

fn parse(data: &[u8]) -> Option<Rows> {
    fn part(data: &mut &[u8]) -> Option<Bytes> {
        let (len, rest) = data.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let (bytes, rest) = rest.split_at_checked(len)?;
        *data = rest;
        Some(Bytes::copy_from_slice(bytes))
    }
    let mut rows = Rows::new();
    let mut data = data;
    while let Some((slot, rest)) = data.split_first() {
        data = rest;
        let space = *Keyspace::ALL.get(usize::from(*slot))?;
        let key = part(&mut data)?;
        let value = part(&mut data)?;
        rows.insert((space, key), value);
    }
    Some(rows)
}
