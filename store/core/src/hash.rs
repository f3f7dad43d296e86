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
    let mut hash = 0;
    let mut prefix: Vec<u8> = Vec::new();
    let mut below = false;
    let mut cursor = view.scan(Keyspace::Key, &[], None)?;
    while let Some(row) = cursor.key() {
        let (key, revision) = codec::split_key_row(row)?;
        if key != prefix.as_slice() {
            prefix.clear();
            prefix.extend_from_slice(key);
            below = false;
        }
        // At or below the boundary only the newest version is in reach, and a deletion only at the boundary itself.
        let in_reach = revision > compacted
            || (!below && (!Record::is_tombstone(cursor.value()) || revision == compacted));
        if revision <= at {
            below |= revision <= compacted;
            if in_reach {
                hash = crc32c::crc32c_append(hash, row);
                hash = crc32c::crc32c_append(hash, cursor.value());
            }
        }
        cursor.advance()?;
    }
    Ok(KvHash {
        hash,
        revision: at,
        compacted,
    })
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
