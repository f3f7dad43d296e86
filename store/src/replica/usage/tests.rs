//! Counting against a plain sum, and admission at the limit.

use std::sync::Arc;

use corten_proto::corten::store::v1::{RaftRequest, raft_request::Command};
use corten_proto::etcd::etcdserverpb::DeleteRangeRequest;
use corten_store_core::memory::MemoryBackend;
use corten_store_core::{Position, Writer};
use proptest::prelude::*;

use super::*;

fn put(key: &str, len: usize) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; len].into(),
        ..Default::default()
    }
}

fn quota(prefix: &str, limit: u64) -> PrefixQuota {
    PrefixQuota {
        prefix: prefix.to_owned().into(),
        limit,
    }
}

struct World {
    store: Store,
    writer: Writer,
    usage: Usage,
    index: u64,
}

impl World {
    fn new(quotas: Vec<PrefixQuota>) -> Self {
        let (store, writer) = Store::open(Arc::new(MemoryBackend::new())).expect("opened");
        let usage = Usage::new(quotas, &store).expect("counted");
        Self {
            store,
            writer,
            usage,
            index: 0,
        }
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        let at = Position {
            term: 1,
            index: self.index,
        };
        let request = RaftRequest {
            command: Some(command),
            ..Default::default()
        };
        let mut round = self.writer.begin();
        round.apply(at, &request).expect("applied");
        let changes = round.commit().expect("committed");
        self.usage.follow(&changes);
    }

    fn delete(&mut self, key: &str) {
        let request = DeleteRangeRequest {
            key: key.to_owned().into(),
            ..Default::default()
        };
        self.apply(Command::DeleteRange(request));
    }

    fn used(&self) -> Vec<u64> {
        self.usage.report().iter().map(|one| one.used).collect()
    }
}

#[test]
fn a_full_prefix_refuses_growth_and_nothing_else() {
    let mut world = World::new(vec![quota("/events/", 100)]);
    world.apply(Command::Put(put("/events/a", 80)));
    let World { usage, store, .. } = &world;
    let error = usage
        .admit_put(store, &put("/events/b", 10))
        .expect_err("full");
    let text = error.to_string();
    assert!(
        text.contains("\"/events/\"") && text.contains("89 of 100"),
        "{text}"
    );
    assert!(usage.admit_put(store, &put("/pods/b", 1000)).is_ok());
    // As large, smaller, and just fitting.
    assert!(usage.admit_put(store, &put("/events/a", 80)).is_ok());
    assert!(usage.admit_put(store, &put("/events/a", 10)).is_ok());
    assert!(usage.admit_put(store, &put("/events/a", 91)).is_ok());
    assert!(usage.admit_put(store, &put("/events/a", 92)).is_err());
    assert_eq!(usage.report()[0].refused, 2);
    world.delete("/events/a");
    assert_eq!(world.used(), [0]);
    assert!(
        world
            .usage
            .admit_put(&world.store, &put("/events/b", 10))
            .is_ok()
    );
}

#[test]
fn what_is_under_way_counts() {
    let world = World::new(vec![quota("/events/", 100)]);
    let held = world.usage.admit_put(&world.store, &put("/events/a", 80));
    assert!(held.is_ok());
    assert!(
        world
            .usage
            .admit_put(&world.store, &put("/events/b", 80))
            .is_err()
    );
    drop(held);
    assert!(
        world
            .usage
            .admit_put(&world.store, &put("/events/b", 80))
            .is_ok()
    );
}

#[test]
fn a_transaction_needs_what_its_larger_branch_needs() {
    let world = World::new(vec![quota("/events/", 100)]);
    let op = |len| RequestOp {
        request: Some(Request::RequestPut(put("/events/a", len))),
    };
    let admit = |success: &[RequestOp], failure: &[RequestOp]| {
        world.usage.admit(&world.store, success, failure).is_ok()
    };
    assert!(admit(&[op(40)], &[op(90)]));
    assert!(!admit(&[op(40)], &[op(92)]));
    assert!(!admit(&[op(45), op(45)], &[]));
}

#[test]
fn the_end_of_a_prefix() {
    assert_eq!(&end_of(b"a/")[..], b"a0");
    assert_eq!(&end_of(&[b'a', 0xff])[..], b"b");
    assert_eq!(&end_of(&[0xff])[..], [0]);
}

proptest! {
    #[test]
    fn following_equals_counting(steps in prop::collection::vec((0_usize..6, 0_usize..400, any::<bool>()), 1..300)) {
        let mut world = World::new(vec![quota("a/", 1), quota("a/b", 1), quota("c", 1)]);
        let keys = ["a/1", "a/b1", "a/b2", "c", "d", "a"];
        for (key, len, delete) in steps {
            if delete {
                world.delete(keys[key]);
            } else {
                world.apply(Command::Put(put(keys[key], len)));
            }
        }
        let followed = world.used();
        world.usage.recount(&world.store).expect("counted");
        prop_assert_eq!(followed, world.used());
    }
}
