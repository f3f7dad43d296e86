//! The few numbers that are the head of the state: position, revisions, level.
//! Not the membership or the leases; those have rows of their own.
//! Invariant: the row is written in the same batch as what it describes.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{
    backend::{BackendError, Keyspace, Read, Result},
    codec,
    ids::{Position, Revision},
};

const FORMAT: u8 = 1;

/// Head of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// None until the first entry is applied.
    pub(crate) applied: Option<Position>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    /// Cluster level that gates new kinds of commands.
    pub(crate) level: u32,
}

impl State {
    const FOUNDING: Self = Self {
        applied: None,
        revision: Revision::FIRST,
        compacted: Revision::ZERO,
        level: 0,
    };

    pub(crate) fn load(view: &dyn Read) -> Result<Self> {
        match view.get(Keyspace::Meta, codec::META_STATE)? {
            None => Ok(Self::FOUNDING),
            Some(row) => Self::decode(row),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut row = BytesMut::with_capacity(40);
        row.put_u8(FORMAT);
        row.put_u8(u8::from(self.applied.is_some()));
        let applied = self.applied.unwrap_or_default();
        row.put_u64(applied.term);
        row.put_u64(applied.index);
        row.put_u64(self.revision.bits());
        row.put_u64(self.compacted.bits());
        row.put_u32(self.level);
        row.freeze()
    }

    pub(crate) fn decode(mut row: Bytes) -> Result<Self> {
        let corrupt = |_| BackendError::corrupt("state row cannot be read");
        let format = row.try_get_u8().map_err(corrupt)?;
        if format != FORMAT {
            return Err(BackendError::corrupt(format!(
                "state row of format {format}, this version knows {FORMAT}"
            )));
        }
        let is_applied = row.try_get_u8().map_err(corrupt)? != 0;
        let term = row.try_get_u64().map_err(corrupt)?;
        let index = row.try_get_u64().map_err(corrupt)?;
        let revision = Revision::from_bits(row.try_get_u64().map_err(corrupt)?);
        let compacted = Revision::from_bits(row.try_get_u64().map_err(corrupt)?);
        let level = row.try_get_u32().map_err(corrupt)?;
        if compacted > revision {
            return Err(BackendError::corrupt(format!(
                "compacted at {compacted} beyond {revision}"
            )));
        }
        Ok(Self {
            applied: is_applied.then_some(Position { term, index }),
            revision,
            compacted,
            level,
        })
    }
}
