//! A lost quorum: what a survivor may become, what it must not, and that nothing it had is lost.

use corten_proto::etcd::etcdserverpb as etcd;
use corten_store::{RecoverError, Recovery, Refounding, Refusal, recover};
use etcd::cluster_client::ClusterClient;
use rustix::process::Signal;

use super::harness::{try_put, wait_for};
use super::process::Processes;

const BUMP: u64 = 1_000_000;

fn lost(names: &[&str]) -> Recovery {
    Recovery {
        lost: names.iter().map(ToString::to_string).collect(),
        accept_data_loss: false,
        how: Refounding {
            bump_revision: BUMP,
            mark_compacted: true,
        },
    }
}

fn refusals(result: Result<corten_store::Recovered, RecoverError>) -> Vec<Refusal> {
    match result.expect_err("refused") {
        RecoverError::Refused(refusals) => refusals,
        other => panic!("another error: {other}"),
    }
}

async fn write(processes: &Processes, i: usize, key: &str) -> i64 {
    wait_for("an acknowledged put", async || {
        try_put(processes.kv(i), key, key.as_bytes()).await.ok()
    })
    .await
}

/// Adds a member with an empty folder, and waits until it votes.
async fn add(processes: &mut Processes, i: usize, members: &[usize]) {
    let request = etcd::MemberAddRequest {
        peer_ur_ls: vec![processes.peer_url(i)],
        is_learner: false,
    };
    wait_for("the addition", async || {
        let mut cluster = ClusterClient::new(processes.channel(members[0]));
        cluster.member_add(request.clone()).await.ok()
    })
    .await;
    processes.spawn_joining(i, members);
    wait_for("its vote", async || {
        let mut cluster = ClusterClient::new(processes.channel(members[0]));
        let list = etcd::MemberListRequest { linearizable: true };
        let list = cluster.member_list(list).await.ok()?.into_inner();
        let voters = list.members.iter().filter(|member| !member.is_learner);
        (voters.count() == members.len()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_becomes_a_cluster_and_grows_again_without_losing_a_write() {
    let mut processes = Processes::start(3);
    let leader = processes.leader().await;
    let mut written = Vec::new();
    for i in 0..700 {
        let key = format!("k/{i:03}");
        written.push((key.clone(), write(&processes, leader, &key).await));
    }
    let survivor = leader;
    let gone: Vec<usize> = (0..3).filter(|i| *i != survivor).collect();
    for i in &gone {
        processes.kill(*i);
    }
    processes.kill(survivor);
    for i in &gone {
        processes.wipe(*i);
    }
    let config = processes.config(survivor);
    let names: Vec<String> = gone.iter().map(|i| format!("m{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = refusals(recover(&config, &lost(&names[..1])).await);
    assert_eq!(found, [Refusal::NotDeclaredLost(names[1].to_owned())]);

    let done = recover(&config, &lost(&names)).await.expect("recovered");
    assert!(done.set_aside.join("identity").exists());
    let (_, last) = written.last().expect("written");
    assert!(done.member.revision >= last + i64::try_from(BUMP).expect("small"));
    // Once more is not needed, and harms nothing.
    let found = refusals(recover(&config, &lost(&names)).await);
    assert_eq!(found, [Refusal::Alone]);

    processes.spawn(survivor);
    processes.leader().await;
    let first = write(&processes, survivor, "k/after").await;
    assert_eq!(first, done.member.revision + 1);
    add(&mut processes, gone[0], &[survivor, gone[0]]).await;
    add(&mut processes, gone[1], &[survivor, gone[0], gone[1]]).await;
    for (key, revision) in &written {
        let request = etcd::RangeRequest {
            key: key.clone().into(),
            ..Default::default()
        };
        let answer = wait_for("a read at a new member", async || {
            processes.kv(gone[1]).range(request.clone()).await.ok()
        })
        .await;
        let kvs = answer.into_inner().kvs;
        assert_eq!(kvs.len(), 1, "{key} is lost");
        assert_eq!(
            (&kvs[0].value[..], kvs[0].mod_revision),
            (key.as_bytes(), *revision)
        );
    }
    // Three again: one may go.
    processes.kill(survivor);
    let next = write(&processes, gone[0], "k/without").await;
    assert!(next > first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_answers_or_could_is_never_overruled() {
    let mut processes = Processes::start(3);
    let leader = processes.leader().await;
    write(&processes, leader, "k").await;
    let (a, b) = ((leader + 1) % 3, (leader + 2) % 3);
    let config = processes.config(a);
    let force = Recovery {
        accept_data_loss: true,
        ..lost(&["m0", "m1", "m2"])
    };
    // A running member is in use.
    let error = recover(&config, &force).await.expect_err("it runs");
    assert!(matches!(error, RecoverError::Log(_)), "{error}");

    processes.kill(a);
    let found = refusals(recover(&config, &force).await);
    let quorum = |refusal: &Refusal| matches!(refusal, Refusal::QuorumAnswers(_));
    assert!(found.iter().any(quorum), "{found:?}");

    // The two left have lost each other, but one of them with this one makes a quorum.
    processes.kill(leader);
    let found = wait_for("the other to know that there is no leader", async || {
        let found = refusals(recover(&config, &force).await);
        (!found.iter().any(quorum)).then_some(found)
    })
    .await;
    let possible = |refusal: &Refusal| matches!(refusal, Refusal::QuorumPossible { alive: 2, .. });
    assert!(found.iter().any(possible), "{found:?}");

    // One that hangs is not one that is gone.
    processes.signal(b, Signal::STOP);
    let found = refusals(recover(&config, &lost(&[])).await);
    let undeclared = |refusal: &Refusal| matches!(refusal, Refusal::NotDeclaredLost(_));
    assert!(
        found.iter().all(undeclared) && found.len() == 2,
        "{found:?}"
    );
    processes.signal(b, Signal::CONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_with_the_longer_log_is_named() {
    let mut processes = Processes::start(5);
    let leader = processes.leader().await;
    write(&processes, leader, "early").await;
    let others: Vec<usize> = (0..5).filter(|i| *i != leader).collect();
    let behind = others[0];
    // Whatever it says to the leader is old by the time it can say it.
    wait_for("the write everywhere", async || {
        let request = etcd::RangeRequest {
            key: "early".into(),
            serializable: true,
            ..Default::default()
        };
        let answer = processes.kv(behind).range(request).await.ok()?;
        (!answer.into_inner().kvs.is_empty()).then_some(())
    })
    .await;
    processes.kill(behind);
    write(&processes, leader, "late").await;
    for i in &others[1..] {
        processes.kill(*i);
    }
    let config = processes.config(behind);
    let mut recovery = lost(&[]);
    recovery.lost = others[1..].iter().map(|i| format!("m{i}")).collect();
    let found = refusals(recover(&config, &recovery).await);
    assert!(
        matches!(&found[..], [Refusal::BetterSurvivor { name, .. }] if *name == format!("m{leader}")),
        "{found:?}"
    );
    let text = found[0].to_string();
    assert!(text.contains("would be lost"), "{text}");
    // It is the operator's choice to lose it, once it was named.
    recovery.accept_data_loss = true;
    let done = recover(&config, &recovery).await.expect("overruled");
    assert_eq!(done.overruled, found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_no_survivor() {
    let mut processes = Processes::start(3);
    let leader = processes.leader().await;
    for i in 0..20 {
        write(&processes, leader, &format!("k/{i}")).await;
    }
    for i in 0..3 {
        processes.kill(i);
    }
    let config = processes.config(leader);
    let wal = config.data_dir.join("wal");
    let mut logs: Vec<_> = std::fs::read_dir(&wal)
        .expect("listed")
        .map(|item| item.expect("an item").path())
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .collect();
    logs.sort();
    let mut bytes = std::fs::read(&logs[0]).expect("read");
    bytes[200] ^= 1;
    std::fs::write(&logs[0], bytes).expect("written");
    let gone: Vec<String> = (0..3)
        .filter(|i| *i != leader)
        .map(|i| format!("m{i}"))
        .collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let error = recover(&config, &lost(&gone)).await.expect_err("damaged");
    assert!(matches!(error, RecoverError::Log(_)), "{error}");
    let mut empty = config.clone();
    empty.data_dir.push("nothing");
    let error = recover(&empty, &lost(&gone)).await.expect_err("empty");
    assert!(matches!(error, RecoverError::NoData(_)), "{error}");
}
