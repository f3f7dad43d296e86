//! Puts and reads through all members, through kills and pauses: is there one order in which they all make sense?
//!
//! The revisions are that order; so no search is needed. Invariant: whoever begins after another has ended gets no lower
//! revision, a put a higher one, at which the history has it; and a read shows what the history has at its revision.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::kv_client::KvClient;
use rustix::process::Signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::harness::{try_put, wait_for};
use super::history::{Followers, History};
use super::process::Processes;

/// Few, so that readers and writers meet.
const KEYS: [&str; 3] = ["a", "b", "c"];
const CLIENTS: usize = 9;
/// An operation that takes longer has an unknown outcome, and is not judged.
const PATIENCE: Duration = Duration::from_secs(2);

/// An operation that was answered.
pub(crate) struct Operation {
    begin: Instant,
    end: Instant,
    /// Of the store, at which it took place.
    revision: i64,
    key: &'static str,
    did: Did,
}

/// What an operation did with its key.
#[derive(Clone, Copy)]
enum Did {
    Put,
    /// It saw what this revision had written; none: that there is no such key.
    Read(Option<i64>),
}

/// Who puts and reads through all members.
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
        let key = KEYS[turn / 2 % KEYS.len()];
        let begin = Instant::now();
        let call = timeout(PATIENCE, async {
            if turn % 3 == 0 {
                let revision = try_put(kv, key, &turn.to_be_bytes()).await.ok()?;
                Some((revision, Did::Put))
            } else {
                get(kv, key).await
            }
        });
        match call.await {
            Ok(Some((revision, did))) => {
                answered.fetch_add(1, Ordering::Relaxed);
                let end = Instant::now();
                done.push(Operation {
                    begin,
                    end,
                    revision,
                    key,
                    did,
                });
            }
            // The member is down or without a leader; do not spin.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    done
}

async fn get(mut kv: KvClient<Channel>, key: &'static str) -> Option<(i64, Did)> {
    let request = etcd::RangeRequest {
        key: key.into(),
        ..Default::default()
    };
    let answer = kv.range(request).await.ok()?.into_inner();
    let written = answer.kvs.first().map(|kv| kv.mod_revision);
    Some((answer.header?.revision, Did::Read(written)))
}

/// Fails if there is no order in which all of it makes sense.
pub(crate) fn judge(mut operations: Vec<Operation>, history: &History) {
    let mut ended: Vec<(Instant, i64)> =
        operations.iter().map(|op| (op.end, op.revision)).collect();
    ended.sort_unstable();
    operations.sort_unstable_by_key(|op| op.begin);
    let (mut seen, mut newest) = (0, 0);
    for operation in operations {
        while seen < ended.len() && ended[seen].0 < operation.begin {
            newest = newest.max(ended[seen].1);
            seen += 1;
        }
        let (at, key) = (operation.revision, operation.key);
        match operation.did {
            Did::Put => {
                assert!(at > newest, "a put at {at} after {newest} was known");
                let changed = history.get(&at).map(String::as_str);
                assert_eq!(changed, Some(key), "what was put at {at}");
            }
            Did::Read(written) => {
                assert!(at >= newest, "a read at {at} after {newest} was known");
                let expected = history
                    .range(..=at)
                    .rev()
                    .find(|(_, changed)| *changed == key)
                    .map(|(revision, _)| *revision);
                assert_eq!(written, expected, "{key} read at {at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_through_kills_and_pauses_are_linearizable() {
    let mut processes = Processes::start(3);
    processes.leader().await;
    let followers = Followers::start(&processes);
    let clients = Clients::start(&processes);
    clients.answers(200).await;
    for round in 0..3 {
        let leader = processes.leader().await;
        processes.kill(leader);
        clients.answers(100).await;
        processes.spawn(leader);
        let leader = processes.leader().await;
        processes.signal(leader, Signal::STOP);
        wait_for("another leader", async || {
            (processes.leader().await != leader).then_some(())
        })
        .await;
        clients.answers(100).await;
        processes.signal(leader, Signal::CONT);
        // All at once: a majority must come back before anything is answered.
        if round == 1 {
            for member in 0..3 {
                processes.kill(member);
            }
            for member in 0..3 {
                processes.spawn(member);
            }
        }
        clients.answers(200).await;
    }
    let operations = clients.finish().await;
    let history = followers.finish(&processes).await;
    judge(operations, &history);
}

/// An operation of the key `a` that begins at so many milliseconds, and takes five.
fn operation(zero: Instant, begin: u64, revision: i64, did: Did) -> Operation {
    Operation {
        begin: zero + Duration::from_millis(begin),
        end: zero + Duration::from_millis(begin + 5),
        revision,
        key: "a",
        did,
    }
}

#[test]
#[should_panic(expected = "a read at 2 after 3 was known")]
fn the_judge_notices_a_stale_read() {
    let history = History::from([(2, "a".to_owned()), (3, "a".to_owned())]);
    let zero = Instant::now();
    judge(
        vec![
            operation(zero, 0, 2, Did::Put),
            operation(zero, 10, 3, Did::Put),
            operation(zero, 12, 2, Did::Read(Some(2))),
            operation(zero, 20, 2, Did::Read(Some(2))),
        ],
        &history,
    );
}

#[test]
#[should_panic(expected = "what was put at 3")]
fn the_judge_notices_a_lost_put() {
    let history = History::from([(2, "a".to_owned()), (3, "b".to_owned())]);
    let zero = Instant::now();
    judge(
        vec![
            operation(zero, 0, 2, Did::Put),
            operation(zero, 10, 3, Did::Put),
        ],
        &history,
    );
}
