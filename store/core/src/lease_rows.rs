//! Leases as replicated state: what was granted, and which keys hang on each.
//! Not time: who counts down is the leader's `lessor`.
//! Invariant: a key's record names a lease exactly when the attachment row of that pair exists.

use bytes::{Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use crate::{
    backend::{BackendError, Keyspace, Read, Result},
    codec,
    ids::LeaseId,
};

/// A lease as granted. Times are seconds, as in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Time to live that was granted.
    pub ttl: i64,
    /// What was left at the last checkpoint; 0 when there was none.
    pub remaining: i64,
}

/// What applying did to leases; the lessor follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// A new lease.
    Granted(LeaseId, LeaseRecord),
    /// A checkpoint of the time left.
    Checkpointed(LeaseId, LeaseRecord),
    /// The lease is gone.
    Revoked(LeaseId),
}

impl LeaseRecord {
    pub(crate) fn encode(self) -> Bytes {
        let mut row = BytesMut::with_capacity(8);
        encode_varint(self.ttl.cast_unsigned(), &mut row);
        encode_varint(self.remaining.cast_unsigned(), &mut row);
        row.freeze()
    }

    fn decode(mut row: Bytes) -> Result<Self> {
        let mut field = || {
            decode_varint(&mut row).map_err(|_| BackendError::corrupt("lease row cannot be read"))
        };
        Ok(Self {
            ttl: field()?.cast_signed(),
            remaining: field()?.cast_signed(),
        })
    }
}

/// One lease.
pub(crate) fn get(view: &dyn Read, id: LeaseId) -> Result<Option<LeaseRecord>> {
    view.get(Keyspace::Meta, &codec::lease_row(id))?
        .map(LeaseRecord::decode)
        .transpose()
}

/// All leases, by the bytes of their ids.
pub(crate) fn all(view: &dyn Read) -> Result<Vec<(LeaseId, LeaseRecord)>> {
    let mut found = Vec::new();
    let mut cursor = view.scan(
        Keyspace::Meta,
        &[codec::META_LEASE],
        Some(&[codec::META_LEASE + 1]),
    )?;
    while let Some(row) = cursor.key() {
        let id = codec::lease_of_row(row)
            .ok_or_else(|| BackendError::corrupt("lease row of odd length"))?;
        found.push((id, LeaseRecord::decode(cursor.value_bytes())?));
        cursor.advance()?;
    }
    Ok(found)
}

/// Keys that hang on a lease, in order.
pub(crate) fn keys(view: &dyn Read, id: LeaseId) -> Result<Vec<Bytes>> {
    let from = codec::attachment_row(id, &[]);
    let to = codec::attachment_row(LeaseId(id.0.wrapping_add(1)), &[]);
    // The id -1 is the last by bytes, so its successor is no bound.
    let to = (to > from).then_some(to);
    let mut found = Vec::new();
    let mut cursor = view.scan(Keyspace::Lease, &from, to.as_deref())?;
    while cursor.key().is_some() {
        found.push(codec::attachment_key(&cursor.key_bytes()));
        cursor.advance()?;
    }
    Ok(found)
}
