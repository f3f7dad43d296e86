//! Walking versions: the newest version of each key at a revision.
//! Not here: what a request wants of them (`range`), or what changed between revisions (`history`).
//! Invariant: at a revision that is not compacted, a walk sees each living key once, in order.

use std::ops::ControlFlow;

use bytes::Bytes;
use corten_proto::etcd::mvccpb::KeyValue;

use crate::{
    backend::{Cursor, Keyspace, Read, Result},
    codec::{self, Record},
    ids::{LeaseId, Revision},
    span::Span,
};

/// Old versions of one key to step over before a seek is cheaper.
const STEPS_BEFORE_SEEK: u32 = 8;

/// A living key at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) modified: Revision,
    pub(crate) created: Revision,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) value: Bytes,
}

impl Live {
    pub(crate) fn into_key_value(self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.created.get(),
            mod_revision: self.modified.get(),
            version: self.version,
            value: self.value,
            lease: self.lease.0,
        }
    }

    pub(crate) fn from_record(record: Record, modified: Revision) -> Option<Self> {
        match record {
            Record::Tombstone => None,
            Record::Value {
                created,
                version,
                lease,
                value,
            } => Some(Self {
                modified,
                created,
                version,
                lease,
                value,
            }),
        }
    }
}

/// The version of one key at a revision, unless it does not live then.
pub(crate) fn get(view: &dyn Read, key: &[u8], at: Revision) -> Result<Option<Live>> {
    let mut from = codec::key_prefix(key);
    let to = codec::prefix_end(&from);
    codec::push_revision(&mut from, at);
    let Some((row, value)) = view.first(Keyspace::Key, &from, Some(&to))? else {
        return Ok(None);
    };
    let (_, modified) = codec::split_key_row(&row)?;
    Ok(Live::from_record(Record::decode(value)?, modified))
}

/// Calls `visit` for every living key of the span at a revision. The cursor stands on the row; nothing is copied yet.
pub(crate) fn walk(
    view: &dyn Read,
    span: &Span,
    at: Revision,
    mut visit: impl FnMut(&dyn Cursor, Revision) -> Result<ControlFlow<()>>,
) -> Result<()> {
    if span.is_empty() {
        return Ok(());
    }
    let (from, to) = span.row_bounds();
    let mut cursor = view.scan(Keyspace::Key, &from, to.as_deref())?;
    let mut prefix = Vec::new();
    while let Some(row) = cursor.key() {
        let (key, modified) = codec::split_key_row(row)?;
        if modified > at {
            prefix.clear();
            prefix.extend_from_slice(key);
            skip_newer(cursor.as_mut(), &mut prefix, at)?;
            continue;
        }
        prefix.clear();
        prefix.extend_from_slice(key);
        if !Record::is_tombstone(cursor.value()) && visit(cursor.as_ref(), modified)?.is_break() {
            return Ok(());
        }
        skip_versions(cursor.as_mut(), &prefix)?;
    }
    Ok(())
}

/// Reads the row under a cursor of `walk`.
pub(crate) fn live(cursor: &dyn Cursor, modified: Revision) -> Result<Option<Live>> {
    Ok(Live::from_record(
        Record::decode(cursor.value_bytes())?,
        modified,
    ))
}

fn skip_newer(cursor: &mut dyn Cursor, prefix: &mut Vec<u8>, at: Revision) -> Result<()> {
    codec::push_revision(prefix, at);
    for _ in 0..STEPS_BEFORE_SEEK {
        cursor.advance()?;
        if cursor.key().is_none_or(|row| row >= prefix.as_slice()) {
            return Ok(());
        }
    }
    cursor.seek(prefix)
}

fn skip_versions(cursor: &mut dyn Cursor, prefix: &[u8]) -> Result<()> {
    for _ in 0..STEPS_BEFORE_SEEK {
        cursor.advance()?;
        if cursor.key().is_none_or(|row| !row.starts_with(prefix)) {
            return Ok(());
        }
    }
    cursor.seek(&codec::prefix_end(prefix))
}
