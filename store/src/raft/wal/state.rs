//! What the log holds, in memory: the index of entries, the cache of recent ones, and the bytes not yet written.
//!
//! No IO. Invariant: positions in files are given out here, in order, so the flusher only ever writes what follows
//! what it wrote last.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use corten_proto::corten::store::v1 as pb;
use openraft::EntryPayload;
use prost::Message;

use super::record::{self, Kind};
use super::{Done, WalOptions};
use crate::raft::codec;
use crate::raft::types::{Entry, LogId, Vote};

/// Format number of segments; a file with another one is refused.
pub(super) const FORMAT: u32 = 1;
/// Room kept for the record that closes a segment.
const END_LEN: u64 = 16;

/// Where an entry's record lies, and the checksum of the record before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) chain: u32,
}

struct Slot {
    location: Location,
    log_id: LogId,
    entry: Option<Entry>,
    bytes: usize,
}

/// One entry as `fetch` found it.
pub(super) enum Fetched {
    Cached(Entry),
    OnDisk(Location),
}

/// Work for the flusher, in order.
pub(super) enum Op {
    Write {
        offset: u64,
        data: Bytes,
    },
    /// The current file is complete: sync it, begin this one.
    Rotate {
        segment: u64,
    },
    /// Once everything before is durable.
    Done(Done),
    /// Once everything before is durable: these files are no longer needed.
    Delete(Vec<u64>),
}

/// What the flusher takes at once, and the marks to report back with.
pub(super) struct Batch {
    pub(super) ops: Vec<Op>,
    pub(super) mark: Mark,
}

/// How far a batch goes; void when entries were truncated after it was taken.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    next: u64,
    generation: u64,
}

pub(super) struct State {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    committed_dirty: bool,
    slots: VecDeque<Slot>,
    /// Index of the first slot, or of the entry that would be.
    first: u64,
    cached_bytes: usize,
    /// Entries below are not in the cache.
    cached_from: u64,
    /// Entries below are in files.
    written: u64,
    generation: u64,
    /// Highest entry index ever written to each segment.
    segments: BTreeMap<u64, Option<u64>>,
    segment: u64,
    offset: u64,
    chain: u32,
    ops: Vec<Op>,
    buffer: BytesMut,
    buffer_offset: u64,
    ops_bytes: usize,
    closed: bool,
    failed: Option<String>,
    segment_bytes: u64,
    /// Somebody needs the entries: purges wait.
    held: bool,
    put_off: Option<LogId>,
}

/// Checksum chain at the start of a segment.
pub(super) fn first_chain(segment: u64) -> u32 {
    crc32c::crc32c(&segment.to_le_bytes())
}

impl State {
    /// An empty log; `begin_segment` must follow.
    pub(super) fn new(options: &WalOptions) -> State {
        State {
            vote: None,
            committed: None,
            purged: None,
            committed_dirty: false,
            slots: VecDeque::new(),
            first: 0,
            cached_bytes: 0,
            cached_from: 0,
            written: 0,
            generation: 0,
            segments: BTreeMap::new(),
            segment: 0,
            offset: 0,
            chain: 0,
            ops: Vec::new(),
            buffer: BytesMut::new(),
            buffer_offset: 0,
            ops_bytes: 0,
            closed: false,
            failed: None,
            segment_bytes: options.segment_bytes,
            held: false,
            put_off: None,
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if let Some(why) = &self.failed {
            return Err(io::Error::other(format!(
                "the log failed earlier and must be reopened: {why}"
            )));
        }
        if self.closed {
            Err(io::Error::other("the log is closed"))
        } else {
            Ok(())
        }
    }

    /// The file that is written to.
    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    pub(super) fn next_index(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.ops_bytes + self.buffer.len()
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        (self.segments.len() as u64).saturating_sub(1) * self.segment_bytes + self.offset
    }

    pub(super) fn append(&mut self, entry: Entry, options: &WalOptions) -> io::Result<()> {
        if entry.log_id.index != self.next_index() {
            let (got, expected) = (entry.log_id.index, self.next_index());
            return Err(io::Error::other(format!(
                "append of entry {got} where {expected} is next"
            )));
        }
        let message = codec::entry_to_pb(&entry);
        let location = self.put(Kind::Entry, &message, options);
        self.push(entry, location, options.cache_bytes);
        Ok(())
    }

    /// Adds an entry that has its place in a file.
    pub(super) fn push(&mut self, entry: Entry, location: Location, cache_bytes: usize) {
        if self.slots.is_empty() {
            self.cached_from = self.cached_from.max(self.first);
        }
        let bytes = entry_bytes(&entry);
        self.cached_bytes += bytes;
        let highest = self.segments.entry(location.segment).or_default();
        *highest = (*highest).max(Some(entry.log_id.index));
        self.slots.push_back(Slot {
            location,
            log_id: entry.log_id,
            entry: Some(entry),
            bytes,
        });
        self.evict(cache_bytes);
    }

    pub(super) fn save_vote(&mut self, vote: Vote, options: &WalOptions) {
        self.vote = Some(vote);
        self.put(Kind::Vote, &codec::vote_to_pb(&vote), options);
    }

    pub(super) fn save_committed(&mut self, committed: Option<LogId>) {
        self.committed = committed;
        self.committed_dirty = true;
    }

    pub(super) fn truncate_after(&mut self, last: Option<LogId>, options: &WalOptions) {
        self.forget_after(last.map(|id| id.index));
        // Wrapped, because a bare log id of zeros encodes to nothing and would read back as "all entries".
        let message = pb::Matched {
            log_id: last.as_ref().map(codec::log_id_to_pb),
        };
        self.put(Kind::Truncate, &message, options);
    }

    /// Drops entries from memory whose index is above `last`.
    pub(super) fn forget_after(&mut self, last: Option<u64>) {
        let next = last.map_or(0, |index| index + 1);
        while self.next_index() > next {
            let Some(slot) = self.slots.pop_back() else {
                self.first = next;
                break;
            };
            self.uncache(&slot);
        }
        self.generation += 1;
        self.written = self.written.min(next);
        self.cached_from = self.cached_from.min(next);
    }

    pub(super) fn purge(&mut self, upto: LogId, options: &WalOptions) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        self.forget_upto(upto);
        self.put(Kind::Purge, &codec::log_id_to_pb(&upto), options);
        let current = self.segment;
        let mut dead = Vec::new();
        while let Some((&segment, &highest)) = self.segments.first_key_value() {
            if segment == current || highest.is_some_and(|index| index > upto.index) {
                break;
            }
            self.segments.remove(&segment);
            dead.push(segment);
        }
        if !dead.is_empty() {
            self.seal();
            self.ops.push(Op::Delete(dead));
        }
    }

    /// From now on purges wait.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// Purges wait no more. Gives the one that did.
    pub(super) fn let_go(&mut self) -> Option<LogId> {
        self.held = false;
        self.put_off.take()
    }

    /// Whether a purge is to wait. One beyond the last entry never is: what is appended next would not follow.
    pub(super) fn puts_off(&mut self, upto: LogId) -> bool {
        let wait = self.held && upto.index < self.next_index();
        if wait {
            self.put_off = Some(upto);
        }
        wait
    }

    /// Drops entries from memory whose index is at most `upto`.
    pub(super) fn forget_upto(&mut self, upto: LogId) {
        while self.first <= upto.index {
            let Some(slot) = self.slots.pop_front() else {
                self.first = upto.index + 1;
                break;
            };
            self.first += 1;
            self.uncache(&slot);
        }
        self.purged = Some(upto);
        self.cached_from = self.cached_from.max(self.first);
        self.written = self.written.max(self.first);
    }

    pub(super) fn sync(&mut self, done: Done) {
        self.seal();
        self.ops.push(Op::Done(done));
    }

    pub(super) fn fetch(&self, range: Range<u64>, max_bytes: usize) -> Vec<Fetched> {
        let start = range.start.max(self.first);
        let end = range.end.min(self.next_index());
        let mut budget = max_bytes;
        let mut found = Vec::with_capacity(end.saturating_sub(start) as usize);
        for index in start..end {
            let slot = &self.slots[(index - self.first) as usize];
            if !found.is_empty() && slot.bytes > budget {
                break;
            }
            budget = budget.saturating_sub(slot.bytes);
            found.push(match &slot.entry {
                Some(entry) => Fetched::Cached(entry.clone()),
                None => Fetched::OnDisk(slot.location),
            });
        }
        found
    }

    /// Whether there is something to write.
    pub(super) fn has_work(&self) -> bool {
        let last_words = self.closed && self.committed_dirty;
        !self.ops.is_empty() || !self.buffer.is_empty() || last_words
    }

    /// Everything queued, or `None` when there is nothing to do.
    pub(super) fn take(&mut self, options: &WalOptions) -> Option<Batch> {
        if !self.has_work() {
            return None;
        }
        if std::mem::take(&mut self.committed_dirty)
            && let Some(committed) = self.committed
        {
            self.put(Kind::Committed, &codec::log_id_to_pb(&committed), options);
        }
        self.seal();
        self.ops_bytes = 0;
        let mark = Mark {
            next: self.next_index(),
            generation: self.generation,
        };
        Some(Batch {
            ops: std::mem::take(&mut self.ops),
            mark,
        })
    }

    /// The batch with this mark is in files.
    pub(super) fn written(&mut self, mark: Mark, cache_bytes: usize) {
        if mark.generation == self.generation {
            self.written = self.written.max(mark.next);
        }
        self.evict(cache_bytes);
    }

    /// All entries recovered from files are in files.
    pub(super) fn all_written(&mut self) {
        self.written = self.next_index();
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failed = Some(why);
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Starts a new segment with its head record in the buffer; `offset` is where its next record goes.
    pub(super) fn begin_segment(&mut self, segment: u64) {
        self.seal();
        self.segment = segment;
        self.offset = 0;
        self.buffer_offset = 0;
        self.chain = first_chain(segment);
        self.segments.insert(segment, None);
        let head = pb::SegmentHead {
            format: FORMAT,
            segment,
            vote: self.vote.as_ref().map(codec::vote_to_pb),
            committed: self.committed.as_ref().map(codec::log_id_to_pb),
            purged: self.purged.as_ref().map(codec::log_id_to_pb),
            last: self.last().as_ref().map(codec::log_id_to_pb),
        };
        self.put_record(Kind::Head, &head);
    }

    /// Continues an existing segment after its last good record.
    pub(super) fn resume_segment(&mut self, segment: u64, offset: u64, chain: u32) {
        self.segment = segment;
        self.offset = offset;
        self.buffer_offset = offset;
        self.chain = chain;
    }

    /// Notes a segment found on disk; returns nothing about its contents.
    pub(super) fn note_segment(&mut self, segment: u64) {
        self.segments.entry(segment).or_default();
    }

    /// Sets the first expected entry from the head of the oldest segment.
    pub(super) fn start_after(&mut self, last: Option<LogId>) {
        self.first = last.map_or(0, |id| id.index + 1);
    }

    /// Whether entries between the purge position and the first entry are missing.
    pub(super) fn has_hole(&self) -> bool {
        self.first != self.purged.map_or(0, |id| id.index + 1)
    }

    fn put(&mut self, kind: Kind, message: &impl Message, options: &WalOptions) -> Location {
        self.rotate_if_full(record::padded_len(message.encoded_len()) as u64, options);
        self.put_record(kind, message)
    }

    fn put_record(&mut self, kind: Kind, message: &impl Message) -> Location {
        let len = message.encoded_len();
        let padded = record::padded_len(len);
        let location = Location {
            segment: self.segment,
            offset: self.offset,
            len: u32::try_from(padded).expect("records are bounded far below 4 GiB"),
            chain: self.chain,
        };
        record::put(&mut self.buffer, &mut self.chain, kind, len, |out| {
            message.encode(out).expect("a BytesMut grows as needed");
        });
        self.offset += padded as u64;
        location
    }

    fn rotate_if_full(&mut self, padded: u64, options: &WalOptions) {
        // The head record alone never fills a segment; a record larger than a segment gets one to itself.
        let only_head = self.segments.get(&self.segment).is_none_or(Option::is_none);
        if self.offset + padded + END_LEN <= options.segment_bytes || only_head {
            return;
        }
        self.put_record(Kind::End, &());
        let next = self.segment + 1;
        self.seal();
        self.ops.push(Op::Rotate { segment: next });
        self.begin_segment(next);
    }

    /// Moves buffered bytes into the queue, so that what follows is ordered after them.
    fn seal(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let data = self.buffer.split().freeze();
        self.ops_bytes += data.len();
        let offset = self.buffer_offset;
        self.buffer_offset += data.len() as u64;
        self.ops.push(Op::Write { offset, data });
    }

    fn evict(&mut self, cache_bytes: usize) {
        while self.cached_bytes > cache_bytes
            && self.cached_from < self.written.min(self.next_index())
        {
            let at = (self.cached_from - self.first) as usize;
            self.cached_from += 1;
            let slot = &mut self.slots[at];
            if slot.entry.take().is_some() {
                self.cached_bytes -= slot.bytes;
            }
        }
    }

    fn uncache(&mut self, slot: &Slot) {
        if slot.entry.is_some() {
            self.cached_bytes -= slot.bytes;
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    const OVERHEAD: usize = size_of::<Slot>();
    match &entry.payload {
        EntryPayload::Normal(command) => OVERHEAD + command.0.len(),
        EntryPayload::Blank => OVERHEAD,
        // A membership is a few hundred bytes; its exact size does not matter to a budget of MiBs.
        EntryPayload::Membership(_) => OVERHEAD + 1024,
    }
}
