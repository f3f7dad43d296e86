//! Leases: what is replicated, and what is counted.

use std::time::Duration;

use corten_proto::corten::store::v1::{
    LeaseGrant, LeaseRevoke, raft_reply::Result, raft_request::Command,
};
use corten_proto::etcd::etcdserverpb::PutRequest;

use super::harness::{Harness, put};
use crate::{
    LeaseId, LeaseRecord,
    lease_rows::LeaseChange,
    lessor::{KeepAlive, Lessor},
};

fn grant(id: i64, ttl_seconds: i64) -> Command {
    Command::LeaseGrant(LeaseGrant { id, ttl_seconds })
}

fn revoke(ids: &[i64], expired: bool) -> Command {
    Command::LeaseRevoke(LeaseRevoke {
        ids: ids.to_vec(),
        expired,
    })
}

fn put_leased(store: &mut Harness, key: &str, lease: i64) {
    store
        .run(Command::Put(PutRequest {
            lease,
            ..put(key, "v")
        }))
        .unwrap();
}

fn keys(store: &Harness, id: i64) -> Vec<String> {
    let keys = store.store.lease_keys(LeaseId(id)).unwrap();
    keys.iter()
        .map(|key| String::from_utf8_lossy(key).into_owned())
        .collect()
}

#[test]
fn keys_hang_on_their_last_lease() {
    let mut store = Harness::new();
    for id in [1, -1, i64::MAX] {
        store.run(grant(id, 10)).unwrap();
    }
    assert_eq!(
        store.run(grant(1, 10)).map(drop),
        Err("etcdserver: lease already exists".to_owned())
    );
    assert_eq!(
        store.run(grant(2, i64::MAX)).map(drop),
        Err("etcdserver: too large lease TTL".to_owned())
    );
    for key in ["b", "a", "c"] {
        put_leased(&mut store, key, 1);
    }
    put_leased(&mut store, "c", -1);
    store.put("a", "no lease");
    assert_eq!(
        (keys(&store, 1), keys(&store, -1)),
        (vec!["b".to_owned()], vec!["c".to_owned()])
    );
    store
        .run(Command::Put(PutRequest {
            ignore_lease: true,
            ..put("c", "kept")
        }))
        .unwrap();
    assert_eq!(keys(&store, -1), ["c"]);
    store.delete("c", "");
    assert!(keys(&store, -1).is_empty());
    let reopened = Harness::open(store.backend.clone());
    assert_eq!(reopened.store.leases().unwrap().len(), 3);
}

#[test]
fn revoking_deletes_in_one_revision_per_lease() {
    let mut store = Harness::new();
    store.run(grant(1, 10)).unwrap();
    store.run(grant(2, 10)).unwrap();
    store.run(grant(3, 10)).unwrap();
    for (key, lease) in [("b", 1), ("a", 1), ("c", 2)] {
        put_leased(&mut store, key, lease);
    }
    let missing = "etcdserver: requested lease not found".to_owned();
    assert_eq!(store.run(revoke(&[1, 9], false)).map(drop), Err(missing));
    assert_eq!(
        store.list(),
        "a=v b=v c=v",
        "a refused revocation changes nothing"
    );
    let (reply, changes) = store.apply(revoke(&[9, 1, 2, 3, 1], true));
    let events: Vec<_> = changes
        .events
        .iter()
        .map(|change| {
            let keys = change
                .events
                .iter()
                .map(|event| event.kv.as_ref().unwrap().key.clone());
            (change.revision.get(), keys.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        events,
        [(5, vec!["a".into(), "b".into()]), (6, vec!["c".into()])]
    );
    assert_eq!(reply.revision, 6);
    assert_eq!(changes.leases.len(), 3);
    assert!(store.store.leases().unwrap().is_empty());
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn record(ttl: i64) -> LeaseRecord {
    LeaseRecord { ttl, remaining: 0 }
}

/// A lessor that makes checkpoints each minute.
fn lessor(leases: &[(i64, LeaseRecord)]) -> Lessor {
    let leases = leases.iter().map(|(id, record)| (LeaseId(*id), *record));
    Lessor::new(leases.collect(), seconds(60))
}

#[test]
fn only_a_leader_expires_and_a_new_one_gives_full_time() {
    let mut lessor = lessor(&[(1, record(10))]);
    assert!(lessor.expired(seconds(1000)).is_empty());
    assert_eq!(
        lessor.keep_alive(LeaseId(1), seconds(0)),
        KeepAlive::Unknown,
        "followers do not renew"
    );
    lessor.promote(seconds(1000), seconds(1));
    lessor.observe(&LeaseChange::Granted(LeaseId(2), record(5)), seconds(1001));
    assert!(lessor.expired(seconds(1005)).is_empty());
    assert_eq!(lessor.expired(seconds(1006)), [LeaseId(2)]);
    assert!(
        lessor.expired(seconds(1007)).is_empty(),
        "reported, and being revoked"
    );
    assert_eq!(
        lessor.expired(seconds(1009)),
        [LeaseId(2)],
        "reported again if nothing came of it"
    );
    assert_eq!(
        lessor.keep_alive(LeaseId(2), seconds(1009)),
        KeepAlive::Unknown,
        "too late"
    );
    lessor.observe(&LeaseChange::Revoked(LeaseId(2)), seconds(1009));
    assert_eq!(
        lessor.keep_alive(LeaseId(1), seconds(1010)),
        KeepAlive::Renewed(10)
    );
    assert_eq!(lessor.remaining(LeaseId(1), seconds(1015)).unwrap().left, 5);
    assert!(lessor.expired(seconds(1019)).is_empty());
    lessor.demote();
    assert!(lessor.expired(seconds(2000)).is_empty());
    lessor.promote(seconds(3000), seconds(0));
    assert_eq!(lessor.expired(seconds(3010)), [LeaseId(1)]);
}

#[test]
fn a_new_leader_goes_on_from_the_checkpoint() {
    let mut old = lessor(&[(1, record(600)), (2, record(30))]);
    old.promote(seconds(0), seconds(0));
    assert!(old.due_checkpoints(seconds(59)).is_empty());
    // The short one is gone before its first checkpoint.
    let due = old.due_checkpoints(seconds(60) + Duration::from_millis(1));
    assert_eq!(due, [(LeaseId(1), 540)], "rounded up");
    assert!(old.due_checkpoints(seconds(61)).is_empty());
    assert_eq!(old.due_checkpoints(seconds(121)), [(LeaseId(1), 479)]);

    let checkpointed = LeaseRecord {
        ttl: 600,
        remaining: 479,
    };
    let mut new = lessor(&[(1, record(600))]);
    new.observe(
        &LeaseChange::Checkpointed(LeaseId(1), checkpointed),
        seconds(7),
    );
    new.promote(seconds(10), seconds(1));
    assert!(new.expired(seconds(489)).is_empty());
    assert_eq!(new.expired(seconds(490)), [LeaseId(1)]);
}

#[test]
fn a_keep_alive_waits_until_its_checkpoint_is_forgotten() {
    let mut lessor = lessor(&[(1, record(600))]);
    lessor.promote(seconds(0), seconds(0));
    let checkpoint = |remaining| {
        let record = LeaseRecord {
            ttl: 600,
            remaining,
        };
        LeaseChange::Checkpointed(LeaseId(1), record)
    };
    assert_eq!(lessor.due_checkpoints(seconds(60)), [(LeaseId(1), 540)]);
    // On its way into the log: it could be applied after the answer.
    assert_eq!(
        lessor.keep_alive(LeaseId(1), seconds(61)),
        KeepAlive::Checkpointed
    );
    lessor.observe(&checkpoint(540), seconds(62));
    assert_eq!(
        lessor.keep_alive(LeaseId(1), seconds(63)),
        KeepAlive::Checkpointed
    );
    assert_eq!(
        lessor.remaining(LeaseId(1), seconds(63)).unwrap().left,
        537,
        "it does not count anew for being noted"
    );
    lessor.observe(&checkpoint(0), seconds(64));
    assert_eq!(
        lessor.keep_alive(LeaseId(1), seconds(65)),
        KeepAlive::Renewed(600)
    );
    assert_eq!(
        lessor.keep_alive(LeaseId(1), seconds(66)),
        KeepAlive::Renewed(600),
        "the next ones do not touch the log"
    );
    assert!(lessor.due_checkpoints(seconds(125)).is_empty());
    assert_eq!(lessor.due_checkpoints(seconds(126)), [(LeaseId(1), 540)]);
}

#[test]
fn what_a_deposed_leader_decided_has_no_effect() {
    let mut store = Harness::new();
    store.run(grant(1, 10)).unwrap();
    put_leased(&mut store, "k", 1);
    // The harness writes entries of term 1.
    let (reply, changes) = store.apply_in_term(revoke(&[1], true), 2);
    assert!(
        matches!(reply.result, Some(Result::Refusal(_))),
        "{reply:?}"
    );
    assert!(changes.events.is_empty() && changes.leases.is_empty());
    assert_eq!(store.list(), "k=v");
    let (reply, _) = store.apply_in_term(revoke(&[1], true), 1);
    assert!(
        matches!(reply.result, Some(Result::LeaseRevoke(_))),
        "{reply:?}"
    );
    assert_eq!(store.list(), "");
}
