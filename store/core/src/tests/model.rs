//! The store against a model that keeps a whole map for every revision, and the leases of the moment.
//!
//! Not the model (`reference`) nor what is asked for (`requests`). Invariant: answers, refusals, events and histories are
//! those of the model, whatever is kept in memory and however many commands share a batch.

mod reference;
mod requests;

use bytes::Bytes;
use corten_proto::corten::store::v1::{
    LeaseGrant, LeaseRevoke, RaftReply, raft_reply, raft_request::Command,
};
use corten_proto::etcd::etcdserverpb::{CompactionRequest, RangeRequest};
use corten_proto::etcd::mvccpb::Event;
use proptest::prelude::*;

use super::harness::Harness;
use crate::{LeaseId, Revision, Span, StoreOptions, check};
use reference::{Model, count, covers};
use requests::{LEASES, key, range_end, write};

#[derive(Debug, Clone)]
enum Step {
    Write(Command),
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
        8 => write().prop_map(Step::Write),
        1 => (0i64..12).prop_map(Step::Compact),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Reopen),
        2 => LEASES.prop_map(Step::Grant),
        1 => LEASES.prop_map(Step::Revoke),
        4 => (0i64..20, key(), range_end(), 0i64..4)
            .prop_map(|(back, key, range_end, limit)| Step::Read { back, key, range_end, limit }),
        2 => (0i64..20, key(), range_end()).prop_map(|(back, key, range_end)| Step::Replay { back, key, range_end }),
    ]
}

/// Reads a range, and the pages after it down to its end.
fn read(store: &Harness, model: &Model, revision: i64, key: Bytes, range_end: Bytes, limit: i64) {
    let request = RangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        limit,
        // The newest goes by no number as well, and then by what is in memory.
        revision: if revision == model.revision() && limit % 2 == 0 {
            0
        } else {
            revision
        },
        ..Default::default()
    };
    if revision < model.compacted {
        assert_eq!(
            store.range(&request).unwrap_err(),
            "etcdserver: mvcc: required revision has been compacted"
        );
        return;
    }
    let expected: Vec<_> = model
        .at(revision)
        .values()
        .filter(|kv| covers(&key, &range_end, &kv.key))
        .cloned()
        .collect();
    let got = store.range(&request).unwrap();
    assert_eq!(got.count, count(expected.len()));
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
    if from < model.compacted {
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
    let wanted = |event: &&Event| covers(key, range_end, &event.kv.as_ref().unwrap().key);
    let mut expected: Vec<_> = model.events[first.min(model.events.len())..]
        .iter()
        .flatten()
        .filter(wanted)
        .cloned()
        .collect();
    // What a key was before the boundary is out of reach for events at the boundary itself.
    let compacted = model.compacted;
    for (got, expected) in got.iter().zip(&mut expected) {
        if expected.kv.as_ref().unwrap().mod_revision == compacted && got.prev_kv.is_none() {
            expected.prev_kv = None;
        }
    }
    assert_eq!(got, expected);
}

fn is_done(reply: &RaftReply) -> bool {
    !matches!(reply.result, Some(raft_reply::Result::Refusal(_)))
}

/// One command that changes keys, which the store must answer as the model does.
fn apply(store: &mut Harness, model: &mut Model, command: &Command) -> RaftReply {
    // What only reads is answered beside the log as well.
    let aside = match command {
        Command::Txn(txn) if check::is_read_only(txn) => Some(store.store.read_txn(txn)),
        _ => None,
    };
    let before = model.revision();
    let expected = model.write(command);
    let (reply, changes) = store.apply(command.clone());
    let got = match reply.result.clone().unwrap() {
        raft_reply::Result::Refusal(refusal) => Err(refusal.message),
        result => Ok(result),
    };
    let expected = expected.map_err(str::to_owned);
    assert_eq!(got, expected, "{command:?}");
    assert_eq!(reply.revision, model.revision());
    if let Some(aside) = aside {
        let aside = aside.map(raft_reply::Result::Txn);
        assert_eq!(aside.map_err(|error| error.to_string()), expected);
    }
    let told: Vec<_> = changes
        .events
        .iter()
        .flat_map(|change| change.events.iter().cloned())
        .collect();
    let happened = model.events[usize::try_from(before).unwrap()..].concat();
    assert_eq!(told, happened, "{command:?}");
    reply
}

#[expect(
    clippy::too_many_lines,
    reason = "one match, an arm per operation of the model"
)]
fn run(steps: Vec<Step>, round_max: usize, head_cache_bytes: usize) {
    let options = StoreOptions { head_cache_bytes };
    let mut store = Harness::open_with(std::sync::Arc::default(), options);
    let mut batched = Harness::new();
    let (mut pending, mut replies) = (Vec::new(), Vec::new());
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Write(command) => {
                replies.push(apply(&mut store, &mut model, &command));
                pending.push(command);
            }
            Step::Compact(back) => {
                let revision = model.revision() - back;
                let compact = Command::Compact(CompactionRequest {
                    revision,
                    physical: false,
                });
                let moves = revision > model.compacted;
                let reply = store.apply(compact.clone()).0;
                assert_eq!(is_done(&reply), moves);
                model.compacted = model.compacted.max(revision);
                assert_eq!(store.store.compacted().get(), model.compacted);
                replies.push(reply);
                pending.push(compact);
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
                let reply = store.apply(grant.clone()).0;
                assert_eq!(is_done(&reply), model.leases.insert(id));
                replies.push(reply);
                pending.push(grant);
            }
            Step::Revoke(id) => {
                let revoke = Command::LeaseRevoke(LeaseRevoke {
                    ids: vec![id],
                    expired: false,
                });
                let known = model.leases.contains(&id);
                let reply = store.apply(revoke.clone()).0;
                assert_eq!(is_done(&reply), known);
                replies.push(reply);
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
    let mut together = Vec::new();
    for round in pending.chunks(round_max) {
        together.append(&mut batched.apply_all(round).0);
    }
    assert_eq!(together, replies);
    assert_eq!(
        batched.store.hash_kv(0).unwrap(),
        store.store.hash_kv(0).unwrap()
    );
    let events = Bytes::from_static(&[0]);
    replay(&store, &model, model.compacted.max(1), &events, &events);
}

proptest! {
    // What is rare (an old lease that a put keeps) has to meet what is rare; a thousand take two seconds.
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80), round_max in 1usize..9,
        // Nothing is kept, some is pushed out, all is kept.
        head_cache_bytes in prop::sample::select(vec![1, 4 << 10, 1 << 20])) {
        run(steps, round_max, head_cache_bytes);
    }
}
