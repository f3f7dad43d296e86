//! Reading what changed: the events of past revisions, for watches that start in the past or fell behind.
//! Not the live path: new events go from the writer straight to the hub.
//! Invariant: a chunk ends between revisions, and holds every event of interest from its start to its end.

use std::sync::Arc;

use bytes::Bytes;
use corten_proto::etcd::mvccpb::{Event, KeyValue, event::EventType};

use crate::{
    backend::{self, Keyspace, Read},
    codec::{self, Record},
    error::Error,
    ids::Revision,
    read::Live,
    span::Span,
};

/// Rows of history looked at in one chunk: keeps a read of the past in the low milliseconds.
const CHUNK_ROWS_MAX: usize = 4096;
/// Bytes of events in one chunk.
const CHUNK_BYTES_MAX: usize = 2 * 1024 * 1024;

/// All events of one revision, shared by whoever gets them.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionEvents {
    /// The revision.
    pub revision: Revision,
    /// Its events, in order.
    pub events: Arc<[Event]>,
    /// Rough size of keys and values.
    pub bytes: usize,
}

impl RevisionEvents {
    /// Takes the events of a revision.
    pub fn new(revision: Revision, events: Vec<Event>) -> Self {
        let bytes = events.iter().map(event_bytes).sum();
        Self {
            revision,
            events: events.into(),
            bytes,
        }
    }
}

/// What an event takes in memory, near enough to bound buffers by.
pub(crate) fn event_bytes(event: &Event) -> usize {
    /// Structs and shared counters.
    const FIXED: usize = 96;
    let size = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
    FIXED + size(&event.kv) + size(&event.prev_kv)
}

/// A stretch of history.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Last revision that is covered, whether or not it has an event in the chunk.
    pub through: Revision,
    /// Events of interest by revision.
    pub events: Vec<RevisionEvents>,
}

/// Reads from `from` to at most `current`. `interest` says from which revision on each span is wanted.
pub(crate) fn read(
    view: &dyn Read,
    from: Revision,
    current: Revision,
    compacted: Revision,
    interest: &[(Revision, &Span)],
) -> Result<Chunk, Error> {
    if from < compacted {
        return Err(Error::Compacted);
    }
    let mut chunk = Chunk {
        through: current,
        events: Vec::new(),
    };
    let start = codec::rev_row(from, 0);
    let end = codec::rev_row(current.next(), 0);
    let mut cursor = view.scan(Keyspace::Rev, &start, Some(&end))?;
    let mut open: Option<(Revision, Vec<Event>)> = None;
    let (mut rows, mut bytes) = (0, 0);
    while let Some(row) = cursor.key() {
        let revision = codec::rev_row_revision(row)?;
        if open.as_ref().is_none_or(|(last, _)| *last != revision) {
            close(&mut chunk, open.take());
            if rows >= CHUNK_ROWS_MAX || bytes >= CHUNK_BYTES_MAX {
                chunk.through = Revision::new(revision.get() - 1);
                return Ok(chunk);
            }
            open = Some((revision, Vec::new()));
        }
        let key = cursor.value();
        if interest
            .iter()
            .any(|(since, span)| *since <= revision && span.contains(key))
        {
            let key = cursor.value_bytes();
            if let Some(event) = event(view, key, revision)? {
                bytes += event_bytes(&event);
                if let Some((_, events)) = &mut open {
                    events.push(event);
                }
            }
        }
        rows += 1;
        cursor.advance()?;
    }
    close(&mut chunk, open);
    Ok(chunk)
}

fn close(chunk: &mut Chunk, open: Option<(Revision, Vec<Event>)>) {
    if let Some((revision, events)) = open.filter(|(_, events)| !events.is_empty()) {
        chunk.events.push(RevisionEvents::new(revision, events));
    }
}

/// Rebuilds the event of a key at a revision; none if a compaction has taken the version.
fn event(view: &dyn Read, key: Bytes, revision: Revision) -> backend::Result<Option<Event>> {
    let from = codec::key_row(&key, revision);
    let to = codec::prefix_end(&codec::key_prefix(&key));
    let mut cursor = view.scan(Keyspace::Key, &from, Some(&to))?;
    if cursor.key() != Some(from.as_slice()) {
        return Ok(None);
    }
    let record = Record::decode(cursor.value_bytes())?;
    cursor.advance()?;
    let prev_kv = match cursor.key() {
        None => None,
        Some(row) => {
            let (_, modified) = codec::split_key_row(row)?;
            let record = Record::decode(cursor.value_bytes())?;
            Live::from_record(record, modified).map(|live| live.into_key_value(key.clone()))
        }
    };
    Ok(Some(match Live::from_record(record, revision) {
        Some(live) => Event {
            r#type: EventType::Put as i32,
            kv: Some(live.into_key_value(key)),
            prev_kv,
        },
        None => Event {
            r#type: EventType::Delete as i32,
            kv: Some(KeyValue {
                key,
                mod_revision: revision.get(),
                ..Default::default()
            }),
            prev_kv,
        },
    }))
}
