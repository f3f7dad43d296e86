//! SIGSTOP: a leader that sleeps through the election of another must not believe its own state afterwards.

use std::time::Duration;

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::maintenance_client::MaintenanceClient;
use rustix::process::Signal;
use tokio::time::timeout;

use super::harness::{DEADLINE, try_put, wait_for};
use super::history::Followers;
use super::linear::{Clients, judge};
use super::process::Processes;

/// Reads that wait for the sleeper at the moment it wakes up.
const READERS: usize = 20;

async fn write(processes: &Processes, member: usize, value: &str) {
    wait_for("an acknowledged write", async || {
        let call = try_put(processes.kv(member), "k", value.as_bytes());
        timeout(Duration::from_secs(2), call).await.ok()?.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_gives_no_stale_linearizable_read() {
    let processes = Processes::start(3);
    let followers = Followers::start(&processes);
    let clients = Clients::start(&processes);
    for round in 0..3 {
        let sleeper = processes.leader().await;
        write(&processes, sleeper, &format!("{round} before")).await;
        processes.signal(sleeper, Signal::STOP);
        let next = wait_for("another leader", async || {
            let leader = processes.leader().await;
            (leader != sleeper).then_some(leader)
        })
        .await;
        let newest = format!("{round} while it slept");
        write(&processes, next, &newest).await;
        // Asked before it wakes, so that they are there at the very first moment.
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let mut kv = processes.kv(sleeper);
                spawn("reader", TaskKind::Background, async move {
                    let request = etcd::RangeRequest {
                        key: "k".into(),
                        ..Default::default()
                    };
                    kv.range(request).await
                })
            })
            .collect();
        processes.signal(sleeper, Signal::CONT);
        for reader in readers {
            let read = timeout(DEADLINE, reader).await.expect("an answer");
            // To refuse is fine; to answer with what was before is not.
            if let Ok(answer) = read.expect("no panic") {
                let kvs = answer.into_inner().kvs;
                assert_eq!(kvs[0].value, newest.as_bytes(), "a stale read");
            }
        }
    }
    clients.answers(100).await;
    let operations = clients.finish().await;
    judge(operations, &followers.finish(&processes).await);
}

/// Until then it called itself the leader for as long as the others were silent, and its watchers stayed.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_answers_says_that_there_is_none() {
    let processes = Processes::start(3);
    let leader = processes.leader().await;
    write(&processes, leader, "before").await;
    let seen = async || {
        let mut maintenance = MaintenanceClient::new(processes.channel(leader));
        let call = maintenance.status(etcd::StatusRequest {});
        let status = timeout(Duration::from_secs(2), call).await.ok()?.ok()?;
        Some(status.into_inner())
    };
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        processes.signal(other, Signal::STOP);
    }
    let status = wait_for("no leader", async || {
        seen().await.filter(|status| status.leader == 0)
    })
    .await;
    assert!(
        status
            .errors
            .iter()
            .any(|error| error.contains("no leader")),
        "{:?}",
        status.errors
    );
    for other in others {
        processes.signal(other, Signal::CONT);
    }
    wait_for("a leader", async || {
        seen().await.filter(|status| status.leader != 0)
    })
    .await;
    write(&processes, leader, "after").await;
}
