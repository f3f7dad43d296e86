//! The engine against an ordered map, and what a crash or an installed snapshot leaves.

use std::collections::BTreeMap;

use corten_store_core::backend::{Backend, Batch, Keyspace, Read};
use proptest::prelude::*;

use super::*;

fn small() -> RocksOptions {
    RocksOptions {
        cache_bytes: 1 << 20,
        memtable_bytes: 1 << 20,
    }
}

fn put(rocks: &Rocks, space: Keyspace, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(space, key.to_vec(), value.to_vec());
    rocks.write(batch).expect("write");
}

fn rows(
    read: &dyn Read,
    space: Keyspace,
    from: &[u8],
    to: Option<&[u8]>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = read.scan(space, from, to).expect("scan");
    let mut found = Vec::new();
    while let Some(key) = cursor.key() {
        found.push((key.to_vec(), cursor.value().to_vec()));
        cursor.advance().expect("advance");
    }
    found
}

#[test]
fn a_snapshot_does_not_move() {
    let dir = tempfile::tempdir().expect("temp dir");
    let rocks = Rocks::open(dir.path(), small()).expect("open");
    put(&rocks, Keyspace::Key, b"a", b"1");
    let before = rocks.snapshot();
    put(&rocks, Keyspace::Key, b"a", b"2");
    put(&rocks, Keyspace::Key, b"b", b"1");
    assert_eq!(
        before.get(Keyspace::Key, b"a").expect("get").as_deref(),
        Some(&b"1"[..])
    );
    assert_eq!(rows(&*before, Keyspace::Key, b"", None).len(), 1);
    assert_eq!(rows(&rocks, Keyspace::Key, b"", None).len(), 2);
}

#[test]
fn unflushed_rows_go_together_and_flushed_rows_stay() {
    let dir = tempfile::tempdir().expect("temp dir");
    let rocks = Rocks::open(dir.path(), small()).expect("open");
    put(&rocks, Keyspace::Key, b"kept", b"1");
    put(&rocks, Keyspace::Meta, b"position", b"1");
    rocks.flush().expect("flush");
    // A copy of the folder is what a power cut would leave: nothing that is only in memory.
    put(&rocks, Keyspace::Key, b"lost", b"1");
    put(&rocks, Keyspace::Meta, b"position", b"2");
    let copy = tempfile::tempdir().expect("temp dir");
    copy_dir(dir.path(), copy.path());
    let after = Rocks::open(copy.path(), small()).expect("open the copy");
    assert_eq!(
        rows(&after, Keyspace::Key, b"", None),
        vec![(b"kept".to_vec(), b"1".to_vec())]
    );
    assert_eq!(
        after
            .get(Keyspace::Meta, b"position")
            .expect("get")
            .as_deref(),
        Some(&b"1"[..])
    );
}

fn copy_dir(from: &Path, to: &Path) {
    for item in std::fs::read_dir(from).expect("list") {
        let item = item.expect("item");
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            std::fs::create_dir_all(&target).expect("create");
            copy_dir(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).expect("copy");
        }
    }
}

#[test]
fn an_installed_snapshot_holds_every_keyspace_and_replaces_the_state() {
    let (from, to) = (
        tempfile::tempdir().expect("temp dir"),
        tempfile::tempdir().expect("temp dir"),
    );
    let source = Rocks::open(from.path(), small()).expect("open");
    for space in Keyspace::ALL {
        put(&source, space, b"k", space.name().as_bytes());
    }
    let snapshot = SnapshotDir::fresh(to.path()).expect("name");
    source.checkpoint(&snapshot).expect("checkpoint");

    let target = Rocks::open(&to.path().join("state"), small()).expect("open");
    put(&target, Keyspace::Key, b"old", b"1");
    let reader = target.snapshot();
    target.install(&snapshot).expect("install");
    for space in Keyspace::ALL {
        assert_eq!(
            rows(&target, space, b"", None),
            vec![(b"k".to_vec(), space.name().as_bytes().to_vec())]
        );
    }
    assert_eq!(
        rows(&*reader, Keyspace::Key, b"", None),
        vec![(b"old".to_vec(), b"1".to_vec())]
    );
    drop(reader);
    drop(target);
    let folders = std::fs::read_dir(to.path().join("state"))
        .expect("list")
        .count();
    assert_eq!(folders, 2, "one state and CURRENT");
    let reopened = Rocks::open(&to.path().join("state"), small()).expect("reopen");
    assert_eq!(
        reopened.get(Keyspace::Rev, b"k").expect("get").as_deref(),
        Some(&b"rev"[..])
    );
}

/// A flipped bit made another number of it, whose folder was then made anew; the state itself was cleared away.
#[test]
fn a_changed_current_deleted_the_tables() {
    let dir = tempfile::tempdir().expect("temp dir");
    let rocks = Rocks::open(dir.path(), small()).expect("open");
    put(&rocks, Keyspace::Key, b"k", b"1");
    rocks.flush().expect("flush");
    drop(rocks);
    let file = dir.path().join("CURRENT");
    std::fs::write(&file, "3\n").expect("changed");
    let refused = Rocks::open(dir.path(), small()).err().expect("refused");
    assert!(mark::of(&refused).is_some(), "it is damage: {refused}");
    // Lost, it is found out: there is one state.
    std::fs::remove_file(&file).expect("removed");
    let rocks = Rocks::open(dir.path(), small()).expect("open");
    assert_eq!(rows(&rocks, Keyspace::Key, b"", None).len(), 1);
    drop(rocks);
    // With two of them nothing says which.
    std::fs::create_dir(dir.path().join("db-2")).expect("made");
    std::fs::remove_file(&file).expect("removed");
    let refused = Rocks::open(dir.path(), small()).err().expect("refused");
    assert!(mark::of(&refused).is_some(), "{refused}");
    std::fs::write(&file, "1\n").expect("as it was");
    let rocks = Rocks::open(dir.path(), small()).expect("open");
    assert_eq!(rows(&rocks, Keyspace::Key, b"", None).len(), 1);
    assert!(!dir.path().join("db-2").exists(), "cleared away");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn behaves_like_an_ordered_map(
        writes in prop::collection::vec((0u8..4, prop::collection::vec(0u8..4, 0..3), prop::option::of(0u8..9)), 1..60),
        from in prop::collection::vec(0u8..4, 0..3),
        to in prop::option::of(prop::collection::vec(0u8..4, 0..3)),
    ) {
        let dir = tempfile::tempdir().expect("temp dir");
        let rocks = Rocks::open(dir.path(), small()).expect("open");
        let mut model: BTreeMap<(Keyspace, Vec<u8>), Vec<u8>> = BTreeMap::new();
        for (space, key, value) in writes {
            let space = Keyspace::ALL[space as usize];
            let mut batch = Batch::default();
            match value {
                Some(value) => {
                    batch.put(space, key.clone(), vec![value]);
                    model.insert((space, key), vec![value]);
                }
                None => {
                    batch.delete(space, key.clone());
                    model.remove(&(space, key));
                }
            }
            rocks.write(batch).expect("write");
        }
        for space in Keyspace::ALL {
            let expected: Vec<_> = model
                .iter()
                .filter(|((at, key), _)| *at == space && *key >= from && to.as_ref().is_none_or(|to| key < to))
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            prop_assert_eq!(rows(&rocks, space, &from, to.as_deref()), expected);
        }
    }
}
