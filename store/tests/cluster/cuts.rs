//! Networks that are cut under real processes and load, in both directions and in one.
//!
//! The simulation cuts more, and more strangely; here the connections are those of the system. Invariant: as with kills:
//! operations are linearizable, nothing acknowledged is lost, no revision is used twice, watchers see one history.

use std::time::{Duration, Instant};

use corten_proto::etcd::etcdserverpb as etcd;
use etcd::maintenance_client::MaintenanceClient;
use tokio::time::timeout;

use super::crash::{Load, check, check_history};
use super::harness::wait_for;
use super::history::Followers;
use super::linear::{Clients, judge};
use super::process::Processes;
use super::wires::Cut;

/// From a cut to another leader: the others wait for two election timeouts at most, as long as nothing comes that puts it
/// off, then they vote; the rest is for a busy machine.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(10);

/// Whom a member takes for the leader; 0 for nobody.
async fn leader_seen_by(processes: &Processes, member: usize) -> Option<u64> {
    let mut maintenance = MaintenanceClient::new(processes.channel(member));
    let status = maintenance.status(etcd::StatusRequest {});
    let status = timeout(Duration::from_secs(1), status).await.ok()?.ok()?;
    Some(status.into_inner().leader)
}

/// Waits until the others have a leader among them.
async fn led_without(processes: &Processes, member: usize) {
    let id = processes.member_id(member).await;
    for other in (0..3).filter(|other| *other != member) {
        wait_for("the others to have a leader", async || {
            let leader = leader_seen_by(processes, other).await?;
            (leader != 0 && leader != id).then_some(())
        })
        .await;
    }
}

async fn cut_under_load(how: Cut) {
    let processes = Processes::start_wired(3).await;
    processes.leader().await;
    let followers = Followers::start(&processes);
    let mut load = Load::start(&processes, "load");
    let clients = Clients::start(&processes);
    let mut acknowledged = load.until(50).await;
    for of_leader in [true, false, true] {
        let leader = processes.leader().await;
        let member = if of_leader { leader } else { (leader + 1) % 3 };
        let began = Instant::now();
        processes.wires().cut(member, how);
        if of_leader {
            led_without(&processes, member).await;
            let took = began.elapsed();
            eprintln!("{how:?}: another leads after {took:?}");
            assert!(took < TAKEN_OVER_MAX, "it took {took:?}");
        }
        acknowledged.extend(load.until(200).await);
        clients.answers(100).await;
        processes.wires().mend();
        acknowledged.extend(load.until(100).await);
        wait_for("all to have a leader", async || {
            for i in 0..3 {
                leader_seen_by(&processes, i).await.filter(|id| *id != 0)?;
            }
            Some(())
        })
        .await;
    }
    acknowledged.extend(load.finish().await);
    let operations = clients.finish().await;
    for member in 0..3 {
        check(&processes, member, &acknowledged).await;
    }
    let history = followers.finish(&processes).await;
    judge(operations, &history);
    check_history(history, &acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_cut_off_lose_nothing_and_hold_nobody_up() {
    cut_under_load(Cut::Off).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_hear_nobody_lose_nothing_and_hold_nobody_up() {
    cut_under_load(Cut::Deaf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_nobody_hears_lose_nothing_and_hold_nobody_up() {
    cut_under_load(Cut::Mute).await;
}
