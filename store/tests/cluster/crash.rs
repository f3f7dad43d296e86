//! SIGKILL: what was acknowledged stays, no revision is given twice, and writes go on soon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::harness::{try_put, wait_for};
use super::history::{Change, Followers, History};
use super::linear::{Clients, judge};
use super::process::Processes;

const WRITERS: usize = 8;
/// The promise is 1.5 s on a machine of its own; tests share theirs with compilers.
const RESUME_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Acknowledged {
    pub(crate) key: String,
    pub(crate) revision: i64,
    pub(crate) at: Instant,
}

/// Writers that go on through failures, each key written once, so that an unknown outcome spoils nothing.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
    acknowledged: mpsc::Receiver<Acknowledged>,
}

impl Load {
    pub(crate) fn start(processes: &Processes, tag: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, acknowledged) = mpsc::channel(100_000);
        let writers = (0..WRITERS).map(|writer| {
            let channels: Vec<_> = (0..processes.client_ports.len())
                .map(|i| processes.kv(i))
                .collect();
            let (stop, sender, tag) = (Arc::clone(&stop), sender.clone(), tag.to_owned());
            spawn("writer", TaskKind::Background, async move {
                let mut member = writer % channels.len();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("{tag}/{writer}/{number:06}");
                    let call = try_put(channels[member].clone(), &key, key.as_bytes());
                    match timeout(Duration::from_millis(500), call).await {
                        Ok(Ok(revision)) => {
                            let entry = Acknowledged {
                                key,
                                revision,
                                at: Instant::now(),
                            };
                            sender.send(entry).await.expect("the test listens");
                        }
                        _ => member = (member + 1) % channels.len(),
                    }
                }
            })
        });
        let writers = writers.collect();
        Load {
            stop,
            writers,
            acknowledged,
        }
    }

    pub(crate) async fn until(&mut self, count: usize) -> Vec<Acknowledged> {
        let mut got = Vec::new();
        while got.len() < count {
            let entry = timeout(super::harness::DEADLINE, self.acknowledged.recv()).await;
            got.push(entry.expect("writes go on").expect("writers run"));
        }
        got
    }

    pub(crate) async fn finish(mut self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.expect("no panic");
        }
        self.acknowledged.close();
        let mut got = Vec::new();
        while let Some(entry) = self.acknowledged.recv().await {
            got.push(entry);
        }
        got
    }
}

/// Reads everything back through `member` and compares.
pub(crate) async fn check(processes: &Processes, member: usize, acknowledged: &[Acknowledged]) {
    let request = etcd::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    let stored = wait_for("a linearizable read", async || {
        let mut kv = processes.kv(member).max_decoding_message_size(usize::MAX);
        timeout(Duration::from_secs(5), kv.range(request.clone()))
            .await
            .ok()?
            .ok()
    })
    .await
    .into_inner()
    .kvs;
    let stored: BTreeMap<String, i64> = stored
        .into_iter()
        .map(|kv| {
            (
                String::from_utf8(kv.key.to_vec()).expect("text"),
                kv.mod_revision,
            )
        })
        .collect();
    let mut by_revision = BTreeMap::new();
    for entry in acknowledged {
        let got = stored.get(&entry.key);
        assert_eq!(
            got,
            Some(&entry.revision),
            "acknowledged {} is lost or moved (member m{member})",
            entry.key
        );
        let twice = by_revision.insert(entry.revision, &entry.key);
        assert_eq!(twice, None, "revision {} was given twice", entry.revision);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_no_acknowledged_write_and_little_time() {
    let mut processes = Processes::start(3);
    let followers = Followers::start(&processes);
    let clients = Clients::start(&processes);
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let leader = processes.leader().await;
        let mut load = Load::start(&processes, &format!("leader/{round}"));
        acknowledged.extend(load.until(200).await);
        let killed = Instant::now();
        processes.kill(leader);
        let after = load.until(200).await;
        let resumed = after
            .iter()
            .map(|entry| entry.at)
            .filter(|at| *at > killed + Duration::from_millis(100))
            .min();
        acknowledged.extend(after);
        let pause = resumed.map_or(Duration::ZERO, |at| at - killed);
        eprintln!("round {round}: writes resumed {pause:?} after the kill");
        assert!(pause < RESUME_MAX, "no write for {pause:?}");
        acknowledged.extend(load.finish().await);
        processes.spawn(leader);
        check(&processes, leader, &acknowledged).await;
    }
    let operations = clients.finish().await;
    for member in 0..3 {
        check(&processes, member, &acknowledged).await;
    }
    let history = followers.finish(&processes).await;
    judge(operations, &history);
    check_history(history, &acknowledged);
}

/// Every acknowledged write is in the history at its revision.
pub(crate) fn check_history(history: History, acknowledged: &[Acknowledged]) {
    for entry in acknowledged {
        let written = Change::put(&entry.key, entry.key.clone());
        assert_eq!(history.get(&entry.revision), Some(&vec![written]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_killed_all_at_once_lose_nothing_acknowledged() {
    for size in [1, 3] {
        let mut processes = Processes::start(size);
        let followers = Followers::start(&processes);
        let clients = Clients::start(&processes);
        let mut acknowledged = Vec::new();
        for round in 0..3 {
            processes.leader().await;
            let mut load = Load::start(&processes, &format!("all/{round}"));
            // Enough to pass several snapshots and purges on the way.
            acknowledged.extend(load.until(700).await);
            for member in 0..size {
                processes.kill(member);
            }
            acknowledged.extend(load.finish().await);
            for member in 0..size {
                processes.spawn(member);
            }
            for member in 0..size {
                check(&processes, member, &acknowledged).await;
            }
        }
        let operations = clients.finish().await;
        let history = followers.finish(&processes).await;
        judge(operations, &history);
        check_history(history, &acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_data_does_not_come_back_as_itself() {
    let mut processes = Processes::start(3);
    let leader = processes.leader().await;
    let mut load = Load::start(&processes, "wipe");
    let mut acknowledged = load.until(100).await;
    let victim = (leader + 1) % 3;
    processes.kill(victim);
    processes.wipe(victim);
    processes.spawn(victim);
    assert!(
        !processes.ended(victim).await,
        "an empty member under an old identity must refuse"
    );
    acknowledged.extend(load.until(100).await);
    acknowledged.extend(load.finish().await);
    let leader = processes.leader().await;
    check(&processes, leader, &acknowledged).await;
}
