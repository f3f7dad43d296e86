//! Rules of etcd's API, one by one.

use corten_proto::corten::store::v1::{raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmType, Compare, PutRequest, RangeRequest, TxnRequest, TxnResponse,
    alarm_request::AlarmAction,
    compare::{CompareResult, CompareTarget, TargetUnion},
    range_request::{SortOrder, SortTarget},
    request_op::Request,
    response_op::Response,
};

use super::harness::{Harness, b, op, op_delete, op_put, op_txn, put, words};
use crate::check;

fn txn(store: &mut Harness, request: TxnRequest) -> Result<TxnResponse, String> {
    match store.run(Command::Txn(request))? {
        raft_reply::Result::Txn(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

fn always(success: Vec<corten_proto::etcd::etcdserverpb::RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..Default::default()
    }
}

#[test]
fn an_empty_store_is_at_revision_one() {
    let mut store = Harness::new();
    assert_eq!(store.store.revision().get(), 1);
    assert_eq!(store.put("a", "1"), 2);
    assert_eq!(
        store.delete("nothing", ""),
        2,
        "deleting nothing changes nothing"
    );
    assert_eq!(store.delete("a", ""), 3);
}

#[test]
fn a_key_counts_its_versions_and_starts_over_after_deletion() {
    let mut store = Harness::new();
    store.put("k", "1");
    store.put("k", "2");
    let get = |store: &Harness, revision| {
        let request = RangeRequest {
            key: b("k"),
            revision,
            ..Default::default()
        };
        let kv = store.range(&request).unwrap().kvs.pop();
        kv.map(|kv| {
            (
                kv.create_revision,
                kv.mod_revision,
                kv.version,
                words(&[kv]),
            )
        })
    };
    assert_eq!(get(&store, 0), Some((2, 3, 2, "k=2".to_owned())));
    assert_eq!(get(&store, 2), Some((2, 2, 1, "k=1".to_owned())));
    store.delete("k", "");
    assert_eq!(get(&store, 0), None);
    store.put("k", "3");
    assert_eq!(get(&store, 0), Some((5, 5, 1, "k=3".to_owned())));
    assert_eq!(get(&store, 3), Some((2, 3, 2, "k=2".to_owned())));
}

#[test]
fn range_options() {
    let mut store = Harness::new();
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("d", "0")] {
        store.put(key, value);
    }
    store.put("a", "9");
    let check = |change: fn(&mut RangeRequest), expected: &str, count: i64, more: bool| {
        let mut request = RangeRequest {
            key: b("a"),
            range_end: b("d"),
            ..Default::default()
        };
        change(&mut request);
        let response = store.range(&request).unwrap();
        assert_eq!(
            (words(&response.kvs).as_str(), response.count, response.more),
            (expected, count, more)
        );
        assert_eq!(response.header.unwrap().revision, 6);
    };
    check(|_| {}, "a=9 b=1 c=2", 3, false);
    check(|r| r.limit = 2, "a=9 b=1", 3, true);
    check(|r| r.limit = 3, "a=9 b=1 c=2", 3, false);
    check(|r| r.revision = 5, "a=3 b=1 c=2", 3, false);
    check(|r| r.keys_only = true, "a= b= c=", 3, false);
    check(|r| r.count_only = true, "", 3, false);
    check(|r| r.range_end = b("\0"), "a=9 b=1 c=2 d=0", 4, false);
    check(|r| r.range_end = b(""), "a=9", 1, false);
    check(|r| r.range_end = b("a"), "", 0, false);
    check(
        |r| r.set_sort_order(SortOrder::Descend),
        "c=2 b=1 a=9",
        3,
        false,
    );
    check(
        |r| r.set_sort_target(SortTarget::Value),
        "b=1 c=2 a=9",
        3,
        false,
    );
    let newest = |r: &mut RangeRequest| {
        r.set_sort_target(SortTarget::Mod);
        r.set_sort_order(SortOrder::Descend);
        r.limit = 1;
    };
    check(newest, "a=9", 3, true);
    let keys_by_value = |r: &mut RangeRequest| {
        r.set_sort_target(SortTarget::Value);
        r.keys_only = true;
    };
    check(keys_by_value, "b= c= a=", 3, false);
    check(|r| r.min_mod_revision = 4, "a=9 c=2", 3, false);
    let first_recent = |r: &mut RangeRequest| {
        r.min_mod_revision = 4;
        r.limit = 1;
    };
    check(first_recent, "a=9", 3, true);
    check(|r| r.max_create_revision = 3, "a=9 b=1", 3, false);
}

#[test]
fn revisions_out_of_reach() {
    let mut store = Harness::new();
    for value in ["1", "2", "3"] {
        store.put("k", value);
    }
    let at = |store: &Harness, revision| {
        store
            .range(&RangeRequest {
                key: b("k"),
                revision,
                ..Default::default()
            })
            .map(|found| words(&found.kvs))
    };
    let future = Err("etcdserver: mvcc: required revision is a future revision".to_owned());
    let compacted = Err("etcdserver: mvcc: required revision has been compacted".to_owned());
    assert_eq!(at(&store, 5), future);
    assert_eq!(store.compact(5).map(drop), future.clone().map(drop));
    store.compact(3).unwrap();
    for reclaimed in [false, true] {
        if reclaimed {
            store.reclaim();
        }
        assert_eq!(at(&store, 2), compacted);
        assert_eq!(at(&store, 3), Ok("k=2".to_owned()));
        assert_eq!(at(&store, 0), Ok("k=3".to_owned()));
    }
    assert_eq!(store.compact(3).map(drop), compacted.map(drop));
    store.compact(4).unwrap();
}

#[test]
fn put_options() {
    let mut store = Harness::new();
    let mut request = PutRequest {
        ignore_value: true,
        ..put("k", "")
    };
    assert_eq!(
        store.run(Command::Put(request.clone())).map(drop),
        Err("etcdserver: key not found".to_owned())
    );
    store.put("k", "1");
    request.prev_kv = true;
    let raft_reply::Result::Put(response) = store.run(Command::Put(request.clone())).unwrap()
    else {
        panic!()
    };
    assert_eq!(words(response.prev_kv.as_slice()), "k=1");
    assert_eq!(store.list(), "k=1");
    request.value = b("x");
    assert_eq!(
        store.run(Command::Put(request)).map(drop),
        Err("etcdserver: value is provided".to_owned())
    );
    let request = PutRequest {
        lease: 7,
        ..put("k", "2")
    };
    let missing = Err("etcdserver: requested lease not found".to_owned());
    assert_eq!(store.run(Command::Put(request)).map(drop), missing);
    assert_eq!(store.store.revision().get(), 3, "refusals change nothing");
}

#[test]
fn comparisons() {
    let mut store = Harness::new();
    store.put("a", "1");
    store.put("b", "1");
    store.put("b", "2");
    let mut holds = |key: &str, end: &str, target, result, union| {
        let compare = Compare {
            key: b(key),
            range_end: b(end),
            target: target as i32,
            result: result as i32,
            target_union: Some(union),
        };
        txn(
            &mut store,
            TxnRequest {
                compare: vec![compare],
                ..Default::default()
            },
        )
        .unwrap()
        .succeeded
    };
    use CompareResult as R;
    use CompareTarget as T;
    use TargetUnion as U;
    assert!(holds("a", "", T::Version, R::Equal, U::Version(1)));
    assert!(holds("b", "", T::Version, R::Greater, U::Version(1)));
    assert!(holds("b", "", T::Mod, R::Less, U::ModRevision(5)));
    assert!(holds("b", "", T::Create, R::NotEqual, U::CreateRevision(4)));
    assert!(holds("b", "", T::Value, R::Equal, U::Value(b("2"))));
    assert!(holds("a", "c", T::Value, R::Greater, U::Value(b("0"))));
    assert!(
        !holds("a", "c", T::Value, R::Equal, U::Value(b("1"))),
        "every key of a range must match"
    );
    assert!(
        holds("x", "", T::Mod, R::Equal, U::ModRevision(0)),
        "an absent key is at revision zero"
    );
    assert!(
        holds("x", "z", T::Version, R::Equal, U::Version(0)),
        "so is an empty range"
    );
    assert!(
        !holds("x", "", T::Value, R::Equal, U::Value(b(""))),
        "an absent key has no value to compare"
    );
    assert!(!holds("x", "", T::Value, R::NotEqual, U::Value(b("1"))));
}

#[test]
fn a_transaction_sees_its_own_writes_and_takes_one_revision() {
    let mut store = Harness::new();
    store.put("a", "1");
    let read = op(Request::RequestRange(RangeRequest {
        key: b("a"),
        range_end: b("z"),
        ..Default::default()
    }));
    let nested = op_txn(vec![op_put("c", "3"), read.clone()], Vec::new());
    let request = always(vec![
        op_delete("a", ""),
        read.clone(),
        op_put("b", "2"),
        nested,
    ]);
    let (reply, changes) = store.apply(Command::Txn(request));
    assert_eq!(reply.revision, 3);
    let Some(raft_reply::Result::Txn(response)) = reply.result else {
        panic!()
    };
    let mut seen = Vec::new();
    for response in response.responses {
        match response.response.unwrap() {
            Response::ResponseRange(range) => seen.push(words(&range.kvs)),
            Response::ResponseTxn(nested) => {
                let Some(Response::ResponseRange(range)) = &nested.responses[1].response else {
                    panic!()
                };
                seen.push(words(&range.kvs));
            }
            _ => {}
        }
    }
    assert_eq!(seen, ["", "b=2 c=3"]);
    assert_eq!(changes.events.len(), 1);
    let kinds: Vec<_> = changes.events[0]
        .events
        .iter()
        .map(|event| event.r#type)
        .collect();
    assert_eq!(kinds, [1, 0, 0]);
}

#[test]
fn nested_comparisons_see_the_state_before_the_transaction() {
    let mut store = Harness::new();
    let absent = Compare {
        key: b("a"),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let nested = TxnRequest {
        compare: vec![absent],
        success: vec![op_put("was-absent", "1")],
        failure: vec![op_put("was-there", "1")],
    };
    let request = always(vec![op_put("a", "1"), op(Request::RequestTxn(nested))]);
    txn(&mut store, request).unwrap();
    assert_eq!(store.list(), "a=1 was-absent=1");
}

#[test]
fn a_failing_operation_undoes_the_whole_transaction() {
    let mut store = Harness::new();
    store.put("a", "1");
    let future = op(Request::RequestRange(RangeRequest {
        key: b("a"),
        revision: 9,
        ..Default::default()
    }));
    let error = txn(&mut store, always(vec![op_put("b", "2"), future])).unwrap_err();
    assert_eq!(
        error,
        "etcdserver: mvcc: required revision is a future revision"
    );
    let leased = op(Request::RequestPut(PutRequest {
        lease: 5,
        ..put("c", "3")
    }));
    let error = txn(&mut store, always(vec![op_put("b", "2"), leased])).unwrap_err();
    assert_eq!(error, "etcdserver: requested lease not found");
    assert_eq!(store.list(), "a=1");
}

#[test]
fn one_branch_may_not_change_a_key_twice() {
    let duplicate = Err("etcdserver: duplicate key given in txn request".to_owned());
    let check = |ops: Vec<_>| check::txn(&always(ops)).map_err(|error| error.to_string());
    assert_eq!(check(vec![op_put("a", "1"), op_put("b", "2")]), Ok(()));
    assert_eq!(check(vec![op_put("a", "1"), op_put("a", "2")]), duplicate);
    assert_eq!(
        check(vec![op_delete("a", "c"), op_put("b", "2")]),
        duplicate
    );
    assert_eq!(
        check(vec![op_put("b", "2"), op_delete("a", "c")]),
        duplicate
    );
    assert_eq!(
        check(vec![op_delete("a", "c"), op_delete("b", "d")]),
        Ok(())
    );
    assert_eq!(check(vec![op_delete("a", "b"), op_put("b", "2")]), Ok(()));
    let nested = |key| op_txn(vec![op_put(key, "1")], vec![op_put("else", "1")]);
    assert_eq!(check(vec![nested("a"), op_put("a", "2")]), duplicate);
    assert_eq!(
        check(vec![nested("a"), nested("b")]),
        duplicate,
        "both might take the else branch"
    );
    assert_eq!(
        check(vec![op_txn(vec![op_put("a", "1")], vec![op_put("a", "2")])]),
        Ok(())
    );
    let mut branches = always(vec![op_put("a", "1")]);
    branches.failure = vec![op_put("a", "2")];
    assert!(check::txn(&branches).is_ok());
}

#[test]
fn limits_of_requests() {
    let ops = |count| always((0..count).map(|n| op_put(&format!("k{n}"), "")).collect());
    let text = |request: &TxnRequest| check::txn(request).map_err(|error| error.to_string());
    assert_eq!(text(&ops(128)), Ok(()));
    assert_eq!(
        text(&ops(129)),
        Err("etcdserver: too many operations in txn request".to_owned())
    );
    let mut deep = always(vec![]);
    for _ in 0..129 {
        deep = always(vec![op(Request::RequestTxn(deep))]);
    }
    assert_eq!(
        text(&deep),
        Err("etcdserver: too many operations in txn request".to_owned())
    );
    assert_eq!(
        text(&always(vec![op_put("", "1")])),
        Err("etcdserver: key is not provided".to_owned())
    );
    let request = RangeRequest {
        key: b("a"),
        sort_order: 9,
        ..Default::default()
    };
    assert_eq!(
        check::range(&request).unwrap_err().to_string(),
        "etcdserver: invalid sort option"
    );
}

#[test]
fn without_space_reads_deletions_and_compaction_still_work() {
    let mut store = Harness::new();
    store.put("a", "1");
    let alarm = |action| {
        Command::Alarm(AlarmRequest {
            action: action as i32,
            member_id: 1,
            alarm: AlarmType::Nospace as i32,
        })
    };
    store.run(alarm(AlarmAction::Activate)).unwrap();
    let mut store = Harness::open(store.backend.clone());
    assert_eq!(
        store.store.alarms().unwrap().len(),
        1,
        "alarms survive a restart"
    );
    let full = Err("etcdserver: mvcc: database space exceeded".to_owned());
    assert_eq!(store.run(Command::Put(put("b", "2"))).map(drop), full);
    assert_eq!(
        txn(&mut store, always(vec![op_put("b", "2")])).map(drop),
        full
    );
    txn(&mut store, always(vec![op_delete("a", "")])).unwrap();
    store.compact(3).unwrap();
    store.run(alarm(AlarmAction::Deactivate)).unwrap();
    store.put("b", "2");
    assert_eq!(store.list(), "b=2");
}
