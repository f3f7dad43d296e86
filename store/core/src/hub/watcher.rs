//! One watcher: its buffer, and where it stands.
//! Not how it gets events; the hub decides that.
//! Invariant: the buffer holds whole revisions, and is within its bounds unless one revision alone exceeds them.

use std::collections::VecDeque;

use corten_proto::etcd::mvccpb::{Event, event::EventType};

use super::{Output, Request};
use crate::{
    history::{RevisionEvents, event_bytes},
    ids::Revision,
};

/// Events buffered for one watcher. The bytes are mostly shared with other watchers.
const BUFFER_EVENTS_MAX: usize = 1024;
/// Bytes that the buffer of one watcher keeps alive.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Kinds of events that a watcher does not want.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filters {
    /// No puts.
    pub no_put: bool,
    /// No deletions.
    pub no_delete: bool,
}

impl Filters {
    fn passes(self, event: &Event) -> bool {
        if event.r#type == EventType::Delete as i32 {
            !self.no_delete
        } else {
            !self.no_put
        }
    }
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) request: Request,
    /// Nothing before this is sent.
    pub(super) start: Revision,
    /// Gets new events as they are published.
    pub(super) synced: bool,
    /// While not synced: the first revision that is neither sent nor buffered.
    pub(super) next: Revision,
    /// To be told that it is too late.
    pub(super) compacted: bool,
    buffer: VecDeque<Event>,
    buffer_bytes: usize,
    idle: bool,
}

/// What became of a revision's events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    Nothing,
    Buffered,
    Full,
}

impl Watcher {
    pub(super) fn new(request: Request, start: Revision, synced: bool) -> Self {
        Self {
            request,
            start,
            synced,
            next: start,
            compacted: false,
            buffer: VecDeque::new(),
            buffer_bytes: 0,
            idle: true,
        }
    }

    /// Whether progress to this revision is true of it. One that waits for a later revision is not told of an earlier
    /// one: its client may know more than this member, and would go back (etcd 20221).
    pub(super) fn has_all_until(&self, revision: Revision) -> bool {
        self.synced && self.start <= revision.next()
    }

    /// Buffers what the watcher wants of a revision: all of it, or nothing.
    pub(super) fn accept(&mut self, change: &RevisionEvents) -> Accepted {
        let wants = |event: &&Event| {
            self.request.filters.passes(event)
                && event
                    .kv
                    .as_ref()
                    .is_some_and(|kv| self.request.span.contains(&kv.key))
        };
        let (mut count, mut bytes) = (0, 0);
        for event in change.events.iter().filter(wants) {
            count += 1;
            bytes += event_bytes(event);
        }
        if count == 0 {
            return Accepted::Nothing;
        }
        let fits = self.buffer.len() + count <= BUFFER_EVENTS_MAX
            && self.buffer_bytes + bytes <= BUFFER_BYTES_MAX;
        if !fits && !self.buffer.is_empty() {
            return Accepted::Full;
        }
        let prev_kv = self.request.prev_kv;
        let wanted: Vec<_> = change.events.iter().filter(wants).collect();
        self.buffer.extend(wanted.into_iter().map(|event| Event {
            r#type: event.r#type,
            kv: event.kv.clone(),
            prev_kv: if prev_kv { event.prev_kv.clone() } else { None },
        }));
        self.buffer_bytes += bytes;
        self.idle = false;
        Accepted::Buffered
    }

    /// Empties the buffer into answers. Gives the bytes.
    pub(super) fn drain(
        &mut self,
        watch: i64,
        revision: Revision,
        fragment_bytes: usize,
        out: &mut Vec<Output>,
    ) -> usize {
        let total = self.buffer_bytes;
        self.buffer_bytes = 0;
        let events = Vec::from(std::mem::take(&mut self.buffer));
        if events.is_empty() {
            return 0;
        }
        if !self.request.fragment || total <= fragment_bytes {
            out.push(Output::Events {
                watch,
                revision,
                events,
                fragment: false,
            });
            return total;
        }
        let (mut piece, mut bytes) = (Vec::new(), 0);
        for event in events {
            let size = event_bytes(&event);
            if bytes + size > fragment_bytes && !piece.is_empty() {
                let events = std::mem::take(&mut piece);
                out.push(Output::Events {
                    watch,
                    revision,
                    events,
                    fragment: true,
                });
                bytes = 0;
            }
            bytes += size;
            piece.push(event);
        }
        out.push(Output::Events {
            watch,
            revision,
            events: piece,
            fragment: false,
        });
        total
    }

    pub(super) fn is_idle(&self) -> bool {
        self.idle && self.buffer.is_empty()
    }

    pub(super) fn begin_idle(&mut self) {
        self.idle = self.buffer.is_empty();
    }
}
