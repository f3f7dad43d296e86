//! What rows say of themselves, read one after the other without an engine: the check of a backup.
//! Not the framing of a backup, nor its checksums; those are the shell's.
//! Invariant: rows that this code could not have written are an error, and nothing is kept of a row but counts.

use bytes::Bytes;

use crate::{
    backend::{BackendError, Keyspace, Result},
    codec::{self, Record},
    hash::{KvHash, KvHasher},
    ids::{Position, Revision},
    state::State,
};

/// Checks rows in the order of `Keyspace::ALL`, each keyspace ascending.
#[derive(Debug)]
pub struct Inspector {
    facts: Facts,
    head: Option<State>,
    /// The row before: keyspace and key.
    last: Option<(Keyspace, Bytes)>,
    /// The key of the row before, without its revision, and its newest revision.
    newest: Revision,
    hasher: Option<KvHasher>,
}

/// What a whole set of rows holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Rows of all keyspaces.
    pub rows: u64,
    /// Keys that live at the newest revision.
    pub keys: u64,
    /// The newest revision.
    pub revision: Revision,
    /// Everything before it is out of reach.
    pub compacted: Revision,
    /// The log position that the rows are of.
    pub applied: Option<Position>,
    /// The hash over the keys, where one was asked for.
    pub hash: Option<KvHash>,
}

impl Inspector {
    /// Checks rows; with `hash_at`, a revision and a compacted revision, also hashes them as a member's `HashKV` does.
    pub fn new(hash_at: Option<(Revision, Revision)>) -> Self {
        Self {
            facts: Facts::default(),
            head: None,
            last: None,
            newest: Revision::ZERO,
            hasher: hash_at.map(|(at, compacted)| KvHasher::new(at, compacted)),
        }
    }

    /// The next row.
    pub fn push(&mut self, space: Keyspace, key: &Bytes, value: &Bytes) -> Result<()> {
        if let Some((before, last)) = &self.last
            && (space, key) <= (*before, last)
        {
            return Err(BackendError::corrupt("rows are not in order"));
        }
        match space {
            Keyspace::Key => self.key_row(key, value)?,
            Keyspace::Rev => {
                self.newest = self.newest.max(codec::rev_row_revision(key)?);
            }
            Keyspace::Lease if key.len() < 8 => {
                return Err(BackendError::corrupt("short lease row"));
            }
            Keyspace::Lease => {}
            Keyspace::Meta => {
                if key == codec::META_STATE {
                    self.head = Some(State::decode(value.clone())?);
                }
            }
        }
        self.facts.rows += 1;
        self.last = Some((space, key.clone()));
        Ok(())
    }

    fn key_row(&mut self, key: &Bytes, value: &Bytes) -> Result<()> {
        let (prefix, revision) = codec::split_key_row(key)?;
        let record = Record::decode(value.clone())?;
        let before = self.last.as_ref().map(|(_, last)| last);
        let same = before.is_some_and(|last| {
            codec::split_key_row(last).is_ok_and(|(before, _)| before == prefix)
        });
        // The newest version comes first.
        if !same && record != Record::Tombstone {
            self.facts.keys += 1;
        }
        self.newest = self.newest.max(revision);
        match &mut self.hasher {
            Some(hasher) => hasher.push(key, value),
            None => Ok(()),
        }
    }

    /// What all rows together are. A set without a head, or with rows from beyond it, is no state.
    pub fn finish(self) -> Result<Facts> {
        let head = self
            .head
            .ok_or_else(|| BackendError::corrupt("the head row is missing"))?;
        if self.newest > head.revision {
            return Err(BackendError::corrupt(format!(
                "a row of revision {} beyond the head at {}",
                self.newest, head.revision
            )));
        }
        Ok(Facts {
            revision: head.revision,
            compacted: head.compacted,
            applied: head.applied,
            hash: self.hasher.map(KvHasher::finish),
            ..self.facts
        })
    }
}
