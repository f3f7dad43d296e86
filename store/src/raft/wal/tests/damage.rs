//! Log files that a write did not finish, or that were changed: the one is brought in order, the other refused.

use proptest::prelude::*;

use super::*;

/// Opens a copy of the folder whose last file was changed; the copy lives as long as what comes back.
fn reopen_changed(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) -> (Wal, tempfile::TempDir) {
    let copy = tempfile::tempdir().expect("temp dir");
    for name in segments(dir) {
        std::fs::copy(dir.join(&name), copy.path().join(&name)).expect("copy");
    }
    let last = copy.path().join(segments(dir).last().expect("a file"));
    let mut data = std::fs::read(&last).expect("read");
    change(&mut data);
    std::fs::write(&last, data).expect("write");
    let wal = Wal::open(options(copy.path())).expect("a torn end is no damage");
    (wal, copy)
}

/// Where the zeros that were reserved begin.
fn end_of_records(data: &[u8]) -> usize {
    data.iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1)
}

#[test]
fn a_torn_last_record_is_dropped_and_its_leftovers_never_return() {
    let dir = tempfile::tempdir().expect("temp dir");
    let wal = Wal::open(WalOptions {
        segment_bytes: 1 << 20,
        ..options(dir.path())
    })
    .expect("open");
    append(&wal, (0..10).map(|index| entry(1, index, 40)).collect());
    drop(wal);
    // Record 7 was not written, 8 and 9 behind it were, as a disk may do with one unfinished write: they must not follow a
    // new record 7.
    let path = dir.path().join(segments(dir.path()).remove(0));
    let mut data = std::fs::read(&path).expect("read");
    let (start, end) = record_with(&data, &[7; 40]);
    data[start..end].fill(0);
    std::fs::write(&path, &data).expect("write");
    let wal = Wal::open(WalOptions {
        segment_bytes: 1 << 20,
        ..options(dir.path())
    })
    .expect("reopen");
    assert_eq!(all(&wal).len(), 7);
    append(&wal, vec![entry(1, 7, 40)]);
    drop(wal);
    let wal = Wal::open(WalOptions {
        segment_bytes: 1 << 20,
        ..options(dir.path())
    })
    .expect("reopen");
    assert_eq!(all(&wal).len(), 8);
}

/// Where the record around these bytes begins and ends.
fn record_with(data: &[u8], payload: &[u8]) -> (usize, usize) {
    let marker = data
        .windows(payload.len())
        .position(|window| window == payload)
        .expect("a record with it");
    let data = bytes::Bytes::copy_from_slice(data);
    let mut at = (0, super::state::first_chain(1));
    while let Some(parsed) = super::record::parse(&data, at.0, at.1) {
        if parsed.end > marker {
            return (at.0, parsed.end);
        }
        at = (parsed.end, parsed.crc);
    }
    panic!("the record is not readable");
}

#[test]
fn damage_within_the_last_file_stops_the_member_instead_of_losing_what_follows() {
    let dir = tempfile::tempdir().expect("temp dir");
    let large = WalOptions {
        segment_bytes: 1 << 20,
        ..options(dir.path())
    };
    let wal = Wal::open(large.clone()).expect("open");
    append(&wal, (0..10).map(|index| entry(1, index, 40)).collect());
    drop(wal);
    let path = dir.path().join(segments(dir.path()).remove(0));
    let good = std::fs::read(&path).expect("read");
    let (start, end) = record_with(&good, &[7; 40]);
    // A flipped bit in the payload, in the checksum, in the kind, and lengths that are absurd or merely too large.
    for (at, bit) in [
        (end - 20, 1),
        (start + 4, 1),
        (start + 8, 64),
        (start + 3, 128),
        (start + 2, 64),
    ] {
        let mut data = good.clone();
        data[at] ^= bit;
        std::fs::write(&path, &data).expect("write");
        let error = Wal::open(large.clone()).err();
        let error = error.unwrap_or_else(|| panic!("byte {} of the record", at - start));
        assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_last_file_with_a_damaged_head_was_taken_for_one_being_begun() {
    let dir = tempfile::tempdir().expect("temp dir");
    {
        let wal = Wal::open(options(dir.path())).expect("open");
        append(&wal, (0..8).map(|index| entry(1, index, 100)).collect());
        // Votes until one of them is in a new file.
        let files = segments(dir.path()).len();
        let mut term = 2;
        while segments(dir.path()).len() == files {
            save_vote(&wal, term);
            term += 1;
        }
        save_vote(&wal, term);
    }
    let last = dir.path().join(segments(dir.path()).pop().expect("a file"));
    let good = std::fs::read(&last).expect("read");
    for at in [0, 4, 8, 20] {
        let mut data = good.clone();
        data[at] ^= 4;
        std::fs::write(&last, &data).expect("write");
        let refused = Wal::open(options(dir.path())).map(drop);
        assert!(
            matches!(refused, Err(WalError::Corrupt { .. })),
            "byte {at}: {refused:?}"
        );
    }
}

#[test]
fn a_vote_of_impossible_length_was_taken_for_a_torn_end() {
    let dir = tempfile::tempdir().expect("temp dir");
    let start = {
        let wal = Wal::open(options(dir.path())).expect("open");
        append(&wal, vec![entry(1, 0, 40)]);
        let path = dir.path().join(segments(dir.path()).remove(0));
        let start = end_of_records(&std::fs::read(path).expect("read")).next_multiple_of(8);
        save_vote(&wal, 5);
        start
    };
    // The bits that make it end beyond the file, and beyond what any record may have.
    for (byte, bit) in [(2, 1), (2, 128), (3, 8), (3, 128)] {
        let copy = tempfile::tempdir().expect("temp dir");
        let name = segments(dir.path()).remove(0);
        let mut data = std::fs::read(dir.path().join(&name)).expect("read");
        data[start + byte] ^= bit;
        std::fs::write(copy.path().join(&name), data).expect("write");
        let refused = Wal::open(options(copy.path())).map(drop);
        assert!(
            matches!(refused, Err(WalError::Corrupt { .. })),
            "bit {bit} of byte {byte}: {refused:?}"
        );
    }
}

#[test]
fn cutting_the_last_file_anywhere_gives_a_prefix() {
    let dir = tempfile::tempdir().expect("temp dir");
    let wal = Wal::open(options(dir.path())).expect("open");
    append(&wal, (0..25).map(|index| entry(1, index, 60)).collect());
    let whole = all(&wal);
    drop(wal);
    let last = dir
        .path()
        .join(segments(dir.path()).last().expect("a file"));
    let end = end_of_records(&std::fs::read(last).expect("read"));
    for cut in 0..=end {
        let (wal, _copy) = reopen_changed(dir.path(), |data| data[cut..].fill(0));
        let entries = all(&wal);
        assert_eq!(entries, whole[..entries.len()], "cut at {cut}");
    }
}

#[test]
fn damage_before_the_last_file_stops_the_member() {
    let dir = tempfile::tempdir().expect("temp dir");
    let wal = Wal::open(options(dir.path())).expect("open");
    append(&wal, (0..50).map(|index| entry(1, index, 60)).collect());
    drop(wal);
    let first = dir.path().join(segments(dir.path()).remove(0));
    let mut data = std::fs::read(&first).expect("read");
    data[200] ^= 1;
    std::fs::write(&first, data).expect("write");
    let error = Wal::open(options(dir.path())).err().expect("refused");
    assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn files_of_any_bytes_are_opened_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        flips in prop::collection::vec((0usize..2000, 1u8..), 0..4),
    ) {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(segment_path(dir.path(), 1), &bytes).expect("write");
        let _ = Wal::open(options(dir.path()));

        let dir = tempfile::tempdir().expect("temp dir");
        let wal = Wal::open(options(dir.path())).expect("open");
        append(&wal, (0..40).map(|index| entry(1, index, 40)).collect());
        drop(wal);
        for name in segments(dir.path()) {
            let path = dir.path().join(name);
            let mut data = std::fs::read(&path).expect("read");
            for (place, flip) in &flips {
                if let Some(byte) = data.get_mut(*place) {
                    *byte ^= flip;
                }
            }
            std::fs::write(path, data).expect("write");
        }
        // What is opened all the same holds entries as they were, up to some place.
        if let Ok(wal) = Wal::open(options(dir.path())) {
            let found = all(&wal);
            for (index, found) in (0..).zip(&found) {
                prop_assert_eq!(found, &entry(1, index, 40));
            }
        }
    }
}

#[test]
fn content_that_looks_like_headers_made_a_start_take_minutes() {
    // Every eight bytes are the head of a record of a megabyte whose padding is zero, and none has a good checksum.
    let head = [0x03, 0x00, 0x0f, 0x00, 0x00, 0x00, 0x00, 0x00];
    let mut data = vec![0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff];
    data.push(record::Kind::Entry as u8);
    data.resize(16, 0);
    data.extend(head.repeat(512 << 10));
    // It cannot be told from a log that had gone on, and is told so before long.
    assert!(record::is_damaged(&Bytes::from(data), 0));
}

#[test]
fn a_file_of_a_later_format_was_called_damaged() {
    let dir = tempfile::tempdir().expect("temp dir");
    let head = corten_proto::corten::store::v1::SegmentHead {
        format: state::FORMAT + 1,
        segment: 1,
        ..Default::default()
    };
    let (mut data, mut chain) = (bytes::BytesMut::new(), state::first_chain(1));
    let len = head.encoded_len();
    record::put(&mut data, &mut chain, record::Kind::Head, len, |out| {
        head.encode(out).expect("room");
    });
    std::fs::write(segment_path(dir.path(), 1), &data).expect("written");
    let error = Wal::open(options(dir.path())).err().expect("refused");
    assert!(
        matches!(error, WalError::Format { format, .. } if format == state::FORMAT + 1),
        "{error}"
    );
}
