//! Damaged members repair themselves from the others, under load, through kills, or say why not.
//!
//! Invariant: what was acknowledged before, during and after a repair is there in the end, in one order, on all members alike.

use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_proto::etcd::etcdserverpb as etcd;
use etcd::cluster_client::ClusterClient;
use etcd::maintenance_client::MaintenanceClient;
use tokio::time::{sleep, timeout};

use super::corruption;
use super::harness::{try_put, wait_for};
use super::history::Followers;
use super::linear::{Clients, judge};
use super::process::Processes;

/// Writes until the log has been purged several times, so that the tables alone hold what came first.
async fn fill(processes: &Processes, entries: usize) {
    let leader = processes.leader().await;
    for first in (0..entries).step_by(50) {
        let puts = (first..first + 50).map(|i| {
            let kv = processes.kv(leader);
            let value = format!("victim!{i:0500}");
            async move { try_put(kv, &format!("fill/{i:05}"), value.as_bytes()).await }
        });
        for put in futures::future::join_all(puts).await {
            put.expect("acknowledged");
        }
    }
}

/// Files of a member with an ending, the largest first.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).expect("a folder") {
            let path = item.expect("an item").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().is_some_and(|path| path.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    let size = |path: &PathBuf| std::fs::metadata(path).expect("a file").len();
    found.sort_by_key(|path| std::cmp::Reverse(size(path)));
    found
}

/// Changes bytes of a file from a place on.
fn flip(path: &Path, from: usize, count: usize) {
    let mut data = std::fs::read(path).expect("read");
    data[from..from + count]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x55);
    std::fs::write(path, data).expect("written");
}

/// Flips bytes in the middle of what is in the log.
fn damage_log(dir: &Path) {
    let log = files(&dir.join("wal"), ".wal").pop().expect("a log");
    let data = std::fs::read(&log).expect("read");
    let end = data.iter().rposition(|byte| *byte != 0).expect("not empty");
    flip(&log, end / 2, 16);
}

/// Files of the tables, but for those that a kill has left unwritten.
fn tables(dir: &Path) -> Vec<PathBuf> {
    let mut found = files(&dir.join("state"), ".sst");
    found.retain(|path| std::fs::metadata(path).expect("a file").len() > 500);
    found
}

/// Makes the tables such that they do not open.
fn damage_tables(dir: &Path) {
    let tables = tables(dir);
    assert!(!tables.is_empty(), "nothing was flushed yet");
    for table in tables {
        let size = std::fs::metadata(&table).expect("a file").len();
        // The footer is what is read first.
        flip(&table, usize::try_from(size).expect("small") - 40, 40);
    }
}

async fn members(processes: &Processes, i: usize) -> Option<Vec<etcd::Member>> {
    let list = etcd::MemberListRequest {
        linearizable: false,
    };
    let mut client = ClusterClient::new(processes.channel(i));
    let call = timeout(Duration::from_secs(1), client.member_list(list)).await;
    Some(call.ok()?.ok()?.into_inner().members)
}

async fn alarms(processes: &Processes, i: usize) -> Option<Vec<etcd::AlarmMember>> {
    let mut client = MaintenanceClient::new(processes.channel(i));
    let call = timeout(
        Duration::from_secs(1),
        client.alarm(etcd::AlarmRequest::default()),
    )
    .await;
    Some(call.ok()?.ok()?.into_inner().alarms)
}

async fn hash(processes: &Processes, i: usize, revision: i64) -> Option<u32> {
    let mut client = MaintenanceClient::new(processes.channel(i));
    let request = etcd::HashKvRequest { revision };
    Some(client.hash_kv(request).await.ok()?.into_inner().hash)
}

/// Waits until all members vote, no alarm is on, and all hold the same.
async fn whole(processes: &Processes) {
    let size = processes.client_ports.len();
    wait_for("all members to vote and no alarm", async || {
        for i in 0..size {
            let listed = members(processes, i).await?;
            let voting = listed.iter().filter(|member| !member.is_learner).count();
            if voting != size || listed.len() != size || !alarms(processes, i).await?.is_empty() {
                return None;
            }
        }
        Some(())
    })
    .await;
    let mut kv = processes.kv(processes.leader().await);
    let revision = wait_for("a revision", async || {
        let put = try_put(kv.clone(), "whole", b"v").await.ok()?;
        // Linearizable, so that it is there.
        kv.range(etcd::RangeRequest {
            key: "whole".into(),
            ..Default::default()
        })
        .await
        .ok()?;
        Some(put)
    })
    .await;
    let mut expected = None;
    for i in 0..size {
        let found = wait_for("a member's hash", async || {
            // One that lags would not know the revision yet.
            let mut kv = processes.kv(i);
            kv.range(etcd::RangeRequest {
                key: "whole".into(),
                ..Default::default()
            })
            .await
            .ok()?;
            hash(processes, i, revision).await
        })
        .await;
        assert_eq!(*expected.get_or_insert(found), found, "the keys of {i}");
    }
}

/// Damages a follower while it is down, with clients and watchers at all members, and waits for its repair.
async fn repaired_under_load(
    args: &[&str],
    damage: impl Fn(&Path),
    provoke: impl AsyncFn(&Processes, usize),
) -> (Processes, usize) {
    let mut processes = Processes::start_with(3, args);
    fill(&processes, 1_500).await;
    let followers = Followers::start(&processes);
    let clients = Clients::start(&processes);
    clients.answers(100).await;
    let victim = (processes.leader().await + 1) % 3;
    let dir = processes.data_dir(victim);
    wait_for("tables", async || (!tables(&dir).is_empty()).then_some(())).await;
    processes.kill(victim);
    damage(&dir);
    clients.answers(100).await;
    processes.spawn(victim);
    provoke(&processes, victim).await;
    clients.answers(200).await;
    wait_for("the repair", async || {
        processes
            .said(victim)
            .contains("repaired from the leader's")
            .then_some(())
            .or_else(|| processes.said(victim).contains("starts anew").then_some(()))
            .or_else(|| {
                processes
                    .said(victim)
                    .contains("were replaced by")
                    .then_some(())
            })
    })
    .await;
    clients.answers(200).await;
    let operations = clients.finish().await;
    whole(&processes).await;
    judge(operations, &followers.finish(&processes).await);
    (processes, victim)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_makes_a_new_member_of_an_old_one() {
    let (processes, victim) = repaired_under_load(&[], damage_log, async |_, _| {}).await;
    let dir = processes.data_dir(victim);
    assert!(dir.join("log.corrupt-1").is_dir() && dir.join("tables.corrupt-1").is_dir());
    assert!(!dir.join("wal/DAMAGED").exists());
    let leader = processes.leader().await;
    assert!(
        processes
            .said(leader)
            .contains("a new member is in the place of")
    );
    // Its vote counts: with it, another one may go.
    let mut processes = processes;
    let other = (0..3)
        .find(|i| *i != victim && *i != leader)
        .expect("three");
    processes.kill(other);
    wait_for("a write with the new member's vote", async || {
        try_put(processes.kv(victim), "vote", b"v").await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_do_not_open_are_replaced_under_the_old_log() {
    let (processes, victim) = repaired_under_load(&[], damage_tables, async |_, _| {}).await;
    let dir = processes.data_dir(victim);
    assert!(!files(&dir.join("tables.corrupt-1"), "DAMAGED").is_empty());
    assert!(!dir.join("log.corrupt-1").exists() && !dir.join("repair").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_a_read_finds_is_mended_without_a_restart() {
    let one_block = |dir: &Path| {
        let table = tables(dir).swap_remove(0);
        flip(&table, 3_000, 16);
    };
    let provoke = async |processes: &Processes, victim| {
        wait_for("the damage to be found", async || {
            hash(processes, victim, 0).await;
            processes
                .said(victim)
                .contains("the tables are damaged")
                .then_some(())
        })
        .await;
    };
    let (processes, victim) = repaired_under_load(&[], one_block, provoke).await;
    let said = processes.said(victim);
    assert!(
        said.contains("were replaced by"),
        "it was not mended while it ran"
    );
    wait_for("the old tables to be set aside", async || {
        let aside = processes.data_dir(victim).join("tables.corrupt-1/DAMAGED");
        aside.exists().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_differ_are_mended_and_the_alarm_goes() {
    let args = ["--corruption-check-interval=1"];
    let differ = |dir: &Path| corruption::damage(&dir.join("state"));
    // The leader may be the one: it finds that it differs itself, and hands over.
    let lead = async |processes: &Processes, victim| {
        let id = processes.member_id(victim).await;
        let leader = processes.leader().await;
        let mut client = MaintenanceClient::new(processes.channel(leader));
        // Its alarm may be on already.
        let _ = client
            .move_leader(etcd::MoveLeaderRequest { target_id: id })
            .await;
    };
    let (processes, victim) = repaired_under_load(&args, differ, lead).await;
    let raised = (0..3).any(|i| processes.said(i).contains("raising the CORRUPT alarm"));
    let disarmed = (0..3).any(|i| processes.said(i).contains("disarming the CORRUPT alarm"));
    assert!(raised && disarmed);
    assert!(processes.data_dir(victim).join("repairs").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_killed_again_and_again_comes_to_its_end() {
    for damage in [damage_log, damage_tables] {
        let mut processes = Processes::start(3);
        fill(&processes, 1_500).await;
        let victim = (processes.leader().await + 1) % 3;
        let dir = processes.data_dir(victim);
        wait_for("tables", async || (!tables(&dir).is_empty()).then_some(())).await;
        processes.kill(victim);
        damage(&dir);
        // From before the first question to after the last step.
        for millis in [10, 30, 50, 70, 90, 110, 130, 150, 180, 220, 300, 400] {
            processes.spawn(victim);
            sleep(Duration::from_millis(millis)).await;
            processes.kill(victim);
        }
        processes.spawn(victim);
        whole(&processes).await;
        assert!(processes.data_dir(victim).join("tables.corrupt-1").is_dir());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_goes_on_from_each_of_its_steps() {
    // The leader has put another in its place, and the answer came to nothing.
    let mut processes = Processes::start(3);
    fill(&processes, 1_500).await;
    let victim = (processes.leader().await + 1) % 3;
    let (dir, old) = (
        processes.data_dir(victim),
        processes.member_id(victim).await,
    );
    processes.kill(victim);
    damage_log(&dir);
    std::fs::create_dir(dir.join("identity.new")).expect("in the way");
    processes.spawn(victim);
    assert!(
        !processes.ended(victim).await,
        "it cannot write its identity"
    );
    let leader = processes.leader().await;
    let listed = members(&processes, leader).await.expect("a list");
    let new = listed.iter().find(|member| member.is_learner);
    let new = new.expect("one without a vote").id;
    assert!(listed.len() == 3 && listed.iter().all(|member| member.id != old));
    std::fs::remove_dir(dir.join("identity.new")).expect("out of the way");
    // Half of it is set aside already.
    std::fs::rename(dir.join("state"), dir.join("tables.corrupt-1")).expect("moved");
    processes.spawn(victim);
    whole(&processes).await;
    assert_eq!(
        processes.member_id(victim).await,
        new,
        "it asked for one more"
    );
    assert!(dir.join("log.corrupt-1").is_dir());

    // The tables are set aside, and half a state has arrived.
    let victim = (processes.leader().await + 1) % 3;
    let dir = processes.data_dir(victim);
    // Whoever was repaired just now is not repaired again, so long as this is there.
    let _ = std::fs::remove_file(dir.join("repairs"));
    processes.kill(victim);
    std::fs::rename(dir.join("state"), dir.join("tables.corrupt-2")).expect("moved");
    std::fs::create_dir_all(dir.join("repair/state/db-1")).expect("made");
    std::fs::write(dir.join("repair/state/db-1/000007.sst"), b"half").expect("written");
    processes.spawn(victim);
    whole(&processes).await;
    assert!(processes.said(victim).contains("the log begins after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_a_damaged_one() {
    let mut processes = Processes::start(3);
    fill(&processes, 100).await;
    let victim = (processes.leader().await + 1) % 3;
    let old = processes.member_id(victim).await;
    for folder in [&["wal"][..], &["wal", "state"]] {
        processes.kill(victim);
        let dir = processes.data_dir(victim);
        let _ = std::fs::remove_file(dir.join("repairs"));
        for name in folder {
            std::fs::remove_dir_all(dir.join(name)).expect("gone");
        }
        processes.spawn_with(victim, &["--repair=off"]);
        assert!(!processes.ended(victim).await, "its vote is gone");
        processes.spawn(victim);
        whole(&processes).await;
    }
    assert_ne!(processes.member_id(victim).await, old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_everything_but_its_name_voted_again_when_all_started_anew() {
    let mut processes = Processes::start(3);
    fill(&processes, 100).await;
    let old = processes.member_id(0).await;
    let last = try_put(processes.kv(0), "last", b"v").await.expect("put");
    for i in 0..3 {
        processes.kill(i);
    }
    let dir = processes.data_dir(0);
    for name in ["wal", "state"] {
        std::fs::remove_dir_all(dir.join(name)).expect("gone");
    }
    // Nobody is there whom it could ask.
    processes.spawn(0);
    assert!(!processes.ended(0).await, "it takes part without its vote");
    assert!(processes.said(0).contains("the log is gone"));
    for i in 0..3 {
        processes.spawn(i);
    }
    whole(&processes).await;
    assert_ne!(processes.member_id(0).await, old);
    assert_eq!(
        hash(&processes, 0, last).await,
        hash(&processes, 1, last).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_known_to_be_damaged_answered_again_after_a_restart() {
    let mut processes = Processes::start(3);
    fill(&processes, 1_500).await;
    let victim = (processes.leader().await + 1) % 3;
    let dir = processes.data_dir(victim);
    wait_for("tables", async || (!tables(&dir).is_empty()).then_some(())).await;
    processes.kill(victim);
    let number = std::fs::read_to_string(dir.join("state/CURRENT")).expect("CURRENT");
    let mark = dir.join(format!("state/db-{}/DAMAGED", number.trim()));
    std::fs::write(&mark, "found in an earlier life\n").expect("marked");
    // Repaired just now, so that it is not repaired again.
    let now = jiff::Timestamp::now().as_second();
    std::fs::write(dir.join("repairs"), format!("{now}\n")).expect("noted");
    processes.spawn(victim);
    wait_for("no answer to clients", async || {
        let refused = try_put(processes.kv(victim), "k", b"v").await.err()?;
        (refused.code() == tonic::Code::DataLoss).then_some(())
    })
    .await;
    assert!(
        processes
            .said(victim)
            .contains("starts with damaged tables")
    );
    processes.kill(victim);
    std::fs::remove_file(dir.join("repairs")).expect("removed");
    processes.spawn(victim);
    whole(&processes).await;
    assert!(dir.join("tables.corrupt-1").is_dir() && !mark.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_wrong_key_was_copied_and_became_the_majority() {
    let mut processes = Processes::start(3);
    fill(&processes, 1_500).await;
    let wrong = processes.leader().await;
    processes.kill(wrong);
    corruption::damage(&processes.data_dir(wrong).join("state"));
    processes.spawn(wrong);
    let id = processes.member_id(wrong).await;
    wait_for("it to lead", async || {
        let leader = processes.leader().await;
        let mut client = MaintenanceClient::new(processes.channel(leader));
        // It may have to catch up first.
        let _ = client
            .move_leader(etcd::MoveLeaderRequest { target_id: id })
            .await;
        (processes.leader().await == wrong).then_some(())
    })
    .await;
    let (victim, right) = ((wrong + 1) % 3, (wrong + 2) % 3);
    processes.kill(victim);
    damage_tables(&processes.data_dir(victim));
    processes.spawn(victim);
    assert!(!processes.ended(victim).await, "it took what was sent");
    let why = "nobody can tell who is right";
    assert!(
        processes.said(victim).contains(why),
        "{}",
        processes.said(victim)
    );
    for i in [victim, right] {
        assert!(!processes.data_dir(i).join("tables.corrupt-1").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_was_alone_once_is_repaired_from_those_that_joined() {
    let mut processes = Processes::start(1);
    fill(&processes, 100).await;
    for name in ["m1", "m2"] {
        let port = super::harness::free_port();
        let add = etcd::MemberAddRequest {
            peer_ur_ls: vec![format!("http://127.0.0.1:{port}")],
            is_learner: false,
        };
        wait_for("a member to be added", async || {
            let mut client = ClusterClient::new(processes.channel(0));
            let added = client.member_add(add.clone()).await;
            added.inspect_err(|why| eprintln!("not added: {why}")).ok()
        })
        .await;
        processes.join(name, port);
        let size = processes.client_ports.len();
        wait_for("its vote", async || {
            let listed = members(&processes, 0).await?;
            let voting = listed.iter().filter(|member| !member.is_learner);
            (voting.count() == size).then_some(())
        })
        .await;
    }
    let (dir, old) = (processes.data_dir(0), processes.member_id(0).await);
    wait_for("the others to be written down", async || {
        let text = std::fs::read_to_string(dir.join("peers")).ok()?;
        (text.lines().count() == 2).then_some(())
    })
    .await;
    processes.kill(0);
    damage_log(&dir);
    // Its configuration still names nobody else.
    processes.spawn(0);
    whole(&processes).await;
    assert_ne!(processes.member_id(0).await, old);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_repaired_says_why() {
    // The only member.
    let mut one = Processes::start(1);
    fill(&one, 100).await;
    one.kill(0);
    damage_log(&one.data_dir(0));
    one.spawn(0);
    assert!(!one.ended(0).await);
    assert!(one.said(0).contains("restore a backup"), "{}", one.said(0));

    let mut processes = Processes::start(3);
    fill(&processes, 1_500).await;
    let victim = (processes.leader().await + 1) % 3;
    processes.kill(victim);
    let dir = processes.data_dir(victim);
    damage_log(&dir);
    let refused = async |processes: &mut Processes, why: &str| {
        assert!(!processes.ended(victim).await);
        let said = processes.said(victim);
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(why), "{last}");
        // Nothing was touched.
        assert!(dir.join("wal").is_dir() && dir.join("state").is_dir());
    };
    processes.spawn_with(victim, &["--repair=off"]);
    refused(&mut processes, "--repair=off").await;
    // One of the others is no quorum.
    let away = (victim + 1) % 3;
    processes.kill(away);
    processes.spawn(victim);
    refused(&mut processes, "the others to be a quorum").await;
    processes.spawn(away);
    processes.leader().await;
    // Not twice within an hour.
    processes.spawn(victim);
    whole(&processes).await;
    processes.kill(victim);
    damage_log(&dir);
    processes.spawn(victim);
    refused(&mut processes, "not repaired twice within an hour").await;
    let leader = processes.leader().await;
    try_put(processes.kv(leader), "on", b"v")
        .await
        .expect("the others go on");
}
