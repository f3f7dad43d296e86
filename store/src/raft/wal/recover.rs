//! Reads the log files back after a start.
//!
//! Not responsible for repairing what a disk lost: that is an error. Invariant: only the end of the last file may be
//! unreadable, and only as a write that did not finish leaves it; anything else that is unreadable stops the member.
//! Names of deleted files may come back after a loss of power, each on its own: files before a gap count as deleted
//! when the ones after it are whole without them. What was read of the last file is written again before it counts as durable:
//! after a sync that failed it may be in memory alone, and no later sync would say so.

use std::io;

use bytes::Bytes;
use corten_proto::corten::store::v1 as pb;
use prost::Message;

use super::flusher::create_segment;
use super::record::{self, Kind, Parsed};
use super::state::{FORMAT, Location, State, first_chain};
use super::{WalError, WalOptions, decode_entry, in_file, segment_path};
use crate::disk::DiskFile;
use crate::raft::codec;

/// Where reading a segment ended.
struct Tail {
    offset: usize,
    chain: u32,
    /// The segment was closed properly and has, or should have, a successor.
    ended: bool,
}

/// Rebuilds the state, and opens the file that the next record goes to.
pub(super) fn recover(options: &WalOptions) -> Result<(State, Box<dyn DiskFile>), WalError> {
    let disk = options.disk.as_ref();
    let io_error = |source| WalError::Io {
        dir: options.dir.clone(),
        source,
    };
    let (deleted, mut segments) = last_run(list(options).map_err(io_error)?);
    let mut state = State::new(options);
    let mut tail = None;
    let count = segments.len();
    for (position, &segment) in segments.clone().iter().enumerate() {
        let last = position + 1 == count;
        let path = segment_path(&options.dir, segment);
        let named = |error| io_error(in_file(&path, &error));
        let data = Bytes::from(disk.read(&path).map_err(named)?);
        match read_segment(options, &mut state, segment, &data, position == 0)? {
            Some(end) if end.ended || last => {
                // The padding of the last record may be missing.
                let records = data.slice(..end.offset.min(data.len()));
                tail = Some((segment, records, end));
            }
            Some(end) => return Err(corrupt(options, segment, end.offset, "more records")),
            // The crash came while the file was being begun; nothing in it was ever acknowledged.
            None if last => {
                disk.remove(&path).map_err(named)?;
                segments.pop();
            }
            None => return Err(corrupt(options, segment, 0, "a head record")),
        }
    }
    if state.has_hole() {
        return Err(corrupt(
            options,
            segments.first().copied().unwrap_or(0),
            0,
            "entries after the purge position",
        ));
    }
    for segment in deleted {
        let path = segment_path(&options.dir, segment);
        tracing::info!(path = %path.display(), "deletes a log file whose deletion a loss of power took back");
        disk.remove(&path).map_err(io_error)?;
    }
    state.all_written();
    let next = match tail {
        Some((segment, records, end)) => {
            let file = reopen(options, segment, &records)
                .map_err(|error| io_error(in_file(&segment_path(&options.dir, segment), &error)))?;
            if !end.ended {
                state.resume_segment(segment, end.offset as u64, end.chain);
                return Ok((state, file));
            }
            segment + 1
        }
        None => 1,
    };
    state.begin_segment(next);
    let file = create_segment(disk, &options.dir, next, options.segment_bytes)
        .map_err(|error| io_error(in_file(&segment_path(&options.dir, next), &error)))?;
    Ok((state, file))
}

/// Bytes in one write of what was read.
const REWRITE: usize = 1 << 20;

/// Writes the good records again, and wipes what follows them, so that no leftover byte is ever read as a record again. The
/// space that the file has stays its own: on a full disk it could not be had again.
fn reopen(options: &WalOptions, segment: u64, records: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    let file = options.disk.open(&segment_path(&options.dir, segment))?;
    for (number, part) in records.chunks(REWRITE).enumerate() {
        file.write_all_at(part, (number * REWRITE) as u64)?;
    }
    let (end, size) = (records.len() as u64, file.size()?);
    file.wipe(end, size)?;
    if size < options.segment_bytes {
        file.reserve(options.segment_bytes)?;
    }
    file.sync_all()?;
    options.disk.sync_dir(&options.dir)?;
    Ok(file)
}

/// Replays one file; `None` when not even its head is readable.
fn read_segment(
    options: &WalOptions,
    state: &mut State,
    segment: u64,
    data: &Bytes,
    oldest: bool,
) -> Result<Option<Tail>, WalError> {
    let bad = |offset: usize, what: &str| corrupt(options, segment, offset, what);
    let Some(parsed) = record::parse(data, 0, first_chain(segment)) else {
        // Votes may follow it: a file with a damaged head is not one that was being begun.
        if record::is_damaged(data, 0) {
            return Err(bad(0, "a head record that matches its checksum"));
        }
        return Ok(None);
    };
    let head = match parsed.kind {
        Kind::Head => {
            pb::SegmentHead::decode(parsed.payload).map_err(|_| bad(0, "a head message"))?
        }
        _ => return Err(bad(0, "a head record")),
    };
    if head.format != FORMAT {
        return Err(WalError::Format {
            file: segment_path(&options.dir, segment),
            format: head.format,
        });
    }
    if head.segment != segment {
        return Err(bad(0, "a head of this number"));
    }
    state.note_segment(segment);
    if oldest {
        state.vote = head.vote.as_ref().map(codec::vote);
        state.committed = head.committed.as_ref().map(codec::log_id);
        state.purged = head.purged.as_ref().map(codec::log_id);
        state.start_after(head.last.as_ref().map(codec::log_id));
    }
    let mut tail = Tail {
        offset: parsed.end,
        chain: parsed.crc,
        ended: false,
    };
    while let Some(parsed) = record::parse(data, tail.offset, tail.chain) {
        let (end, crc) = (parsed.end, parsed.crc);
        let location = Location {
            segment,
            offset: tail.offset as u64,
            len: u32::try_from(end - tail.offset).expect("records are bounded far below 4 GiB"),
            chain: tail.chain,
        };
        if parsed.kind == Kind::End {
            tail.ended = true;
            tail.offset = end;
            break;
        }
        replay(options, state, parsed, location).map_err(|what| bad(tail.offset, &what))?;
        tail.offset = end;
        tail.chain = crc;
    }
    // Cutting off a record that was whole once would lose what this member had acknowledged.
    if !tail.ended && record::is_damaged(data, tail.offset) {
        return Err(bad(tail.offset, "a record that matches its checksum"));
    }
    Ok(Some(tail))
}

fn replay(
    options: &WalOptions,
    state: &mut State,
    parsed: Parsed,
    location: Location,
) -> Result<(), String> {
    let log_id = |payload: Bytes| {
        pb::LogId::decode(payload)
            .map(|id| codec::log_id(&id))
            .map_err(|error| error.to_string())
    };
    match parsed.kind {
        Kind::Entry => {
            // A copy: what is kept of an entry must not keep the whole file's bytes with it.
            let payload = Bytes::copy_from_slice(&parsed.payload);
            let entry = decode_entry(payload).map_err(|error| error.to_string())?;
            if entry.log_id.index != state.next_index() {
                return Err(format!(
                    "entry {} but found {}",
                    state.next_index(),
                    entry.log_id.index
                ));
            }
            state.push(entry, location, options.cache_bytes);
            state.all_written();
        }
        Kind::Vote => {
            let vote = pb::Vote::decode(parsed.payload).map_err(|error| error.to_string())?;
            state.vote = Some(codec::vote(&vote));
        }
        Kind::Committed => state.committed = Some(log_id(parsed.payload)?),
        Kind::Truncate => {
            let last = pb::Matched::decode(parsed.payload).map_err(|error| error.to_string())?;
            state.forget_after(last.log_id.map(|id| id.index));
        }
        Kind::Purge => state.forget_upto(log_id(parsed.payload)?),
        Kind::Head | Kind::End => return Err("no head or end inside a file".to_owned()),
    }
    Ok(())
}

fn list(options: &WalOptions) -> io::Result<Vec<u64>> {
    let names = options.disk.list(&options.dir)?;
    let number = |name: &String| u64::from_str_radix(name.strip_suffix(".wal")?, 16).ok();
    let mut segments: Vec<u64> = names.iter().filter_map(number).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The segments before the last gap in their numbers, and those after it.
fn last_run(mut segments: Vec<u64>) -> (Vec<u64>, Vec<u64>) {
    let gap = segments.windows(2).rposition(|two| two[0] + 1 != two[1]);
    let run = segments.split_off(gap.map_or(0, |at| at + 1));
    (segments, run)
}

fn corrupt(options: &WalOptions, segment: u64, offset: usize, what: &str) -> WalError {
    WalError::Corrupt {
        file: segment_path(&options.dir, segment),
        offset: offset as u64,
        what: format!("expected {what}"),
    }
}
