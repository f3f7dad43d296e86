//! How rows are laid out in the keyspaces. Everything that reads or writes a row goes through here.
//! Not the wire: messages are protobuf.
//! Invariant: the order of encoded rows is the order of (key, newest revision first), whatever bytes a key holds.
//!
//! ```text
//!   key    esc(key) 00 00, !revision (8)          -> kind, created, version, lease, value
//!   rev    revision (8), number within it (4)      -> key
//!   lease  lease (8), key                          -> nothing
//!   meta   "s" | "m" | "l" lease (8) | "a" ...     -> state | membership | lease | nothing
//!          "A" | "u" name | "r" name               -> auth | user | role (from cluster level 1 on)
//! ```
//! In `esc`, a zero byte becomes `00 ff`, so the end mark `00 00` sorts before any longer key.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use crate::{
    backend::{BackendError, Result},
    ids::{LeaseId, Revision},
};

const ZERO_ESCAPED: [u8; 2] = [0x00, 0xff];
const END: [u8; 2] = [0x00, 0x00];
const REVISION_LEN: usize = crate::backend::REVISION_BYTES;

const KIND_TOMBSTONE: u8 = 0;
const KIND_VALUE: u8 = 1;

/// Meta row of the applied position, revisions and level.
pub(crate) const META_STATE: &[u8] = b"s";
/// Meta row of the membership, opaque to the core.
pub(crate) const META_MEMBERSHIP: &[u8] = b"m";
/// Prefix of the meta rows of leases.
pub(crate) const META_LEASE: u8 = b'l';
/// Prefix of the meta rows of alarms.
pub(crate) const META_ALARM: u8 = b'a';
/// Meta row of whether users count, and of what belongs to it.
pub(crate) const META_AUTH: &[u8] = b"A";
/// Prefix of the meta rows of users.
pub(crate) const META_USER: u8 = b'u';
/// Prefix of the meta rows of roles.
pub(crate) const META_ROLE: u8 = b'r';

/// The row of a user or role.
pub(crate) fn auth_row(kind: u8, name: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + name.len());
    row.push(kind);
    row.extend_from_slice(name.as_bytes());
    row
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Tombstone,
    Value {
        created: Revision,
        version: i64,
        lease: LeaseId,
        value: Bytes,
    },
}

/// The part of a `Key` row that all versions of a key share.
pub(crate) fn key_prefix(key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + END.len() + REVISION_LEN);
    escape(key, &mut row);
    row
}

fn escape(key: &[u8], row: &mut Vec<u8>) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        row.extend_from_slice(&rest[..zero]);
        row.extend_from_slice(&ZERO_ESCAPED);
        rest = &rest[zero + 1..];
    }
    row.extend_from_slice(rest);
    row.extend_from_slice(&END);
}

/// The `Key` row of one version.
pub(crate) fn key_row(key: &[u8], revision: Revision) -> Vec<u8> {
    let mut row = key_prefix(key);
    push_revision(&mut row, revision);
    row
}

/// Completes a prefix to the row of one version.
pub(crate) fn push_revision(prefix: &mut Vec<u8>, revision: Revision) {
    prefix.extend_from_slice(&(!revision.bits()).to_be_bytes());
}

/// The end of all versions of a key, exclusive: the mark `00 00` counted up by one.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Cuts a `Key` row into the shared prefix and the revision.
pub(crate) fn split_key_row(row: &[u8]) -> Result<(&[u8], Revision)> {
    let cut = row
        .len()
        .checked_sub(REVISION_LEN)
        .ok_or_else(|| BackendError::corrupt("short key row"))?;
    let (prefix, mut revision) = row.split_at(cut);
    if !prefix.ends_with(&END) {
        return Err(BackendError::corrupt("key row without an end mark"));
    }
    Ok((prefix, Revision::from_bits(!revision.get_u64())))
}

/// The user's key of a `Key` row. Shares the bytes of the row unless the key holds zeros.
pub(crate) fn user_key(row: &Bytes) -> Result<Bytes> {
    let (prefix, _) = split_key_row(row)?;
    let escaped = prefix.len() - END.len();
    if !prefix[..escaped].contains(&0) {
        return Ok(row.slice(..escaped));
    }
    let mut key = BytesMut::with_capacity(escaped);
    let mut rest = &prefix[..escaped];
    while let Some((byte, after)) = rest.split_first() {
        key.put_u8(*byte);
        rest = if *byte == 0 {
            after.get(1..).unwrap_or_default()
        } else {
            after
        };
    }
    Ok(key.freeze())
}

/// The `Rev` row of a change.
pub(crate) fn rev_row(revision: Revision, sub: u32) -> Vec<u8> {
    let mut row = Vec::with_capacity(REVISION_LEN + 4);
    row.extend_from_slice(&revision.bits().to_be_bytes());
    row.extend_from_slice(&sub.to_be_bytes());
    row
}

/// The revision of a `Rev` row.
pub(crate) fn rev_row_revision(row: &[u8]) -> Result<Revision> {
    let mut head = row
        .get(..REVISION_LEN)
        .ok_or_else(|| BackendError::corrupt("short rev row"))?;
    Ok(Revision::from_bits(head.get_u64()))
}

/// The `Lease` row that ties a key to a lease.
pub(crate) fn attachment_row(lease: LeaseId, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(8 + key.len());
    row.extend_from_slice(&lease.0.to_be_bytes());
    row.extend_from_slice(key);
    row
}

/// The key of an attachment row.
pub(crate) fn attachment_key(row: &Bytes) -> Bytes {
    row.slice(8.min(row.len())..)
}

/// The meta row of a lease.
pub(crate) fn lease_row(lease: LeaseId) -> [u8; 9] {
    let mut row = [META_LEASE; 9];
    row[1..].copy_from_slice(&lease.0.to_be_bytes());
    row
}

/// The lease of a meta row.
pub(crate) fn lease_of_row(row: &[u8]) -> Option<LeaseId> {
    let id = row.strip_prefix(&[META_LEASE])?;
    Some(LeaseId(i64::from_be_bytes(id.try_into().ok()?)))
}

/// The meta row of an alarm.
pub(crate) fn alarm_row(member: u64, alarm: i32) -> Vec<u8> {
    let mut row = vec![META_ALARM];
    row.extend_from_slice(&member.to_be_bytes());
    row.extend_from_slice(&alarm.to_be_bytes());
    row
}

/// Member and kind of an alarm row.
pub(crate) fn alarm_of_row(row: &[u8]) -> Option<(u64, i32)> {
    let rest = row.strip_prefix(&[META_ALARM])?;
    let (member, alarm) = rest.split_at_checked(8)?;
    Some((
        u64::from_be_bytes(member.try_into().ok()?),
        i32::from_be_bytes(alarm.try_into().ok()?),
    ))
}

impl Record {
    /// The row's value.
    pub(crate) fn encode(&self) -> Bytes {
        let Self::Value {
            created,
            version,
            lease,
            value,
        } = self
        else {
            return Bytes::from_static(&[KIND_TOMBSTONE]);
        };
        let mut row = BytesMut::with_capacity(1 + 30 + value.len());
        row.put_u8(KIND_VALUE);
        encode_varint(created.bits(), &mut row);
        encode_varint(version.cast_unsigned(), &mut row);
        encode_varint(lease.0.cast_unsigned(), &mut row);
        row.extend_from_slice(value);
        row.freeze()
    }

    /// Reads a row's value; the user's value shares its bytes.
    pub(crate) fn decode(mut row: Bytes) -> Result<Self> {
        let corrupt = || BackendError::corrupt("record cannot be read");
        match row.try_get_u8().map_err(|_| corrupt())? {
            KIND_TOMBSTONE => Ok(Self::Tombstone),
            KIND_VALUE => {
                let mut field = || decode_varint(&mut row).map_err(|_| corrupt());
                let (created, version, lease) = (field()?, field()?, field()?);
                Ok(Self::Value {
                    created: Revision::from_bits(created),
                    version: version.cast_signed(),
                    lease: LeaseId(lease.cast_signed()),
                    value: row,
                })
            }
            _ => Err(corrupt()),
        }
    }

    /// Whether a row's value is a deletion, without decoding the rest.
    pub(crate) fn is_tombstone(row: &[u8]) -> bool {
        row.first() == Some(&KIND_TOMBSTONE)
    }
}
