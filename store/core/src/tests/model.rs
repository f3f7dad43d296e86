//! The store against a model that keeps a whole map for every revision, and the leases of the moment.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corten_proto::corten::store::v1::{LeaseGrant, LeaseRevoke, raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    request_op::Request,
};
use corten_proto::etcd::mvccpb::{Event, KeyValue};
use proptest::prelude::*;

use super::harness::Harness;
use crate::{LeaseId, Revision, Span, StoreOptions, check};

type State = BTreeMap<Bytes, KeyValue>;

/// Ids of leases that may exist.
const LEASES: std::ops::Range<i64> = 1..4;

/// One map per revision; index 0 is revision 1.
struct Model {
    states: Vec<State>,
    events: Vec<Vec<Event>>,
    leases: BTreeSet<i64>,
}

impl Model {
    fn new() -> Self {
        Self {
            states: vec![State::new()],
            events: vec![Vec::new()],
            leases: BTreeSet::new(),
        }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).unwrap()
    }

    fn at(&self, revision: i64) -> &State {
        &self.states[usize::try_from(revision - 1).unwrap()]
    }

    /// Whether every lease that is named exists; else nothing of it happens.
    fn admits(&self, ops: &[RequestOp]) -> bool {
        ops.iter().all(|op| match &op.request {
            Some(Request::RequestPut(put)) => put.lease == 0 || self.leases.contains(&put.lease),
            _ => true,
        })
    }

    /// Keys that hang on a lease now.
    fn attached(&self, lease: i64) -> Vec<Bytes> {
        let now = self.at(self.revision()).values();
        now.filter(|kv| kv.lease == lease)
            .map(|kv| kv.key.clone())
            .collect()
    }

    /// Revokes a lease, which deletes its keys in one revision.
    fn revoke(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let delete = |key| RequestOp {
            request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                ..Default::default()
            })),
        };
        let ops: Vec<_> = self.attached(lease).into_iter().map(delete).collect();
        self.apply(&ops);
    }

    fn apply(&mut self, ops: &[RequestOp]) {
        let mut state = self.states.last().unwrap().clone();
        let mut events = Vec::new();
        let revision = self.revision() + 1;
        for op in ops {
            match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => events.push(model_put(&mut state, put, revision)),
                Request::RequestDeleteRange(delete) => {
                    let span = Span::new(&delete.key, &delete.range_end);
                    let doomed: Vec<_> = state
                        .keys()
                        .filter(|key| span.contains(key))
                        .cloned()
                        .collect();
                    for key in doomed {
                        let prev_kv = state.remove(&key);
                        let kv = Some(KeyValue {
                            key,
                            mod_revision: revision,
                            ..Default::default()
                        });
                        events.push(Event {
                            r#type: 1,
                            kv,
                            prev_kv,
                        });
                    }
                }
                _ => unreachable!("not generated"),
            }
        }
        if !events.is_empty() {
            self.states.push(state);
            self.events.push(events);
        }
    }
}

fn model_put(state: &mut State, put: &PutRequest, revision: i64) -> Event {
    let prev_kv = state.get(&put.key).cloned();
    let kv = KeyValue {
        key: put.key.clone(),
        value: put.value.clone(),
        create_revision: prev_kv.as_ref().map_or(revision, |kv| kv.create_revision),
        mod_revision: revision,
        version: prev_kv.as_ref().map_or(0, |kv| kv.version) + 1,
        lease: put.lease,
    };
    state.insert(put.key.clone(), kv.clone());
    Event {
        r#type: 0,
        kv: Some(kv),
        prev_kv,
    }
}

/// Keys with zeros and prefixes of each other: what an escaping could get wrong.
fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xff]), 1..4)
        .prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(&[0])), key()]
}

fn op() -> impl Strategy<Value = RequestOp> {
    let lease = prop_oneof![6 => Just(0), 1 => LEASES];
    let value = prop::collection::vec(any::<u8>(), 0..6);
    let put = (key(), value, lease).prop_map(|(key, value, lease)| {
        Request::RequestPut(PutRequest {
            key,
            value: value.into(),
            lease,
            ..Default::default()
        })
    });
    let delete = (key(), range_end()).prop_map(|(key, range_end)| {
        Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end,
            prev_kv: true,
        })
    });
    prop_oneof![4 => put, 1 => delete].prop_map(|request| RequestOp {
        request: Some(request),
    })
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<RequestOp>),
    /// How far back from the newest revision.
    Compact(i64),
    Reclaim,
    Reopen,
    Grant(i64),
    Revoke(i64),
    Read {
        back: i64,
        key: Bytes,
        range_end: Bytes,
        limit: i64,
    },
    Replay {
        back: i64,
        key: Bytes,
        range_end: Bytes,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(op(), 1..5).prop_map(Step::Write),
        1 => (0i64..12).prop_map(Step::Compact),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Reopen),
        1 => LEASES.prop_map(Step::Grant),
        1 => LEASES.prop_map(Step::Revoke),
        4 => (0i64..20, key(), range_end(), 0i64..4)
            .prop_map(|(back, key, range_end, limit)| Step::Read { back, key, range_end, limit }),
        2 => (0i64..20, key(), range_end()).prop_map(|(back, key, range_end)| Step::Replay { back, key, range_end }),
    ]
}

fn command(ops: Vec<RequestOp>) -> Command {
    match <[RequestOp; 1]>::try_from(ops) {
        Ok(
            [
                RequestOp {
                    request: Some(Request::RequestPut(put)),
                },
            ],
        ) => Command::Put(put),
        Ok(
            [
                RequestOp {
                    request: Some(Request::RequestDeleteRange(delete)),
                },
            ],
        ) => Command::DeleteRange(delete),
        Ok(ops) => Command::Txn(TxnRequest {
            success: ops.into(),
            ..Default::default()
        }),
        Err(success) => Command::Txn(TxnRequest {
            success,
            ..Default::default()
        }),
    }
}

/// Reads a range, and the pages after it down to its end.
fn read(store: &Harness, model: &Model, revision: i64, key: Bytes, range_end: Bytes, limit: i64) {
    let span = Span::new(&key, &range_end);
    let request = RangeRequest {
        key,
        range_end,
        limit,
        revision,
        ..Default::default()
    };
    if revision < store.store.compacted().get() {
        assert_eq!(
            store.range(&request).unwrap_err(),
            "etcdserver: mvcc: required revision has been compacted"
        );
        return;
    }
    let expected: Vec<_> = model
        .at(revision)
        .values()
        .filter(|kv| span.contains(&kv.key))
        .cloned()
        .collect();
    let got = store.range(&request).unwrap();
    assert_eq!(got.count, i64::try_from(expected.len()).unwrap());
    let got_limit = limit;
    let limit = usize::try_from(limit).unwrap();
    let shown = if limit == 0 {
        expected.len()
    } else {
        limit.min(expected.len())
    };
    assert_eq!(
        (got.kvs.as_slice(), got.more),
        (&expected[..shown], shown < expected.len())
    );
    if let (Some(last), true) = (got.kvs.last(), got.more) {
        let next = [&last.key[..], &[0]].concat();
        let range_end = request.range_end;
        read(store, model, revision, next.into(), range_end, got_limit);
    }
}

fn replay(store: &Harness, model: &Model, from: i64, key: &Bytes, range_end: &Bytes) {
    let span = Span::new(key, range_end);
    let since = Revision::new(from);
    if since < store.store.compacted() {
        assert!(store.store.history(since, &[(since, &span)]).is_err());
        return;
    }
    let chunk = store.store.history(since, &[(since, &span)]).unwrap();
    assert_eq!(chunk.through.get(), model.revision());
    let mut got = Vec::new();
    for change in &chunk.events {
        for event in change.events.iter() {
            assert_eq!(
                event.kv.as_ref().unwrap().mod_revision,
                change.revision.get()
            );
            got.push(event.clone());
        }
    }
    let first = usize::try_from(from - 1).unwrap();
    let wanted = |event: &&Event| span.contains(&event.kv.as_ref().unwrap().key);
    let mut expected: Vec<_> = model.events[first.min(model.events.len())..]
        .iter()
        .flatten()
        .filter(wanted)
        .cloned()
        .collect();
    // What a key was before the boundary is out of reach for events at the boundary itself.
    let compacted = store.store.compacted().get();
    for (got, expected) in got.iter().zip(&mut expected) {
        if expected.kv.as_ref().unwrap().mod_revision == compacted && got.prev_kv.is_none() {
            expected.prev_kv = None;
        }
    }
    assert_eq!(got, expected);
}

#[expect(
    clippy::too_many_lines,
    reason = "one match, an arm per operation of the model"
)]
fn run(steps: Vec<Step>, round_max: usize, head_cache_bytes: usize) {
    let options = StoreOptions { head_cache_bytes };
    let mut store = Harness::open_with(std::sync::Arc::default(), options);
    let mut batched = Harness::new();
    let mut pending = Vec::new();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Write(ops) => {
                let command = command(ops.clone());
                if let Command::Txn(txn) = &command
                    && check::txn(txn).is_err()
                {
                    continue;
                }
                let admitted = model.admits(&ops);
                if admitted {
                    model.apply(&ops);
                }
                let (reply, changes) = store.apply(command.clone());
                let refused = matches!(reply.result, Some(raft_reply::Result::Refusal(_)));
                assert_eq!(refused, !admitted, "{reply:?}");
                assert_eq!(reply.revision, model.revision());
                for change in &changes.events {
                    assert_eq!(&*change.events, model.events.last().unwrap().as_slice());
                }
                pending.push(command);
            }
            Step::Compact(back) => {
                let revision = model.revision() - back;
                let moves = revision > store.store.compacted().get();
                assert_eq!(store.compact(revision).is_ok(), moves);
                pending.push(Command::Compact(CompactionRequest {
                    revision,
                    physical: false,
                }));
            }
            Step::Reclaim => {
                let before = store.store.hash_kv(0).unwrap();
                store.reclaim();
                assert_eq!(store.store.hash_kv(0).unwrap(), before);
            }
            Step::Grant(id) => {
                let grant = Command::LeaseGrant(LeaseGrant {
                    id,
                    ttl_seconds: 10,
                });
                assert_eq!(store.run(grant.clone()).is_ok(), model.leases.insert(id));
                pending.push(grant);
            }
            Step::Revoke(id) => {
                let revoke = Command::LeaseRevoke(LeaseRevoke {
                    ids: vec![id],
                    expired: false,
                });
                let known = model.leases.contains(&id);
                assert_eq!(store.run(revoke.clone()).is_ok(), known);
                model.revoke(id);
                pending.push(revoke);
            }
            Step::Reopen => store = Harness::open_with(store.backend.clone(), options),
            Step::Read {
                back,
                key,
                range_end,
                limit,
            } => {
                read(
                    &store,
                    &model,
                    (model.revision() - back).max(1),
                    key,
                    range_end,
                    limit,
                );
            }
            Step::Replay {
                back,
                key,
                range_end,
            } => {
                replay(
                    &store,
                    &model,
                    (model.revision() - back).max(1),
                    &key,
                    &range_end,
                );
            }
        }
    }
    for lease in LEASES {
        let attached = store.store.lease_keys(LeaseId(lease)).unwrap();
        assert_eq!(attached, model.attached(lease));
    }
    for round in pending.chunks(round_max) {
        batched.apply_all(round);
    }
    assert_eq!(
        batched.store.hash_kv(0).unwrap(),
        store.store.hash_kv(0).unwrap()
    );
    let events = Bytes::from_static(&[0]);
    replay(
        &store,
        &model,
        store.store.compacted().get().max(1),
        &events,
        &events,
    );
}

proptest! {
    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80), round_max in 1usize..9,
        // Nothing is kept, some is pushed out, all is kept.
        head_cache_bytes in prop::sample::select(vec![1, 4 << 10, 1 << 20])) {
        run(steps, round_max, head_cache_bytes);
    }
}
