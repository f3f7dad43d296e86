//! Hashes by which members compare their content.
//! Not etcd's numbers: the layout differs, so only members of one cluster can be compared.
//! Invariant: `kv` depends on the logical content alone, not on how far a member has come with giving back space.

use crate::{
    backend::{Keyspace, Read, Result},
    codec::{self, Record},
    ids::Revision,
};

/// Hash of the logical content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C over the versions in reach.
    pub hash: u32,
    /// The revision hashed.
    pub revision: Revision,
    /// The compacted revision at the time; hashes compare only when it is equal.
    pub compacted: Revision,
}

/// Hashes every version that a read between `compacted` and `at` can see.
pub(crate) fn kv(view: &dyn Read, at: Revision, compacted: Revision) -> Result<KvHash> {
    let mut hasher = KvHasher::new(at, compacted);
    let mut cursor = view.scan(Keyspace::Key, &[], None)?;
    while let Some(row) = cursor.key() {
        hasher.push(row, cursor.value())?;
        cursor.advance()?;
    }
    Ok(hasher.finish())
}

/// The hash over keys, fed row by row in the order of the keyspace: for rows that are in no engine.
#[derive(Debug)]
pub(crate) struct KvHasher {
    at: Revision,
    compacted: Revision,
    hash: u32,
    prefix: Vec<u8>,
    /// A version at or below the boundary has been seen for this key.
    below: bool,
}

impl KvHasher {
    pub(crate) fn new(at: Revision, compacted: Revision) -> Self {
        Self {
            at,
            compacted,
            hash: 0,
            prefix: Vec::new(),
            below: false,
        }
    }

    pub(crate) fn push(&mut self, row: &[u8], value: &[u8]) -> Result<()> {
        let (key, revision) = codec::split_key_row(row)?;
        if key != self.prefix.as_slice() {
            self.prefix.clear();
            self.prefix.extend_from_slice(key);
            self.below = false;
        }
        // At or below the boundary only the newest version is in reach, and a deletion only at the boundary itself.
        let in_reach = revision > self.compacted
            || (!self.below && (!Record::is_tombstone(value) || revision == self.compacted));
        if revision <= self.at {
            self.below |= revision <= self.compacted;
            if in_reach {
                self.hash = crc32c::crc32c_append(self.hash, row);
                self.hash = crc32c::crc32c_append(self.hash, value);
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> KvHash {
        KvHash {
            hash: self.hash,
            revision: self.at,
            compacted: self.compacted,
        }
    }
}

/// Hashes every row of every keyspace but the head row, which holds the applied position.
pub(crate) fn rows(view: &dyn Read) -> Result<u32> {
    let mut hash = 0;
    for space in Keyspace::ALL {
        hash = crc32c::crc32c_append(hash, space.name().as_bytes());
        let mut cursor = view.scan(space, &[], None)?;
        while let Some(row) = cursor.key() {
            if !(space == Keyspace::Meta && row == codec::META_STATE) {
                hash = crc32c::crc32c_append(hash, row);
                hash = crc32c::crc32c_append(hash, cursor.value());
            }
            cursor.advance()?;
        }
    }
    Ok(hash)
}
