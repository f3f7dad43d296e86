//! The bytes of one log record: `[len u32][crc u32][kind u8][payload]`, padded to eight bytes.
//!
//! Not responsible for files or for what records mean. Invariant: a record is accepted only when its checksum,
//! chained from the record before it, matches; so bytes left over from an earlier life of the file never come back.

use bytes::{BufMut, Bytes, BytesMut};

/// Length, checksum and kind.
pub(super) const HEADER_LEN: usize = 9;
/// Records start on this boundary.
const ALIGN: usize = 8;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Larger than any request the client API admits, by far; a bigger length is garbage, not a record.
const PAYLOAD_LEN_MAX: usize = 256 << 20;

/// No record but an entry is larger, by far.
const SMALL_LEN_MAX: usize = 512;

/// What a record's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// First record of a segment: everything that earlier segments would have told.
    Head = 1,
    /// One log entry (`LogEntry`).
    Entry = 2,
    /// The member's vote (`Vote`).
    Vote = 3,
    /// The commit position known to this member (`LogId`).
    Committed = 4,
    /// Entries after this index are gone (`Matched`).
    Truncate = 5,
    /// Entries up to this one are gone (`LogId`).
    Purge = 6,
    /// Last record of a segment that has a successor.
    End = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Head,
            2 => Kind::Entry,
            3 => Kind::Vote,
            4 => Kind::Committed,
            5 => Kind::Truncate,
            6 => Kind::Purge,
            7 => Kind::End,
            _ => return None,
        })
    }
}

/// Bytes that a record with this payload length takes in the file.
pub(super) fn padded_len(payload_len: usize) -> usize {
    (HEADER_LEN + payload_len).next_multiple_of(ALIGN)
}

/// Appends one record to `out` and moves the checksum chain on.
///
/// `fill` writes exactly `payload_len` bytes.
pub(super) fn put(
    out: &mut BytesMut,
    chain: &mut u32,
    kind: Kind,
    payload_len: usize,
    fill: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    let padded = padded_len(payload_len);
    out.reserve(padded);
    out.put_u32_le(u32::try_from(payload_len).expect("payloads are bounded far below 4 GiB"));
    out.put_u32_le(0);
    out.put_u8(kind as u8);
    fill(out);
    assert_eq!(
        out.len() - start,
        HEADER_LEN + payload_len,
        "record payload of announced length"
    );
    let crc = checksum(*chain, &out[start + HEADER_LEN - 1..], payload_len);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + padded, 0);
    *chain = crc;
}

/// One parsed record and where it lies.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
    pub(super) crc: u32,
    /// Offset of the byte after the padding.
    pub(super) end: usize,
}

/// Reads the record at `at`, or `None` when there is no whole, matching record.
pub(super) fn parse(data: &Bytes, at: usize, chain: u32) -> Option<Parsed> {
    let header = data.get(at..at + HEADER_LEN)?;
    let len = u32::from_le_bytes(header[0..4].try_into().expect("four bytes")) as usize;
    let crc = u32::from_le_bytes(header[4..8].try_into().expect("four bytes"));
    let kind = Kind::from_byte(header[8])?;
    if len > PAYLOAD_LEN_MAX || at + HEADER_LEN + len > data.len() {
        return None;
    }
    let body = &data[at + HEADER_LEN - 1..at + HEADER_LEN + len];
    if checksum(chain, body, len) != crc {
        return None;
    }
    let payload = data.slice(at + HEADER_LEN..at + HEADER_LEN + len);
    Some(Parsed {
        kind,
        payload,
        crc,
        end: at + padded_len(len),
    })
}

/// Whether the unreadable record at `at` was damaged after it was written, and is not the torn end of the log.
///
/// Space is reserved as zeros and disks write whole sectors, so a write that did not finish leaves at least one sector of
/// its record zero, or the rest of the file; a record without either had been written whole. Where the header tells no usable length, a good
/// pair of records further on tells that the log had gone on.
pub(super) fn is_damaged(data: &Bytes, at: usize) -> bool {
    let Some(header) = data.get(at..at + HEADER_LEN) else {
        return false;
    };
    if header.iter().all(|byte| *byte == 0) {
        return false;
    }
    let len = u32::from_le_bytes(header[0..4].try_into().expect("four bytes")) as usize;
    let end = at + HEADER_LEN + len;
    // What an unfinished write lacks is zero, and its sectors are whole: it leaves no length that the record cannot have.
    let is_small = Kind::from_byte(header[HEADER_LEN - 1]).is_some_and(|kind| kind != Kind::Entry);
    if len > PAYLOAD_LEN_MAX || is_small && len > SMALL_LEN_MAX {
        return true;
    }
    if end > data.len() {
        return goes_on(data, at);
    }
    // Nothing but zeros from within the record to the end of the file: the write ended there.
    if data[end - 1..].iter().all(|byte| *byte == 0) {
        return false;
    }
    let first = (at / SECTOR + 1) * SECTOR;
    let edges = std::iter::once(at).chain((first..end).step_by(SECTOR));
    let is_zero = |from: usize| {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        data[from..to].iter().all(|byte| *byte == 0)
    };
    !edges.into_iter().any(is_zero)
}

/// Bytes that the search below may hash. Content that looks like headers everywhere would make it take hours; by then it has
/// been shown that much was written, and a member that refuses to start is the safe answer.
const SEARCH_BYTES_MAX: usize = 256 << 20;

/// Whether somewhere behind `at` a record follows another by its chained checksum.
fn goes_on(data: &Bytes, at: usize) -> bool {
    let mut budget = SEARCH_BYTES_MAX;
    for start in (at + ALIGN..data.len().saturating_sub(HEADER_LEN)).step_by(ALIGN) {
        let Some((len, crc)) = plausible(data, start) else {
            continue;
        };
        let next = start + padded_len(len);
        let Some((next_len, _)) = plausible(data, next) else {
            continue;
        };
        if next_len > budget || parse(data, next, crc).is_some() {
            return true;
        }
        budget -= next_len;
    }
    false
}

/// Length and checksum of what may be a record: a known kind, a payload within the data, and zeros up to the next.
fn plausible(data: &Bytes, at: usize) -> Option<(usize, u32)> {
    let header = data.get(at..at + HEADER_LEN)?;
    let len = u32::from_le_bytes(header[0..4].try_into().expect("four bytes")) as usize;
    let crc = u32::from_le_bytes(header[4..8].try_into().expect("four bytes"));
    Kind::from_byte(header[8])?;
    if len > PAYLOAD_LEN_MAX {
        return None;
    }
    let padding = data.get(at + HEADER_LEN + len..at + padded_len(len))?;
    padding.iter().all(|byte| *byte == 0).then_some((len, crc))
}

/// Checks one record read by itself, when the chain before it is not at hand: `crc` is what the index remembers.
pub(super) fn parse_lone(data: &Bytes, chain: u32) -> Option<Bytes> {
    parse(data, 0, chain).map(|parsed| parsed.payload)
}

/// Kind byte and payload, chained; the length is mixed in so that a zeroed header never matches.
fn checksum(chain: u32, body: &[u8], len: usize) -> u32 {
    let len = u32::try_from(len).expect("payloads are bounded far below 4 GiB");
    let seed = crc32c::crc32c_append(chain, &len.to_le_bytes());
    crc32c::crc32c_append(seed, body)
}
