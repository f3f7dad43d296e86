//! Rows to write as one, ordered, so that the same batch also serves reads of what is not committed yet.
//! Not a log of operations: the last write to a row wins.
//! Invariant: iteration is ordered by keyspace, then by key.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::Keyspace;

/// Writes and deletions, one per row. `None` deletes.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    rows: [BTreeMap<Bytes, Option<Bytes>>; Keyspace::ALL.len()],
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, space: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.rows[space.slot()].insert(key.into(), Some(value.into()));
    }

    /// Removes a row.
    pub fn delete(&mut self, space: Keyspace, key: impl Into<Bytes>) {
        self.rows[space.slot()].insert(key.into(), None);
    }

    /// What the batch says about a row: nothing, deleted, or a value.
    pub fn get(&self, space: Keyspace, key: &[u8]) -> Option<Option<&Bytes>> {
        self.rows[space.slot()].get(key).map(Option::as_ref)
    }

    /// Whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(BTreeMap::is_empty)
    }

    /// Number of rows touched.
    pub fn len(&self) -> usize {
        self.rows.iter().map(BTreeMap::len).sum()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        let row = |(_, key, value): (Keyspace, &Bytes, Option<&Bytes>)| {
            (key.len() + value.map_or(0, Bytes::len)) as u64
        };
        self.iter().map(row).sum()
    }

    /// Every row in order.
    pub fn iter(&self) -> impl Iterator<Item = (Keyspace, &Bytes, Option<&Bytes>)> {
        Keyspace::ALL.into_iter().flat_map(|space| {
            self.rows[space.slot()]
                .iter()
                .map(move |(key, value)| (space, key, value.as_ref()))
        })
    }

    /// The rows of one keyspace from `from` on.
    pub(crate) fn range<'a>(
        &'a self,
        space: Keyspace,
        from: Bound<&[u8]>,
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)> + use<'a> {
        let start = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        // BTreeMap panics on a reversed range; an empty one is what is meant.
        let end = match to {
            Some(to) if to <= start => Bound::Excluded(start),
            Some(to) => Bound::Excluded(to),
            None => Bound::Unbounded,
        };
        let from = match (from, end) {
            (Bound::Excluded(key), Bound::Excluded(end)) if key == end => Bound::Included(key),
            (from, _) => from,
        };
        self.rows[space.slot()]
            .range::<[u8], _>((from, end))
            .map(|(key, value)| (key, value.as_ref()))
    }
}
