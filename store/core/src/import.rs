//! Fills an empty state with the history of another store of this API: revisions, versions and leases stay what they were.
//! Not the format that the history comes in, nor what a new cluster needs besides (`refound`).
//! Invariant: changes come in the order of their revisions, and a row is written for each exactly as applying it would.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use corten_proto::etcd::mvccpb::KeyValue;

use crate::{
    backend::{Backend, BackendError, Batch, Keyspace, Result},
    codec::{self, Record},
    ids::{LeaseId, Revision},
    lease_rows::LeaseRecord,
    state::State,
};

/// Rows written as one.
const BATCH_ROWS: usize = 4096;
/// The same in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// What a change did to its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// Its key, value, version, lease and the revision that it was created at; the rest is not looked at.
    Put(KeyValue),
    /// The key is gone.
    Delete(Bytes),
}

/// Takes leases, then changes.
pub struct Importer<'a> {
    backend: &'a dyn Backend,
    batch: Batch,
    bytes: usize,
    rows: u64,
    last: Option<(Revision, u32)>,
    granted: HashSet<LeaseId>,
    /// Of keys that live and hang on a lease.
    attached: HashMap<Bytes, LeaseId>,
}

impl<'a> Importer<'a> {
    /// Begins on a backend that holds nothing.
    pub fn new(backend: &'a dyn Backend) -> Self {
        Self {
            backend,
            batch: Batch::default(),
            bytes: 0,
            rows: 0,
            last: None,
            granted: HashSet::new(),
            attached: HashMap::new(),
        }
    }

    /// A lease that was granted.
    pub fn lease(&mut self, id: LeaseId, record: LeaseRecord) -> Result<()> {
        if !id.is_some() || record.ttl <= 0 || record.remaining < 0 {
            return Err(BackendError::corrupt(format!(
                "a lease {} of {} s",
                id.0, record.ttl
            )));
        }
        self.granted.insert(id);
        self.put(Keyspace::Meta, &codec::lease_row(id), record.encode())
    }

    /// The next change: `sub` is its number within the revision.
    pub fn change(&mut self, at: Revision, sub: u32, change: Imported) -> Result<()> {
        let out_of_order = self.last.is_some_and(|last| last >= (at, sub));
        if at < Revision::FIRST || out_of_order {
            return Err(BackendError::corrupt(format!(
                "a change of revision {at} out of order"
            )));
        }
        self.last = Some((at, sub));
        let (key, record) = match change {
            Imported::Delete(key) => (key, Record::Tombstone),
            Imported::Put(kv) => {
                let created = Revision::new(kv.create_revision);
                if !(Revision::FIRST..=at).contains(&created) || kv.version < 1 {
                    let what = format!("a key of revision {at} that was created at {created}");
                    return Err(BackendError::corrupt(what));
                }
                let record = Record::Value {
                    created,
                    version: kv.version,
                    lease: LeaseId(kv.lease),
                    value: kv.value,
                };
                (kv.key, record)
            }
        };
        if key.is_empty() {
            return Err(BackendError::corrupt("a change of a key without a name"));
        }
        match &record {
            Record::Value { lease, .. } if self.granted.contains(lease) => {
                self.attached.insert(key.clone(), *lease);
            }
            _ => {
                self.attached.remove(&key);
            }
        }
        self.put(Keyspace::Key, &codec::key_row(&key, at), record.encode())?;
        self.put(Keyspace::Rev, &codec::rev_row(at, sub), key)
    }

    /// Ends it: what is before `compacted` is out of reach. Gives the number of rows.
    pub fn finish(mut self, compacted: Revision) -> Result<u64> {
        for (key, lease) in std::mem::take(&mut self.attached) {
            self.put(
                Keyspace::Lease,
                &codec::attachment_row(lease, &key),
                Bytes::new(),
            )?;
        }
        let newest = self.last.map_or(Revision::FIRST, |(revision, _)| revision);
        let state = State {
            applied: None,
            revision: newest.max(compacted),
            compacted,
            level: 0,
        };
        self.put(Keyspace::Meta, codec::META_STATE, state.encode())?;
        self.backend.write(self.batch)?;
        Ok(self.rows)
    }

    fn put(&mut self, space: Keyspace, key: &[u8], value: Bytes) -> Result<()> {
        self.bytes += key.len() + value.len();
        self.rows += 1;
        self.batch.put(space, key.to_vec(), value);
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ROWS {
            self.bytes = 0;
            self.backend.write(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }
}
