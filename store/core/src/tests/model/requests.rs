//! Requests at random: whatever etcd's API has for puts, deletions and transactions, nested ones included.
//!
//! Few keys, values and numbers, so that they meet. Invariant: no request is refused for its shape alone, but for keys that
//! it could change twice.

use bytes::Bytes;
use corten_proto::corten::store::v1::raft_request::Command;
use corten_proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::TargetUnion, request_op::Request,
};
use proptest::prelude::*;

/// Ids of leases that may exist.
pub(super) const LEASES: std::ops::Range<i64> = 1..4;
/// Revisions that are compared with, and read: most runs come to some of them, and pass them.
const REVISIONS: std::ops::Range<i64> = 1..24;
/// Transactions within transactions.
const DEPTH: u32 = 2;

/// Keys with zeros and prefixes of each other: what an escaping could get wrong. Most are of four that come again and again.
pub(super) fn key() -> impl Strategy<Value = Bytes> {
    let letters = |len| prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xff]), len);
    prop_oneof![3 => letters(1..2), 2 => letters(1..4)].prop_map(Bytes::from)
}

pub(super) fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(&[0])), key()]
}

/// Mostly of one key, since others soon clash within one transaction.
fn span() -> impl Strategy<Value = (Bytes, Bytes)> {
    let one = key().prop_map(|key| (key, Bytes::new()));
    prop_oneof![3 => one, 1 => (key(), range_end())]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![b'x', b'y', 0xff]), 0..3).prop_map(Bytes::from)
}

fn put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![3 => Just(0), 1 => LEASES];
    let ignores = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (key(), value(), lease, ignores, any::<bool>()).prop_map(
        |(key, value, lease, (ignore_value, ignore_lease), prev_kv)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (span(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let revision = prop_oneof![8 => Just(0), 1 => REVISIONS];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (key(), range_end(), 0i64..4, revision, flags).prop_map(
        |(key, range_end, limit, revision, (keys_only, count_only))| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            keys_only,
            count_only,
            ..Default::default()
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0i64..4).prop_map(|n| (0, TargetUnion::Version(n))),
        REVISIONS.prop_map(|n| (1, TargetUnion::CreateRevision(n))),
        Just((1, TargetUnion::CreateRevision(0))),
        REVISIONS.prop_map(|n| (2, TargetUnion::ModRevision(n))),
        value().prop_map(|value| (3, TargetUnion::Value(value))),
        (0i64..4).prop_map(|id| (4, TargetUnion::Lease(id))),
        // A number of another target than the one that is compared.
        (0i32..5).prop_map(|target| (target, TargetUnion::Version(1))),
    ];
    (span(), target, 0i32..4).prop_map(|((key, range_end), (target, union), result)| Compare {
        result,
        target,
        key,
        range_end,
        target_union: Some(union),
    })
}

fn op(depth: u32) -> BoxedStrategy<RequestOp> {
    let simple = prop_oneof![
        4 => put().prop_map(Request::RequestPut),
        1 => delete().prop_map(Request::RequestDeleteRange),
        2 => range().prop_map(Request::RequestRange),
    ];
    let request = match depth {
        0 => simple.boxed(),
        _ => {
            let nested = txn(depth - 1).prop_map(Request::RequestTxn);
            prop_oneof![5 => simple, 2 => nested].boxed()
        }
    };
    request
        .prop_map(|request| RequestOp {
            request: Some(request),
        })
        .boxed()
}

fn txn(depth: u32) -> BoxedStrategy<TxnRequest> {
    let ops = move || prop::collection::vec(op(depth), 0..4);
    (prop::collection::vec(compare(), 0..3), ops(), ops())
        .prop_map(|(compare, success, failure)| TxnRequest {
            compare,
            success,
            failure,
        })
        .boxed()
}

/// What changes keys.
pub(super) fn write() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => put().prop_map(Command::Put),
        1 => delete().prop_map(Command::DeleteRange),
        4 => txn(DEPTH).prop_map(Command::Txn),
    ]
}
