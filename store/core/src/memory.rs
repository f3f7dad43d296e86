//! A backend in memory on persistent ordered maps: for tests, for development, and as the model of what a backend is.
//! Not durable, and not meant for large data.
//! Invariant: a snapshot is a clone of four map roots, so it costs nothing and never changes.

use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::RwLock;

use crate::backend::{Backend, Batch, Cursor, Keyspace, Read, Result, Size};

type Rows = OrdMap<Bytes, Bytes>;

/// Rows in memory.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    state: RwLock<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    rows: [Rows; Keyspace::ALL.len()],
    bytes: u64,
}

impl MemoryBackend {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn rows(&self, space: Keyspace) -> Rows {
        self.state.read().rows[space.slot()].clone()
    }
}

impl Read for MemoryBackend {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.state.read().rows[space.slot()].get(key).cloned())
    }

    fn scan(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Box<dyn Cursor + '_>> {
        let mut cursor = LiveCursor {
            rows: self.rows(space),
            to: to.map(Bytes::copy_from_slice),
            at: None,
        };
        cursor.step(Bound::Included(from));
        Ok(Box::new(cursor))
    }

    fn first(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>> {
        let state = self.state.read();
        let row = first(&state.rows[space.slot()], Bound::Included(from), to);
        Ok(row.map(|(key, value)| (key.clone(), value.clone())))
    }
}

impl Backend for MemoryBackend {
    fn snapshot(&self) -> Box<dyn Read + Send + '_> {
        Box::new(Snapshot {
            state: self.state.read().clone(),
        })
    }

    fn write(&self, batch: Batch) -> Result<()> {
        let mut state = self.state.write();
        let State { rows, bytes } = &mut *state;
        for (space, key, value) in batch.iter() {
            let rows = &mut rows[space.slot()];
            let (gone, added) = match value {
                Some(value) => (
                    // Owned anew: a slice would pin the request buffer it came from.
                    rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
                    size(key, value),
                ),
                None => (rows.remove(key), 0),
            };
            *bytes += added;
            *bytes -= gone.map_or(0, |old| size(key, &old));
        }
        Ok(())
    }

    fn size(&self) -> Size {
        let bytes = self.state.read().bytes;
        Size {
            allocated: bytes,
            in_use: bytes,
        }
    }
}

fn size(key: &Bytes, value: &Bytes) -> u64 {
    (key.len() + value.len()) as u64
}

fn first<'a>(
    rows: &'a Rows,
    from: Bound<&[u8]>,
    to: Option<&[u8]>,
) -> Option<(&'a Bytes, &'a Bytes)> {
    // Open-ended on purpose: a reversed range would panic, the check after it does not.
    let found = rows.range::<_, [u8]>((from, Bound::Unbounded)).next()?;
    to.is_none_or(|to| found.0.as_ref() < to).then_some(found)
}

struct Snapshot {
    state: State,
}

impl Read for Snapshot {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.state.rows[space.slot()].get(key).cloned())
    }

    fn scan(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Box<dyn Cursor + '_>> {
        let rows = &self.state.rows[space.slot()];
        let mut cursor = SnapshotCursor {
            rows,
            iter: rows.range::<_, [u8]>((Bound::Included(from), Bound::Unbounded)),
            to: to.map(Bytes::copy_from_slice),
            at: None,
        };
        cursor.advance()?;
        Ok(Box::new(cursor))
    }
}

/// Walks a frozen map with the map's own iterator.
struct SnapshotCursor<'a> {
    rows: &'a Rows,
    iter: imbl::ordmap::RangedIter<'a, Bytes, Bytes, imbl::shared_ptr::DefaultSharedPtr>,
    to: Option<Bytes>,
    at: Option<(&'a Bytes, &'a Bytes)>,
}

impl Cursor for SnapshotCursor<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.at.map(|(key, _)| key.as_ref())
    }

    fn value(&self) -> &[u8] {
        self.at.map_or(&[], |(_, value)| value.as_ref())
    }

    fn key_bytes(&self) -> Bytes {
        self.at.map_or_else(Bytes::new, |(key, _)| key.clone())
    }

    fn value_bytes(&self) -> Bytes {
        self.at.map_or_else(Bytes::new, |(_, value)| value.clone())
    }

    fn advance(&mut self) -> Result<()> {
        let next = self.iter.next();
        self.at = next.filter(|(key, _)| self.to.as_ref().is_none_or(|to| *key < to));
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.iter = self
            .rows
            .range::<_, [u8]>((Bound::Included(key), Bound::Unbounded));
        self.advance()
    }
}

/// Walks an owned root; each step is a lookup. Used by the writer alone, whose scans are short.
struct LiveCursor {
    rows: Rows,
    to: Option<Bytes>,
    at: Option<(Bytes, Bytes)>,
}

impl LiveCursor {
    fn step(&mut self, from: Bound<&[u8]>) {
        self.at = first(&self.rows, from, self.to.as_deref())
            .map(|(key, value)| (key.clone(), value.clone()));
    }
}

impl Cursor for LiveCursor {
    fn key(&self) -> Option<&[u8]> {
        self.at.as_ref().map(|(key, _)| key.as_ref())
    }

    fn value(&self) -> &[u8] {
        self.at.as_ref().map_or(&[], |(_, value)| value.as_ref())
    }

    fn key_bytes(&self) -> Bytes {
        self.at
            .as_ref()
            .map_or_else(Bytes::new, |(key, _)| key.clone())
    }

    fn value_bytes(&self) -> Bytes {
        self.at
            .as_ref()
            .map_or_else(Bytes::new, |(_, value)| value.clone())
    }

    fn advance(&mut self) -> Result<()> {
        if let Some((key, _)) = self.at.take() {
            self.step(Bound::Excluded(&key));
        }
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.step(Bound::Included(key));
        Ok(())
    }
}
