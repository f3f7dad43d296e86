//! A log brought into a state: what was acknowledged may be in the log alone.
//!
//! Invariant: entries are applied in order and without a gap, exactly as the member itself would have.

use std::sync::Arc;

use bytes::Bytes;
use corten_proto::corten::store::v1 as pb;
use corten_store_core::backend::Backend;
use corten_store_core::{Position, Store, Writer};
use openraft::EntryPayload;
use prost::Message as _;

use super::RecoverError;
use crate::raft::codec;
use crate::raft::types::{Entry, StoredMembership};
use crate::raft::wal::Wal;
use crate::rocks::Rocks;

/// Entries read at a time, in bytes.
const READ_BYTES: usize = 4 << 20;

/// The membership in effect: the last one in the log, else that of the state.
pub(super) fn membership(wal: &Wal, writer: &Writer) -> Result<StoredMembership, RecoverError> {
    let unreadable = |error| RecoverError::Entry(std::io::Error::other(error));
    let mut found = match writer.membership() {
        None => StoredMembership::default(),
        Some(row) => {
            let message = pb::StoredMembership::decode(row.clone())
                .map_err(|error| RecoverError::Entry(std::io::Error::other(error)))?;
            codec::stored_membership(&message).map_err(unreadable)?
        }
    };
    each(wal, writer.applied(), u64::MAX, |entry| {
        if let EntryPayload::Membership(value) = entry.payload {
            found = StoredMembership::new(Some(entry.log_id), value);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Applies everything that the log has beyond the state, up to an index. Gives the number of entries.
pub(crate) fn replay(wal: &Wal, rocks: &Arc<Rocks>, upto: u64) -> Result<u64, RecoverError> {
    let (_store, mut writer) = Store::open(Arc::clone(rocks) as Arc<dyn Backend>)?;
    let applied = writer.applied();
    let mut count = 0;
    each(wal, applied, upto, |entry| {
        let at = Position {
            term: entry.log_id.leader_id.term,
            index: entry.log_id.index,
        };
        let mut round = writer.begin();
        match entry.payload {
            EntryPayload::Blank => round.skip(at),
            EntryPayload::Normal(command) => {
                let request = pb::RaftRequest::decode(command.0)
                    .map_err(|error| RecoverError::Entry(std::io::Error::other(error)))?;
                round.apply(at, &request)?;
            }
            EntryPayload::Membership(value) => {
                let stored = StoredMembership::new(Some(entry.log_id), value);
                let row = codec::stored_membership_to_pb(&stored).encode_to_vec();
                round.set_membership(at, Bytes::from(row));
            }
        }
        round.commit()?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn each(
    wal: &Wal,
    applied: Option<Position>,
    upto: u64,
    mut take: impl FnMut(Entry) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    let (purged, last) = wal.bounds();
    let mut next = applied.map_or(0, |at| at.index + 1);
    let last = last.map(|last| last.index.min(upto));
    let Some(last) = last.filter(|last| *last >= next) else {
        return Ok(());
    };
    if purged.is_some_and(|purged| purged.index >= next) {
        return Err(RecoverError::Gap(applied.map(|at| at.index)));
    }
    while next <= last {
        let entries = wal
            .read(next..last + 1, READ_BYTES)
            .map_err(RecoverError::Entry)?;
        if entries.is_empty() {
            return Err(RecoverError::Gap(Some(next)));
        }
        for entry in entries {
            if entry.log_id.index != next {
                return Err(RecoverError::Gap(Some(next)));
            }
            next += 1;
            take(entry)?;
        }
    }
    Ok(())
}
