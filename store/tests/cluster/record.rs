//! Entries of etcd's record of faults that need members as processes, each named after its issue there.
//!
//! The others are in `store/core/src/tests/record.rs`, or are what a test here shows anyhow; `docs/testing.md` has the list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::lease_client::LeaseClient;
use etcd::maintenance_client::MaintenanceClient;
use rustix::process::Signal;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::harness::{try_put, wait_for};
use super::history::Followers;
use super::metrics::metrics;
use super::process::Processes;

/// Longer than any answer takes, shorter than anything waits for.
const CALL: Duration = Duration::from_secs(2);

/// Writers at all members; each key is written once.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(processes: &Processes, members: &[usize]) -> Load {
        let (stop, acknowledged) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let tasks = (0..8).map(|writer| {
            let kv = processes.kv(members[writer % members.len()]);
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            spawn("writer", TaskKind::Background, async move {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("{writer}/{number:06}");
                    let put = timeout(CALL, try_put(kv.clone(), &key, &[7; 500])).await;
                    if matches!(put, Ok(Ok(_))) {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    } else {
                        sleep(Duration::from_millis(10)).await;
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Load {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Waits for so many more acknowledged writes.
    async fn more(&self, count: usize) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + count;
        wait_for("acknowledged writes", async || {
            (self.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
    }
}

/// The hash of all keys up to a revision, as a member tells it.
async fn hash(processes: &Processes, i: usize, revision: i64) -> u32 {
    wait_for("a hash", async || {
        let mut maintenance = MaintenanceClient::new(processes.channel(i));
        let request = etcd::HashKvRequest { revision };
        let answer = maintenance.hash_kv(request).await.ok()?.into_inner();
        Some(answer.hash)
    })
    .await
}

/// A number that a member shows.
async fn number(processes: &Processes, i: usize, name: &str) -> Option<u64> {
    let text = metrics(processes.client_ports[i]).await?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.parse().ok()
}

/// There a crash between two steps of the defragmentation left a member with another revision than the rest.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_14685_a_kill_while_defragmenting_leaves_all_members_alike() {
    let mut processes = Processes::start(3);
    processes.leader().await;
    let followers = Followers::start(&processes);
    let load = Load::start(&processes, &[0, 1, 2]);
    let done = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let defragmenting: Vec<_> = (0..3)
        .map(|i| {
            let mut maintenance = MaintenanceClient::new(processes.channel(i));
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            spawn("defragment", TaskKind::Background, async move {
                while !stop.load(Ordering::Relaxed) {
                    let call = maintenance.defragment(etcd::DefragmentRequest {});
                    if matches!(timeout(CALL, call).await, Ok(Ok(_))) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for member in 0..3 {
        load.more(100).await;
        processes.kill(member);
        processes.spawn(member);
    }
    load.more(100).await;
    stop.store(true, Ordering::Relaxed);
    for task in defragmenting {
        task.await.expect("no panic");
    }
    load.finish().await;
    assert!(done.load(Ordering::Relaxed) > 10, "defragmented for real");
    let history = followers.finish(&processes).await;
    let newest = *history.keys().next_back().expect("there were writes");
    let first = hash(&processes, 0, newest).await;
    for i in 1..3 {
        assert_eq!(hash(&processes, i, newest).await, first, "m{i}");
    }
}

/// There the watchers of a member that got a snapshot were set back to where they began.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_15271_a_watcher_of_a_member_that_gets_a_snapshot_does_not_go_back() {
    let processes = Processes::start(3);
    let leader = processes.leader().await;
    let followers = Followers::start(&processes);
    let late = (leader + 1) % 3;
    let load = Load::start(&processes, &[leader, (leader + 2) % 3]);
    load.more(100).await;
    // Its connections stay, and so do its watchers.
    processes.signal(late, Signal::STOP);
    let committed = "etcd_server_proposals_committed_total";
    let seen = number(&processes, leader, committed).await;
    let seen = seen.expect("an index");
    load.more(2_000).await;
    wait_for("the late member's place in the log to go", async || {
        let purged = number(&processes, leader, "corten_store_raft_purged_index").await?;
        (purged > seen).then_some(())
    })
    .await;
    processes.signal(late, Signal::CONT);
    let state = processes.config(late).data_dir.join("state/CURRENT");
    wait_for("a snapshot to be installed", async || {
        let number = std::fs::read_to_string(&state).ok()?;
        (number.trim().parse::<u64>().ok()? > 1).then_some(())
    })
    .await;
    load.more(100).await;
    load.finish().await;
    // Each event once and in turn, or it panics.
    followers.finish(&processes).await;
}

async fn keep_alive(processes: &Processes, i: usize, id: i64) -> Option<i64> {
    let mut client = LeaseClient::new(processes.channel(i));
    let requests = tokio_stream::once(etcd::LeaseKeepAliveRequest { id });
    let call = async {
        let mut answers = client.lease_keep_alive(requests).await.ok()?.into_inner();
        Some(answers.message().await.ok()??.ttl)
    };
    timeout(CALL, call).await.ok()?
}

/// There a member that had not heard of the revocation yet said that the lease lives on.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_20615_a_lease_is_not_renewed_once_it_is_revoked() {
    let processes = Processes::start(3);
    let leader = processes.leader().await;
    for id in 1..=10 {
        wait_for("a lease", async || {
            let mut client = LeaseClient::new(processes.channel(leader));
            let grant = etcd::LeaseGrantRequest { ttl: 60, id };
            client.lease_grant(grant).await.ok()
        })
        .await;
        let revoker = usize::try_from(id).expect("small") % 3;
        let mut client = LeaseClient::new(processes.channel(revoker));
        let revoked = client.lease_revoke(etcd::LeaseRevokeRequest { id }).await;
        revoked.expect("revoked");
        for i in 0..3 {
            assert_eq!(keep_alive(&processes, i, id).await, Some(0), "m{i}");
        }
    }
}

/// There a leader that hung revoked, once it woke up, what the next leader had kept alive.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_15247_a_leader_that_slept_revokes_nothing() {
    const LEASE: i64 = 7;
    const TTL: i64 = 2;
    let processes = Processes::start(3);
    let sleeper = processes.leader().await;
    let mut client = LeaseClient::new(processes.channel(sleeper));
    let grant = etcd::LeaseGrantRequest {
        ttl: TTL,
        id: LEASE,
    };
    client.lease_grant(grant).await.expect("granted");
    let request = etcd::PutRequest {
        key: "k".into(),
        value: "v".into(),
        lease: LEASE,
        ..Default::default()
    };
    processes.kv(sleeper).put(request).await.expect("put");
    processes.signal(sleeper, Signal::STOP);
    let awake: Vec<_> = (0..3).filter(|i| *i != sleeper).collect();
    let renew = async |members: &[usize], time: Duration| {
        let began = Instant::now();
        let mut renewed = 0;
        while began.elapsed() < time {
            for i in members {
                if let Some(ttl) = keep_alive(&processes, *i, LEASE).await {
                    assert!(ttl > 0, "the lease is gone");
                    renewed += 1;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        renewed
    };
    assert!(renew(&awake, Duration::from_secs(6)).await > 10);
    processes.signal(sleeper, Signal::CONT);
    assert!(renew(&[0, 1, 2], Duration::from_secs(3)).await > 10);
    let request = etcd::RangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    let read = processes.kv(sleeper).range(request).await.expect("a read");
    assert_eq!(read.into_inner().count, 1);
}
