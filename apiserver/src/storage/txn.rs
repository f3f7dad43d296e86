//! Guarded transactions: all guards hold and all operations are applied, or the state of the guarded keys comes back.
//!
//! It does not merge or decide; the registry recomputes and tries again. Invariant: an answer of `Applied` means that
//! this transaction, and not a lookalike of another writer, changed the store: after a lost answer the repeated
//! transaction is refused by its own first run, and is recognised by the bytes it wrote.

use std::time::Duration;

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb::{self as pb, compare, request_op, response_op};

use super::{Error, Revision, Store, Stored, number_of, revision_of};

/// What must be true for the transaction to be applied.
#[derive(Debug, Clone)]
pub enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key was last changed by this revision.
    Unchanged(String, Revision),
}

impl Guard {
    fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// What the transaction does.
#[derive(Debug, Clone)]
pub enum Op {
    /// Writes a key; with a time to live it expires.
    Put {
        key: String,
        value: Bytes,
        ttl: Option<Duration>,
    },
    /// Removes a key.
    Delete { key: String },
}

/// Guards and operations. The first guard and the first operation speak of the object that the transaction is about.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    pub guards: Vec<Guard>,
    pub ops: Vec<Op>,
}

impl Txn {
    /// Creates a key that must not exist.
    pub fn create(key: &str, value: Bytes, ttl: Option<Duration>) -> Self {
        Self {
            guards: vec![Guard::Absent(key.to_owned())],
            ops: vec![Op::Put {
                key: key.to_owned(),
                value,
                ttl,
            }],
        }
    }

    /// Replaces a key that must not have changed since a revision.
    pub fn update(key: &str, value: Bytes, since: Revision, ttl: Option<Duration>) -> Self {
        Self {
            guards: vec![Guard::Unchanged(key.to_owned(), since)],
            ops: vec![Op::Put {
                key: key.to_owned(),
                value,
                ttl,
            }],
        }
    }

    /// Removes a key that must not have changed since a revision.
    pub fn delete(key: &str, since: Revision) -> Self {
        Self {
            guards: vec![Guard::Unchanged(key.to_owned(), since)],
            ops: vec![Op::Delete {
                key: key.to_owned(),
            }],
        }
    }

    /// Adds the guards and operations of another transaction behind this one's.
    pub fn and(mut self, other: Self) -> Self {
        self.guards.extend(other.guards);
        self.ops.extend(other.ops);
        self
    }
}

/// How a transaction ended.
#[derive(Debug, Clone)]
pub enum Committed {
    /// Everything was applied, at this revision.
    Applied(Revision),
    /// Nothing was: the present state of each guarded key, in the order of the guards.
    Refused(Vec<Option<Stored>>),
}

pub(super) async fn commit(store: &Store, txn: &Txn) -> Result<Committed, Error> {
    let mut request = encode(store, txn).await?;
    let mut attempts = 0_u32;
    let outcome = send(store, &request, &mut attempts).await;
    let response = match outcome {
        Err(status) if status.message().contains("requested lease not found") => {
            forget_leases(store, &request);
            request = encode(store, txn).await?;
            send(store, &request, &mut attempts).await
        }
        other => other,
    }
    .map_err(|status| Error::from_status(status, Revision::default()))?;
    let header = response.header.ok_or(Error::Malformed { what: "header" })?;
    if response.succeeded {
        return Ok(Committed::Applied(revision_of(header.revision)));
    }
    let raw = response
        .responses
        .into_iter()
        .map(|response| match response.response {
            Some(response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        });
    let raw: Vec<_> = raw.collect();
    if attempts > 1 && was_mine(&request, raw.first().and_then(Option::as_ref)) {
        let revision = raw
            .first()
            .and_then(Option::as_ref)
            .map_or(header.revision, |kv| kv.mod_revision);
        return Ok(Committed::Applied(revision_of(revision)));
    }
    let states = raw
        .into_iter()
        .map(|kv| kv.map(|kv| store.open(kv)).transpose());
    Ok(Committed::Refused(states.collect::<Result<_, _>>()?))
}

async fn send(
    store: &Store,
    request: &pb::TxnRequest,
    attempts: &mut u32,
) -> Result<pb::TxnResponse, tonic::Status> {
    store
        .inner
        .endpoints
        .retrying(|member| {
            *attempts += 1;
            let request = request.clone();
            async move { Ok(member.kv().txn(request).await?.into_inner()) }
        })
        .await
}

/// Whether the refusal is the echo of an earlier attempt of the same transaction. Values carry a fresh uid or a
/// revision-guarded change, and encrypted ones a random nonce: equal bytes under a newer revision are this write.
fn was_mine(
    request: &pb::TxnRequest,
    current: Option<&corten_proto::etcd::mvccpb::KeyValue>,
) -> bool {
    let first = request.success.first().and_then(|op| op.request.as_ref());
    match (first, current) {
        (Some(request_op::Request::RequestPut(put)), Some(kv)) => kv.value == put.value,
        (Some(request_op::Request::RequestDeleteRange(_)), None) => true,
        _ => false,
    }
}

async fn encode(store: &Store, txn: &Txn) -> Result<pb::TxnRequest, Error> {
    let mut success = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        let request = match op {
            Op::Put { key, value, ttl } => {
                let lease = match ttl {
                    Some(ttl) => store.lease(*ttl).await?,
                    None => 0,
                };
                request_op::Request::RequestPut(pb::PutRequest {
                    key: key.clone().into(),
                    value: store.seal(key, value)?,
                    lease,
                    ..Default::default()
                })
            }
            Op::Delete { key } => request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key.clone().into(),
                ..Default::default()
            }),
        };
        success.push(pb::RequestOp {
            request: Some(request),
        });
    }
    Ok(pb::TxnRequest {
        compare: txn.guards.iter().map(compare_of).collect(),
        success,
        failure: txn
            .guards
            .iter()
            .map(|guard| read_of(guard.key()))
            .collect(),
    })
}

fn compare_of(guard: &Guard) -> pb::Compare {
    let revision = match guard {
        Guard::Absent(_) => 0,
        Guard::Unchanged(_, revision) => number_of(*revision),
    };
    pb::Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: guard.key().to_owned().into(),
        target_union: Some(compare::TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

fn read_of(key: &str) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request_op::Request::RequestRange(pb::RangeRequest {
            key: key.to_owned().into(),
            ..Default::default()
        })),
    }
}

fn forget_leases(store: &Store, request: &pb::TxnRequest) {
    for op in &request.success {
        if let Some(request_op::Request::RequestPut(put)) = &op.request {
            store.inner.leases.forget(put.lease);
        }
    }
}
