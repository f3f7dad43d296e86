//! Makes a restored state the beginning of another cluster.
//! Not the restoring of rows, nor of leases' times; those are the shell's.
//! Invariant: of the old cluster's log, members and alarms nothing is left; keys, revisions and leases stay.

use bytes::Bytes;

use crate::{
    backend::{Backend, Batch, Keyspace, Result},
    codec,
    ids::{Position, Revision},
    state::State,
    store,
};

/// The position of the entry that founds a cluster. A restored state stands in its place.
pub const FOUNDING: Position = Position { term: 0, index: 0 };

/// What a new cluster may need to differ in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refounding {
    /// Added to the revision, so that what clients remember from after the backup is not taken for something else.
    pub bump_revision: u64,
    /// Puts everything before the new revision out of reach, so that clients' watches start over.
    pub mark_compacted: bool,
}

/// Rewrites the head of a state that nobody uses. Gives the revision at which the new cluster begins.
pub fn refound(backend: &dyn Backend, membership: Bytes, how: Refounding) -> Result<Revision> {
    let mut state = State::load(backend)?;
    state.applied = Some(FOUNDING);
    let bump = i64::try_from(how.bump_revision).unwrap_or(i64::MAX);
    state.revision = Revision::new(state.revision.get().saturating_add(bump));
    if how.mark_compacted {
        state.compacted = state.revision;
    }
    let mut batch = Batch::default();
    for alarm in store::alarms(backend)? {
        let row = codec::alarm_row(alarm.member_id, alarm.alarm);
        batch.delete(Keyspace::Meta, row);
    }
    batch.put(Keyspace::Meta, codec::META_MEMBERSHIP, membership);
    batch.put(Keyspace::Meta, codec::META_STATE, state.encode());
    backend.write(batch)?;
    Ok(state.revision)
}
