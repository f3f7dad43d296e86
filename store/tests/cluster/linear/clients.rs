//! Who puts, reads, deletes and swaps through all members, and notes what it was answered.
//!
//! Judges nothing. Invariant: no request is sent twice and no value is written twice; what was not answered in time has an
//! unknown outcome, and is not noted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use corten_proto::etcd::mvccpb::KeyValue;
use etcd::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd::kv_client::KvClient;
use etcd::request_op::Request;
use etcd::response_op::Response;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::super::harness::wait_for;
use super::super::history::Change;
use super::super::process::Processes;
use super::{Did, Found, Operation, Seen};

/// Few, so that those who read and write meet. Nobody else has keys with this beginning.
const KEYS: [&str; 3] = ["x/a", "x/b", "x/c"];
/// What comes after all of them.
const END: &str = "x0";
const CLIENTS: usize = 9;
/// An operation that takes longer has an unknown outcome, and is not judged.
const PATIENCE: Duration = Duration::from_secs(2);

/// The operations and their clients.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<Operation>>>,
}

impl Clients {
    pub(crate) fn start(processes: &Processes) -> Clients {
        let (stop, answered) = (Arc::default(), Arc::default());
        let tasks = (0..CLIENTS).map(|number| {
            let members = 0..processes.client_ports.len();
            let members: Vec<_> = members.map(|i| processes.kv(i)).collect();
            let client = client(number, members, Arc::clone(&stop), Arc::clone(&answered));
            spawn("client", TaskKind::Background, client)
        });
        let tasks = tasks.collect();
        Clients {
            stop,
            answered,
            tasks,
        }
    }

    /// Waits for so many more answers.
    pub(crate) async fn answers(&self, count: usize) {
        let until = self.answered.load(Ordering::Relaxed) + count;
        wait_for("answers", async || {
            (self.answered.load(Ordering::Relaxed) >= until).then_some(())
        })
        .await;
    }

    pub(crate) async fn finish(self) -> Vec<Operation> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("no panic"));
        }
        all
    }
}

async fn client(
    number: usize,
    members: Vec<KvClient<Channel>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Vec<Operation> {
    let mut done = Vec::new();
    for turn in number.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let kv = members[turn % members.len()].clone();
        let one = KEYS[turn / 2 % KEYS.len()];
        let two = [one, KEYS[(turn / 2 + 1) % KEYS.len()]];
        let value = format!("{number}/{turn}");
        let noted = match turn % 8 {
            0 | 4 => noted(put(kv, one, &value), &mut done).await,
            1 => noted(range(kv, one, ""), &mut done).await,
            2 => noted(range(kv, KEYS[0], END), &mut done).await,
            3 | 6 => swap(kv, two, &value, &mut done).await,
            5 => noted(read_both(kv, two), &mut done).await,
            // Of one key, or of those before the last.
            _ => {
                let to = if turn % 16 == 7 { "" } else { KEYS[2] };
                noted(delete(kv, KEYS[0], to), &mut done).await
            }
        };
        match noted {
            Some(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
            // The member is down or without a leader; do not spin.
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    done
}

/// Notes what is answered in time, and gives it.
async fn noted(
    call: impl Future<Output = Option<(i64, Did)>>,
    done: &mut Vec<Operation>,
) -> Option<Did> {
    let begin = Instant::now();
    let (revision, did) = timeout(PATIENCE, call).await.ok()??;
    done.push(Operation {
        begin,
        end: Instant::now(),
        revision,
        did: did.clone(),
    });
    Some(did)
}

fn found(kv: KeyValue) -> Found {
    Found {
        key: String::from_utf8(kv.key.to_vec()).expect("text"),
        written: kv.mod_revision,
        value: Some(kv.value),
    }
}

fn seen(from: &str, to: &str, kvs: impl IntoIterator<Item = KeyValue>) -> Seen {
    Seen {
        from: from.to_owned(),
        to: to.to_owned(),
        found: kvs.into_iter().map(found).collect(),
    }
}

fn only_read(seen: Vec<Seen>) -> Did {
    Did::Read { seen, unlike: None }
}

async fn put(mut kv: KvClient<Channel>, key: &str, value: &str) -> Option<(i64, Did)> {
    let mut request = put_request(key, value);
    request.prev_kv = true;
    let answer = kv.put(request).await.ok()?.into_inner();
    let did = Did::Changed {
        changes: vec![Change::put(key, value.to_owned())],
        before: vec![seen(key, "", answer.prev_kv)],
    };
    Some((answer.header?.revision, did))
}

async fn range(mut kv: KvClient<Channel>, from: &str, to: &str) -> Option<(i64, Did)> {
    let answer = kv.range(range_request(from, to)).await.ok()?.into_inner();
    let did = only_read(vec![seen(from, to, answer.kvs)]);
    Some((answer.header?.revision, did))
}

async fn delete(mut kv: KvClient<Channel>, from: &str, to: &str) -> Option<(i64, Did)> {
    let request = etcd::DeleteRangeRequest {
        key: from.to_owned().into(),
        range_end: to.to_owned().into(),
        prev_kv: true,
    };
    let answer = kv.delete_range(request).await.ok()?.into_inner();
    let before = seen(from, to, answer.prev_kvs);
    let changes: Vec<_> = before
        .found
        .iter()
        .map(|gone| Change::delete(&gone.key))
        .collect();
    assert_eq!(i64::try_from(changes.len()), Ok(answer.deleted));
    // What finds nothing makes no revision.
    let did = if changes.is_empty() {
        only_read(vec![before])
    } else {
        let before = vec![before];
        Did::Changed { changes, before }
    };
    Some((answer.header?.revision, did))
}

async fn read_both(mut kv: KvClient<Channel>, keys: [&str; 2]) -> Option<(i64, Did)> {
    let request = etcd::TxnRequest {
        success: keys.map(get_op).to_vec(),
        ..Default::default()
    };
    let answer = kv.txn(request).await.ok()?.into_inner();
    let did = only_read(seen_by(keys, answer.responses));
    Some((answer.header?.revision, did))
}

/// Reads two keys, then puts both if neither was changed meanwhile.
async fn swap(
    kv: KvClient<Channel>,
    keys: [&str; 2],
    value: &str,
    done: &mut Vec<Operation>,
) -> Option<Did> {
    let read = noted(read_both(kv.clone(), keys), done).await?;
    let Did::Read { seen, .. } = read else {
        unreachable!("it only reads");
    };
    noted(swap_seen(kv, keys, value, seen), done).await
}

async fn swap_seen(
    mut kv: KvClient<Channel>,
    keys: [&str; 2],
    value: &str,
    mut expected: Vec<Seen>,
) -> Option<(i64, Did)> {
    let compare = |seen: &Seen| etcd::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: seen.from.clone().into(),
        range_end: Default::default(),
        target_union: Some(TargetUnion::ModRevision(
            seen.found.first().map_or(0, |found| found.written),
        )),
    };
    let values = ["first", "second"].map(|which| format!("{value}/{which}"));
    let put = |(key, value): (&str, &String)| etcd::RequestOp {
        request: Some(Request::RequestPut(put_request(key, value))),
    };
    let request = etcd::TxnRequest {
        compare: expected.iter().map(compare).collect(),
        success: keys.into_iter().zip(&values).map(put).collect(),
        failure: keys.map(get_op).to_vec(),
    };
    let answer = kv.txn(request).await.ok()?.into_inner();
    // The comparison says nothing of values.
    for found in expected.iter_mut().flat_map(|seen| &mut seen.found) {
        found.value = None;
    }
    let did = if answer.succeeded {
        let changes = keys.into_iter().zip(values);
        Did::Changed {
            changes: changes
                .map(|(key, value)| Change::put(key, value))
                .collect(),
            before: expected,
        }
    } else {
        Did::Read {
            seen: seen_by(keys, answer.responses),
            unlike: Some(expected),
        }
    };
    Some((answer.header?.revision, did))
}

/// What the reads of a transaction saw.
fn seen_by(keys: [&str; 2], responses: Vec<etcd::ResponseOp>) -> Vec<Seen> {
    assert_eq!(responses.len(), keys.len(), "an answer for each operation");
    let one = |(key, op): (&str, etcd::ResponseOp)| match op.response {
        Some(Response::ResponseRange(answer)) => seen(key, "", answer.kvs),
        other => panic!("an answer to a read of {key}: {other:?}"),
    };
    keys.into_iter().zip(responses).map(one).collect()
}

fn put_request(key: &str, value: &str) -> etcd::PutRequest {
    etcd::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn range_request(from: &str, to: &str) -> etcd::RangeRequest {
    etcd::RangeRequest {
        key: from.to_owned().into(),
        range_end: to.to_owned().into(),
        ..Default::default()
    }
}

fn get_op(key: &str) -> etcd::RequestOp {
    etcd::RequestOp {
        request: Some(Request::RequestRange(range_request(key, ""))),
    }
}
