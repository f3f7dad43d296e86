//! Entries of etcd's record of faults that one store in memory can show, each named after its issue there.
//! The others have their tests with members (`store/tests/cluster`); `docs/testing.md` has the whole list.

use std::sync::Arc;

use corten_proto::corten::store::v1::raft_request::Command;
use corten_proto::etcd::etcdserverpb::{RangeRequest, RequestOp, TxnRequest, request_op::Request};
use corten_proto::etcd::mvccpb::event::EventType;

use super::harness::{Harness, b, op, op_delete, op_put, op_txn, put, words};
use crate::{Revision, Span, memory::MemoryBackend};

/// What a watcher of all keys is told from a revision on: `revision:key` words, deletions with a minus.
fn told(store: &Harness, from: i64) -> Result<String, String> {
    let from = Revision::new(from);
    let all = Span::Range {
        start: b(""),
        end: None,
    };
    let chunk = store.store.history(from, &[(from, &all)]);
    let chunk = chunk.map_err(|error| error.to_string())?;
    let events = chunk.events.iter().flat_map(|change| {
        change.events.iter().map(|event| {
            let deletion = event.r#type == EventType::Delete as i32;
            let sign = if deletion { "-" } else { "" };
            let key = &event.kv.as_ref().expect("every event has a key").key;
            let key = String::from_utf8_lossy(key);
            format!("{}:{sign}{key}", change.revision.get())
        })
    });
    Ok(events.collect::<Vec<_>>().join(" "))
}

fn read_at(key: &str, revision: i64) -> RequestOp {
    op(Request::RequestRange(RangeRequest {
        key: b(key),
        revision,
        ..Default::default()
    }))
}

fn txn(success: Vec<RequestOp>) -> Command {
    Command::Txn(TxnRequest {
        compare: Vec::new(),
        success,
        failure: Vec::new(),
    })
}

/// The newest revision belonged to a deletion, and went with it.
#[test]
fn etcd_17780_a_restart_in_a_compaction_does_not_lower_the_revision() {
    for steps in 0..6 {
        let backend = Arc::new(MemoryBackend::new());
        let mut store = Harness::open(backend.clone());
        store.put("k", "1");
        store.put("k", "2");
        let newest = store.delete("k", "");
        store.compact(newest).expect("in reach");
        let mut compaction = store.store.compaction();
        for _ in 0..steps {
            compaction.step(1).expect("memory does not fail");
        }
        drop((compaction, store));
        let mut store = Harness::open(backend);
        assert_eq!(store.store.revision().get(), newest, "after {steps} steps");
        store.reclaim();
        assert_eq!(store.put("k", "3"), newest + 1);
        assert_eq!(store.list(), "k=3");
    }
}

#[test]
fn etcd_18089_and_19179_a_watch_from_the_compacted_revision_is_told_its_deletion() {
    let mut store = Harness::new();
    store.put("k", "1");
    let deleted = store.delete("k", "");
    let after = store.put("l", "1");
    store.compact(deleted).expect("in reach");
    for reclaimed in [false, true] {
        if reclaimed {
            store.reclaim();
        }
        let all = format!("{deleted}:-k {after}:l");
        assert_eq!(told(&store, deleted), Ok(all), "reclaimed: {reclaimed}");
        assert!(told(&store, deleted - 1).is_err());
    }
    store.compact(after).expect("in reach");
    store.reclaim();
    assert!(told(&store, deleted).is_err());
    assert_eq!(told(&store, after), Ok(format!("{after}:l")));
}

/// There the writes before the read stayed, on those members that had not compacted yet.
#[test]
fn etcd_18667_a_transaction_that_reads_a_compacted_revision_does_nothing() {
    let mut store = Harness::new();
    store.put("k", "1");
    store.put("k", "2");
    let newest = store.put("k", "3");
    store.compact(newest).expect("in reach");
    for reclaimed in [false, true] {
        if reclaimed {
            store.reclaim();
        }
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        let future = "etcdserver: mvcc: required revision is a future revision";
        for (revision, why) in [(newest - 1, compacted), (newest + 9, future)] {
            let nested = op_txn(vec![op_put("b", "1"), read_at("k", revision)], Vec::new());
            for ops in [
                vec![op_put("a", "1"), read_at("k", revision)],
                vec![op_put("a", "1"), nested],
            ] {
                let refused = store.run(txn(ops)).map(drop);
                assert_eq!(refused, Err(why.to_owned()));
            }
        }
        assert_eq!(store.list(), "k=3");
        assert_eq!(store.store.revision().get(), newest);
    }
    // In one round with others, too.
    let failing = txn(vec![op_put("a", "1"), read_at("k", newest - 1)]);
    let around = |key: &str| Command::Put(put(key, "1"));
    let (replies, changes) = store.apply_all(&[around("x"), failing, around("y")]);
    assert_eq!(replies[2].revision, newest + 2);
    assert_eq!(changes.events.len(), 2);
    assert_eq!(store.list(), "k=3 x=1 y=1");
}

#[test]
fn etcd_17247_a_transaction_is_told_once_whatever_it_reads() {
    let mut store = Harness::new();
    store.put("d", "1");
    let newest = store.put("e", "1");
    let at = newest + 1;
    let nested = op_txn(vec![read_at("a", 0), op_put("b", "1")], Vec::new());
    let ops = vec![
        read_at("a", 0),
        op_put("a", "1"),
        read_at("a", 0),
        nested,
        op_delete("d", ""),
        op_delete("nothing", ""),
        read_at("d", newest),
    ];
    let (_, changes) = store.apply(txn(ops));
    let live: Vec<_> = changes
        .events
        .iter()
        .flat_map(|c| c.events.iter())
        .collect();
    assert_eq!(live.len(), 3);
    let all = format!("{at}:a {at}:b {at}:-d");
    assert_eq!(told(&store, at), Ok(all));
    let kept = store.range(&RangeRequest {
        key: b("d"),
        revision: newest,
        ..Default::default()
    });
    assert_eq!(kept.map(|found| words(&found.kvs)), Ok("d=1".to_owned()));
}
