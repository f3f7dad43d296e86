//! The log against a plain list, over reopening and small segments; `damage` has torn writes and flipped bits.

mod damage;

use std::path::Path;
use std::sync::mpsc;

use openraft::EntryPayload;
use proptest::prelude::*;

use super::*;
use crate::raft::types::{Command, MemberId};

fn options(dir: &Path) -> WalOptions {
    WalOptions {
        segment_bytes: 1024,
        cache_bytes: 2_000,
        ..WalOptions::new(dir)
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let value = vec![u8::try_from(index % 251).expect("small"); size];
    Entry {
        log_id: id(term, index),
        payload: EntryPayload::Normal(Command(Bytes::from(value))),
    }
}

/// Appends and waits until it is durable.
fn append(wal: &Wal, entries: Vec<Entry>) {
    let (done, durable) = mpsc::channel();
    wal.append(
        entries,
        Box::new(move |result| done.send(result).expect("waiting")),
    )
    .expect("accepted");
    durable.recv().expect("answered").expect("durable");
}

fn save_vote(wal: &Wal, term: u64) {
    let (done, durable) = mpsc::channel();
    wal.save_vote(
        Vote::new(term, MemberId(1)),
        Box::new(move |result| done.send(result).expect("waiting")),
    )
    .expect("accepted");
    durable.recv().expect("answered").expect("durable");
}

fn all(wal: &Wal) -> Vec<Entry> {
    wal.read(0..u64::MAX, usize::MAX).expect("read")
}

fn segments(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("list")
        .map(|item| item.expect("item").file_name().into_string().expect("text"))
        .filter(|name| name.ends_with(".wal"))
        .collect();
    names.sort();
    names
}

#[test]
fn entries_and_vote_come_back_over_many_segments_and_beyond_the_cache() {
    let dir = tempfile::tempdir().expect("temp dir");
    let entries: Vec<Entry> = (0..200).map(|index| entry(1, index, 100)).collect();
    {
        let wal = Wal::open(options(dir.path())).expect("open");
        for chunk in entries.chunks(7) {
            append(&wal, chunk.to_vec());
        }
        save_vote(&wal, 5);
        assert_eq!(all(&wal), entries, "older ones are read back from files");
    }
    assert!(segments(dir.path()).len() > 10);
    let wal = Wal::open(options(dir.path())).expect("reopen");
    assert_eq!(all(&wal), entries);
    assert_eq!(wal.vote(), Some(Vote::new(5, MemberId(1))));
    assert_eq!(wal.bounds(), (None, Some(id(1, 199))));
    let some = wal.read(50..60, 250).expect("read");
    assert!(
        !some.is_empty() && some.len() < 10,
        "bounded by bytes: {}",
        some.len()
    );
    assert_eq!(wal.read(10..12, 0).expect("read").len(), 1, "at least one");
}

#[test]
fn a_truncation_holds_over_a_restart_also_down_to_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    {
        let wal = Wal::open(options(dir.path())).expect("open");
        append(&wal, (0..30).map(|index| entry(1, index, 50)).collect());
        wal.truncate_after(Some(id(1, 9))).expect("accepted");
        append(&wal, vec![entry(2, 10, 50)]);
    }
    {
        let wal = Wal::open(options(dir.path())).expect("reopen");
        assert_eq!(wal.bounds().1, Some(id(2, 10)));
        assert_eq!(all(&wal).len(), 11);
        // The very first entry has the log id zero-zero on the wire.
        wal.truncate_after(Some(id(1, 0))).expect("accepted");
        assert_eq!(all(&wal).len(), 1);
        wal.truncate_after(None).expect("accepted");
        append(&wal, vec![entry(3, 0, 10)]);
    }
    let wal = Wal::open(options(dir.path())).expect("reopen");
    assert_eq!(all(&wal), vec![entry(3, 0, 10)]);
}

#[test]
fn purged_files_go_and_what_they_told_stays_known() {
    let dir = tempfile::tempdir().expect("temp dir");
    {
        let wal = Wal::open(options(dir.path())).expect("open");
        save_vote(&wal, 9);
        append(&wal, (0..100).map(|index| entry(1, index, 100)).collect());
        let before = segments(dir.path()).len();
        wal.purge(id(1, 79)).expect("accepted");
        append(&wal, vec![entry(1, 100, 10)]);
        assert!(segments(dir.path()).len() < before / 2);
    }
    {
        let wal = Wal::open(options(dir.path())).expect("reopen");
        assert_eq!(wal.vote(), Some(Vote::new(9, MemberId(1))));
        assert_eq!(wal.bounds(), (Some(id(1, 79)), Some(id(1, 100))));
        assert_eq!(all(&wal).first().map(|entry| entry.log_id), Some(id(1, 80)));
        // As after a snapshot was installed: the log begins anew beyond its end.
        wal.purge(id(4, 500)).expect("accepted");
        append(&wal, vec![entry(4, 501, 10)]);
    }
    let wal = Wal::open(options(dir.path())).expect("reopen");
    assert_eq!(wal.bounds(), (Some(id(4, 500)), Some(id(4, 501))));
    assert_eq!(all(&wal).len(), 1);
}

#[test]
fn a_deletion_that_a_loss_of_power_took_back_in_part_stopped_the_member() {
    let dir = tempfile::tempdir().expect("temp dir");
    let copy = tempfile::tempdir().expect("temp dir");
    let entries: Vec<Entry> = (0..60).map(|index| entry(1, index, 100)).collect();
    {
        let wal = Wal::open(options(dir.path())).expect("open");
        append(&wal, entries.clone());
        for name in segments(dir.path()) {
            std::fs::copy(dir.path().join(&name), copy.path().join(&name)).expect("copy");
        }
        wal.purge(id(1, 40)).expect("accepted");
    }
    let kept = segments(dir.path());
    let before = segments(copy.path());
    let gone: Vec<&String> = before.iter().filter(|name| !kept.contains(name)).collect();
    assert!(gone.len() > 3, "{gone:?}");
    for name in [gone[0], gone[1], gone[gone.len() - 2]] {
        std::fs::copy(copy.path().join(name), dir.path().join(name)).expect("copy");
    }
    let wal = Wal::open(options(dir.path())).expect("reopen");
    assert_eq!(wal.bounds(), (Some(id(1, 40)), Some(id(1, 59))));
    assert_eq!(all(&wal), entries[41..]);
    assert_eq!(segments(dir.path()), kept, "deleted again");
}

#[test]
fn a_file_missing_among_those_in_use_stops_the_member() {
    let dir = tempfile::tempdir().expect("temp dir");
    {
        let wal = Wal::open(options(dir.path())).expect("open");
        append(&wal, (0..60).map(|index| entry(1, index, 100)).collect());
        wal.purge(id(1, 10)).expect("accepted");
    }
    let names = segments(dir.path());
    for missing in &names[1..names.len() - 1] {
        let path = dir.path().join(missing);
        let data = std::fs::read(&path).expect("read");
        std::fs::remove_file(&path).expect("remove");
        let refused = Wal::open(options(dir.path())).map(drop);
        assert!(
            matches!(refused, Err(WalError::Corrupt { .. })),
            "{missing}: {refused:?}"
        );
        std::fs::write(&path, data).expect("write");
    }
    let wal = Wal::open(options(dir.path())).expect("reopen");
    assert_eq!(all(&wal).len(), 49);
}

#[test]
fn a_folder_has_one_writer() {
    let dir = tempfile::tempdir().expect("temp dir");
    let wal = Wal::open(options(dir.path())).expect("open");
    assert!(matches!(
        Wal::open(options(dir.path())),
        Err(WalError::Io { .. })
    ));
    wal.close();
    assert!(wal.append(vec![entry(1, 0, 1)], Box::new(|_| {})).is_err());
    drop(Wal::open(options(dir.path())).expect("free again"));
}

#[test]
fn the_commit_position_is_written_along() {
    let dir = tempfile::tempdir().expect("temp dir");
    {
        let wal = Wal::open(options(dir.path())).expect("open");
        append(&wal, vec![entry(1, 0, 10), entry(1, 1, 10)]);
        wal.save_committed(Some(id(1, 0)));
        append(&wal, vec![entry(1, 2, 10)]);
        wal.save_committed(Some(id(1, 1)));
    }
    let wal = Wal::open(options(dir.path())).expect("reopen");
    assert_eq!(wal.committed(), Some(id(1, 1)));
}

#[test]
fn a_restart_keeps_the_space_that_the_log_has() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("temp dir");
    let large = WalOptions {
        segment_bytes: 1 << 20,
        ..options(dir.path())
    };
    let wal = Wal::open(large.clone()).expect("open");
    append(&wal, vec![entry(1, 0, 40)]);
    drop(wal);
    let path = dir.path().join(segments(dir.path()).remove(0));
    // Another program's bytes behind the last record, which must neither stay nor cost the file its space.
    let mut data = std::fs::read(&path).expect("read");
    data[900_000] = 7;
    std::fs::write(&path, &data).expect("write");
    drop(Wal::open(large).expect("reopen"));
    let meta = std::fs::metadata(&path).expect("metadata");
    assert_eq!(meta.len(), 1 << 20);
    assert!(meta.blocks() * 512 >= 1 << 20, "{} blocks", meta.blocks());
    assert_eq!(std::fs::read(&path).expect("read")[900_000], 0);
}

#[test]
fn a_log_that_cannot_write_says_so_to_everyone() {
    let dir = tempfile::tempdir().expect("temp dir");
    let wal = Wal::open(options(dir.path())).expect("open");
    append(&wal, vec![entry(1, 0, 10)]);
    // The next segment cannot be created.
    std::fs::remove_dir_all(dir.path()).expect("remove");
    let mut failed = false;
    for index in 1..100 {
        let (done, durable) = mpsc::channel();
        let accepted = wal.append(
            vec![entry(1, index, 100)],
            Box::new(move |result| drop(done.send(result))),
        );
        let result = accepted.and_then(|()| durable.recv().expect("answered"));
        assert!(
            !failed || result.is_err(),
            "nothing is durable after a failure"
        );
        failed |= result.is_err();
    }
    assert!(failed);
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize, usize),
    Truncate(u64),
    Purge(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..6, 0usize..300).prop_map(|(count, size)| Step::Append(count, size)),
        1 => (0u64..12).prop_map(Step::Truncate),
        1 => (0u64..12).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn behaves_like_a_list(steps in prop::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut wal = Wal::open(options(dir.path())).expect("open");
        let mut model: Vec<Entry> = Vec::new();
        let mut purged: Option<LogId> = None;
        let mut term = 1;
        for step in steps {
            let next = model.last().map(|entry| entry.log_id).or(purged).map_or(0, |last| last.index + 1);
            match step {
                Step::Append(count, size) => {
                    let entries: Vec<Entry> = (0..count as u64).map(|i| entry(term, next + i, size)).collect();
                    model.extend(entries.clone());
                    append(&wal, entries);
                }
                Step::Truncate(back) => {
                    let keep = model.len().saturating_sub(usize::try_from(back).expect("small"));
                    model.truncate(keep);
                    let last = model.last().map(|entry| entry.log_id).or(purged);
                    wal.truncate_after(last).expect("accepted");
                    term += 1;
                }
                Step::Purge(count) => {
                    let count = usize::try_from(count).expect("small").min(model.len());
                    if let Some(last) = model.drain(..count).next_back() {
                        purged = Some(last.log_id);
                        wal.purge(last.log_id).expect("accepted");
                    }
                }
                Step::Reopen => {
                    drop(wal);
                    wal = Wal::open(options(dir.path())).expect("reopen");
                }
            }
            prop_assert_eq!(all(&wal), model.clone());
            let last = model.last().map(|entry| entry.log_id).or(purged);
            prop_assert_eq!(wal.bounds(), (purged, last));
        }
    }
}

#[test]
fn entries_that_somebody_holds_outlive_a_purge() {
    let dir = tempfile::tempdir().expect("temp dir");
    let wal = Arc::new(Wal::open(options(dir.path())).expect("open"));
    append(&wal, (0..10).map(|index| entry(1, index, 10)).collect());
    let held = wal.hold();
    wal.purge(id(1, 4)).expect("put off");
    wal.purge(id(1, 6)).expect("put off");
    assert_eq!(all(&wal).len(), 10);
    append(&wal, vec![entry(1, 10, 10)]);
    drop(held);
    assert_eq!(wal.bounds(), (Some(id(1, 6)), Some(id(1, 10))));
    let held = wal.hold();
    // What a received snapshot covers beyond the log's end cannot wait: the next entry must follow on it.
    wal.purge(id(2, 20)).expect("purged");
    append(&wal, vec![entry(2, 21, 10)]);
    drop(held);
    assert_eq!(wal.bounds(), (Some(id(2, 20)), Some(id(2, 21))));
}
