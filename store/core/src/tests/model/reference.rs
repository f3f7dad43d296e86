//! What etcd's API means, said as plainly as possible: a whole map for every revision, and the leases of the moment.
//!
//! Shares no code with the store, its reading of spans included. Invariant: a refused command leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corten_proto::corten::store::v1::{raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use corten_proto::etcd::mvccpb::{Event, KeyValue};

pub(super) type State = BTreeMap<Bytes, KeyValue>;

/// One map per revision; index 0 is revision 1.
pub(super) struct Model {
    states: Vec<State>,
    pub(super) events: Vec<Vec<Event>>,
    pub(super) leases: BTreeSet<i64>,
    pub(super) compacted: i64,
}

/// What a command has done so far.
struct Work {
    state: State,
    events: Vec<Event>,
    /// Of the command, if it changes anything.
    revision: i64,
}

impl Work {
    /// The revision as an operation within the command sees it.
    fn visible(&self) -> i64 {
        self.revision - i64::from(self.events.is_empty())
    }

    fn header(&self) -> Option<ResponseHeader> {
        header(self.visible())
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

/// Whether a pair of the API covers a key: no end is one key, a single zero byte is no end.
pub(super) fn covers(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => candidate >= key,
        end => candidate >= key && candidate < end,
    }
}

pub(super) fn count(items: usize) -> i64 {
    i64::try_from(items).unwrap()
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            states: vec![State::new()],
            events: vec![Vec::new()],
            leases: BTreeSet::new(),
            compacted: 0,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        count(self.states.len())
    }

    pub(super) fn at(&self, revision: i64) -> &State {
        &self.states[usize::try_from(revision - 1).unwrap()]
    }

    /// Keys that hang on a lease now.
    pub(super) fn attached(&self, lease: i64) -> Vec<Bytes> {
        let now = self.at(self.revision()).values();
        now.filter(|kv| kv.lease == lease)
            .map(|kv| kv.key.clone())
            .collect()
    }

    /// Revokes a lease, which deletes its keys in one revision.
    pub(super) fn revoke(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let mut work = self.begin();
        for key in self.attached(lease) {
            let request = DeleteRangeRequest {
                key,
                ..Default::default()
            };
            delete(&mut work, &request);
        }
        self.commit(work);
    }

    /// What a put, a deletion or a transaction answers; it is done, unless it is refused in these words.
    pub(super) fn write(&mut self, command: &Command) -> Result<raft_reply::Result, &'static str> {
        use raft_reply::Result as R;
        let mut work = self.begin();
        let mut result = match command {
            Command::Put(request) => {
                self.admits(&Request::RequestPut(request.clone()))?;
                R::Put(put(&mut work, request))
            }
            Command::DeleteRange(request) => R::DeleteRange(delete(&mut work, request)),
            Command::Txn(request) => {
                if clashes(&request.success) || clashes(&request.failure) {
                    return Err("etcdserver: duplicate key given in txn request");
                }
                let before = self.at(self.revision());
                let ops = executed(before, request);
                let (reads, puts): (Vec<_>, Vec<_>) = ops
                    .iter()
                    .partition(|op| matches!(op, Request::RequestRange(_)));
                for op in reads.into_iter().chain(puts) {
                    self.admits(op)?;
                }
                R::Txn(self.run(&mut work, before, request))
            }
            _ => unreachable!("not generated"),
        };
        let revision = header(work.visible());
        match &mut result {
            R::Put(answer) => answer.header = revision,
            R::DeleteRange(answer) => answer.header = revision,
            R::Txn(answer) => answer.header = revision,
            _ => unreachable!("not made"),
        }
        self.commit(work);
        Ok(result)
    }

    /// What must hold before a command changes anything.
    fn admits(&self, op: &Request) -> Result<(), &'static str> {
        match op {
            Request::RequestRange(range) if range.revision > self.revision() => {
                Err("etcdserver: mvcc: required revision is a future revision")
            }
            Request::RequestRange(range) if (1..self.compacted).contains(&range.revision) => {
                Err("etcdserver: mvcc: required revision has been compacted")
            }
            Request::RequestPut(put) => {
                let there = self.at(self.revision()).contains_key(&put.key);
                if (put.ignore_value || put.ignore_lease) && !there {
                    return Err("etcdserver: key not found");
                }
                if put.lease != 0 && !self.leases.contains(&put.lease) {
                    return Err("etcdserver: requested lease not found");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&self) -> Work {
        Work {
            state: self.at(self.revision()).clone(),
            events: Vec::new(),
            revision: self.revision() + 1,
        }
    }

    fn commit(&mut self, work: Work) {
        if !work.events.is_empty() {
            self.states.push(work.state);
            self.events.push(work.events);
        }
    }

    /// Does what the branch says that holds `before` the whole transaction.
    fn run(&self, work: &mut Work, before: &State, request: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = branch(before, request);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(request) => {
                    Response::ResponseRange(self.range(work, request))
                }
                Request::RequestPut(request) => Response::ResponsePut(put(work, request)),
                Request::RequestDeleteRange(request) => {
                    Response::ResponseDeleteRange(delete(work, request))
                }
                Request::RequestTxn(request) => {
                    Response::ResponseTxn(self.run(work, before, request))
                }
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: work.header(),
            succeeded,
            responses,
        }
    }

    /// A read in key order; one of no revision sees what the command has done so far.
    fn range(&self, work: &Work, request: &RangeRequest) -> RangeResponse {
        let state = match request.revision {
            ..=0 => &work.state,
            revision => self.at(revision),
        };
        let found: Vec<_> = in_span(state, &request.key, &request.range_end);
        let limit = match usize::try_from(request.limit).unwrap() {
            0 => found.len(),
            limit => limit,
        };
        let mut answer = RangeResponse {
            header: work.header(),
            count: count(found.len()),
            ..Default::default()
        };
        if !request.count_only {
            answer.more = found.len() > limit;
            answer.kvs = found.into_iter().take(limit).collect();
        }
        if request.keys_only {
            answer.kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        answer
    }
}

fn in_span(state: &State, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
    let all = state.values();
    all.filter(|kv| covers(key, range_end, &kv.key))
        .cloned()
        .collect()
}

fn branch<'a>(before: &State, request: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
    let succeeded = request.compare.iter().all(|compare| holds(before, compare));
    let ops = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    (succeeded, ops)
}

/// Every operation of the branches taken but transactions themselves, in order.
fn executed<'a>(before: &State, request: &'a TxnRequest) -> Vec<&'a Request> {
    let mut all = Vec::new();
    for op in branch(before, request).1 {
        match op.request.as_ref().unwrap() {
            Request::RequestTxn(nested) => all.extend(executed(before, nested)),
            op => all.push(op),
        }
    }
    all
}

/// For every key of the span; for a span without keys, for a key whose every number is 0 and that has no value.
fn holds(before: &State, compare: &Compare) -> bool {
    let found = in_span(before, &compare.key, &compare.range_end);
    if found.is_empty() {
        return compare.target() != CompareTarget::Value && compares(compare, &KeyValue::default());
    }
    found.iter().all(|kv| compares(compare, kv))
}

fn compares(compare: &Compare, kv: &KeyValue) -> bool {
    use TargetUnion as U;
    // A number of another target than the one that is compared counts as 0.
    let own = match (compare.target(), compare.target_union.clone()) {
        (CompareTarget::Version, Some(U::Version(wanted))) => kv.version.cmp(&wanted),
        (CompareTarget::Create, Some(U::CreateRevision(wanted))) => kv.create_revision.cmp(&wanted),
        (CompareTarget::Mod, Some(U::ModRevision(wanted))) => kv.mod_revision.cmp(&wanted),
        (CompareTarget::Lease, Some(U::Lease(wanted))) => kv.lease.cmp(&wanted),
        (CompareTarget::Value, Some(U::Value(wanted))) => kv.value.cmp(&wanted),
        (CompareTarget::Version, _) => kv.version.cmp(&0),
        (CompareTarget::Create, _) => kv.create_revision.cmp(&0),
        (CompareTarget::Mod, _) => kv.mod_revision.cmp(&0),
        (CompareTarget::Lease, _) => kv.lease.cmp(&0),
        (CompareTarget::Value, _) => kv.value.cmp(&Bytes::new()),
    };
    match compare.result() {
        CompareResult::Equal => own.is_eq(),
        CompareResult::Greater => own.is_gt(),
        CompareResult::Less => own.is_lt(),
        CompareResult::NotEqual => own.is_ne(),
    }
}

fn put(work: &mut Work, request: &PutRequest) -> PutResponse {
    let old = work.state.get(&request.key).cloned();
    let kept = old.clone().unwrap_or_default();
    let new = KeyValue {
        key: request.key.clone(),
        value: if request.ignore_value {
            kept.value
        } else {
            request.value.clone()
        },
        lease: if request.ignore_lease {
            kept.lease
        } else {
            request.lease
        },
        version: kept.version + 1,
        create_revision: match kept.create_revision {
            0 => work.revision,
            created => created,
        },
        mod_revision: work.revision,
    };
    work.state.insert(request.key.clone(), new.clone());
    work.events.push(Event {
        r#type: 0,
        kv: Some(new),
        prev_kv: old.clone(),
    });
    PutResponse {
        header: work.header(),
        prev_kv: old.filter(|_| request.prev_kv),
    }
}

fn delete(work: &mut Work, request: &DeleteRangeRequest) -> DeleteRangeResponse {
    let doomed = in_span(&work.state, &request.key, &request.range_end);
    for kv in &doomed {
        work.state.remove(&kv.key);
        let gone = KeyValue {
            key: kv.key.clone(),
            mod_revision: work.revision,
            ..Default::default()
        };
        work.events.push(Event {
            r#type: 1,
            kv: Some(gone),
            prev_kv: Some(kv.clone()),
        });
    }
    DeleteRangeResponse {
        header: work.header(),
        deleted: count(doomed.len()),
        prev_kvs: if request.prev_kv { doomed } else { Vec::new() },
    }
}

/// Whether two operations of a list could change one key. Branches of one nested transaction exclude each other, and two
/// deletions do no harm.
fn clashes(ops: &[RequestOp]) -> bool {
    let within = ops.iter().any(|op| match op.request.as_ref().unwrap() {
        Request::RequestTxn(nested) => clashes(&nested.success) || clashes(&nested.failure),
        _ => false,
    });
    let changed: Vec<_> = ops
        .iter()
        .map(|op| changes(std::slice::from_ref(op)))
        .collect();
    let pairs = (0..changed.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    let meet = |one: &Request, other: &Request| match (one, other) {
        (Request::RequestPut(one), Request::RequestPut(other)) => one.key == other.key,
        (Request::RequestPut(put), Request::RequestDeleteRange(delete))
        | (Request::RequestDeleteRange(delete), Request::RequestPut(put)) => {
            covers(&delete.key, &delete.range_end, &put.key)
        }
        _ => false,
    };
    within
        || pairs.into_iter().any(|(a, b)| {
            let each = changed[a].iter();
            each.into_iter()
                .any(|one| changed[b].iter().any(|other| meet(one, other)))
        })
}

/// Every put and deletion that may run.
fn changes(ops: &[RequestOp]) -> Vec<&Request> {
    let mut all = Vec::new();
    for op in ops {
        match op.request.as_ref().unwrap() {
            Request::RequestRange(_) => {}
            Request::RequestTxn(nested) => {
                all.extend(changes(&nested.success));
                all.extend(changes(&nested.failure));
            }
            op => all.push(op),
        }
    }
    all
}
