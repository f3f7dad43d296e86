//! Slow, silent and failing disks under real processes, each under load: one of three members lives on a disk that does as it
//! is told. Needs root and `/dev/fuse`.
//!
//! Not lost power in all its forms (the simulation) and not full disks (`disk_full`). Invariant: whatever the disk does,
//! operations are linearizable, nothing acknowledged is lost, no revision is used twice, and watchers see one history.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use corten_proto::etcd::etcdserverpb as etcd;
use etcd::maintenance_client::MaintenanceClient;
use tokio::time::timeout;

use super::crash::{Acknowledged, Load, check, check_history};
use super::faulty_disk::{FaultyDisk, Operation, Trouble};
use super::harness::{Cluster, try_put, wait_for};
use super::history::Followers;
use super::linear::{Clients, judge};
use super::metrics::metrics;
use super::process::Processes;

/// The member on the disk with faults.
const FAULTY: usize = 0;
/// Without a write. Elections fit in; these tests share two cores with their members, and with compilers.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// From the moment a leader's disk falls silent to writes at the next leader: four election timeouts of patience, which are
/// 2.4 s, an election, and as much again for a busy machine.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(8);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn start(args: &[&str]) -> (FaultyDisk, Processes) {
    let disk = RefCell::new(None);
    let processes = Processes::start_in(3, args, |dir| {
        if dir.ends_with(format!("m{FAULTY}")) {
            disk.replace(Some(FaultyDisk::mount(dir)));
        }
    });
    (disk.into_inner().expect("mounted"), processes)
}

/// Has a member lead.
async fn lead(processes: &Processes, member: usize) {
    let id = processes.member_id(member).await;
    wait_for("it to lead", async || {
        let leader = processes.leader().await;
        if leader == member {
            return Some(());
        }
        let request = etcd::MoveLeaderRequest { target_id: id };
        let mut maintenance = MaintenanceClient::new(processes.channel(leader));
        let _ = timeout(millis(2_000), maintenance.move_leader(request)).await;
        None
    })
    .await;
}

/// Whom a member takes for the leader; 0 for nobody.
async fn leader_seen_by(processes: &Processes, member: usize) -> Option<u64> {
    let mut maintenance = MaintenanceClient::new(processes.channel(member));
    let status = timeout(millis(1_000), maintenance.status(etcd::StatusRequest {}));
    Some(status.await.ok()?.ok()?.into_inner().leader)
}

/// Puts until it is acknowledged, which may well be twice.
async fn put(processes: &Processes, member: usize, key: &str, value: &[u8]) -> i64 {
    wait_for("an acknowledged put", async || {
        let call = try_put(processes.kv(member), key, value);
        timeout(millis(1_000), call).await.ok()?.ok()
    })
    .await
}

/// A read of one key: the revision that wrote it.
async fn read(
    processes: &Processes,
    member: usize,
    key: &str,
    serializable: bool,
) -> Result<Option<i64>, tonic::Status> {
    let request = etcd::RangeRequest {
        key: key.to_owned().into_bytes().into(),
        serializable,
        ..Default::default()
    };
    let mut kv = processes.kv(member);
    let answer = timeout(millis(2_000), kv.range(request)).await;
    let answer = answer.map_err(|_| tonic::Status::deadline_exceeded("no answer"))?;
    let kvs = answer?.into_inner().kvs;
    Ok(kvs.first().map(|kv| kv.mod_revision))
}

/// Waits until a member has what another has just written.
async fn joins_in(processes: &Processes, member: usize) {
    let other = (member + 1) % 3;
    let revision = put(processes, other, "joined", b"v").await;
    wait_for("the member to join in", async || {
        let seen = read(processes, member, "joined", true).await.ok()??;
        (seen >= revision).then_some(())
    })
    .await;
}

/// Three members under load, through which everything is checked in the end.
struct Trial {
    // First: what hangs is freed before processes are killed.
    disk: FaultyDisk,
    processes: Processes,
    followers: Followers,
    load: Load,
    clients: Clients,
    acknowledged: Vec<Acknowledged>,
}

impl Trial {
    async fn start(args: &[&str], leader: usize) -> Trial {
        let (disk, processes) = start(args);
        lead(&processes, leader).await;
        let followers = Followers::start(&processes);
        let load = Load::start(&processes, "load");
        let clients = Clients::start(&processes);
        let mut trial = Trial {
            disk,
            processes,
            followers,
            load,
            clients,
            acknowledged: Vec::new(),
        };
        trial.writes(50).await;
        trial
    }

    /// Waits for so many more writes; gives the longest time without one.
    async fn writes(&mut self, count: usize) -> Duration {
        let mut last = Instant::now();
        let mut pause = Duration::ZERO;
        for entry in self.load.until(count).await {
            // Those that were acknowledged before count for nothing.
            pause = pause.max(entry.at.saturating_duration_since(last));
            last = last.max(entry.at);
            self.acknowledged.push(entry);
        }
        pause
    }

    /// Makes the disk well, and checks everything.
    async fn finish(mut self) {
        self.disk.heal();
        self.acknowledged.extend(self.load.finish().await);
        let operations = self.clients.finish().await;
        for member in 0..3 {
            check(&self.processes, member, &self.acknowledged).await;
        }
        let history = self.followers.finish(&self.processes).await;
        judge(operations, &history);
        check_history(history, &self.acknowledged);
    }
}

/// Puts one after another: what half of them take at most, and the longest.
async fn probe(processes: &Processes, member: usize) -> (Duration, Duration) {
    let mut took = Vec::new();
    for number in 0..40 {
        let began = Instant::now();
        put(processes, member, &format!("probe/{number}"), b"v").await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    (took[20], took[39])
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_syncs_of_a_follower_hold_nobody_up() {
    let mut trial = Trial::start(&[], 1).await;
    let slow = millis(500);
    trial.disk.make(Operation::Sync, Trouble::Slow(slow));
    let asked = trial.disk.asked(Operation::Sync);
    let pause = trial.writes(300).await;
    assert!(pause < PAUSE_MAX, "no write for {pause:?}");
    let (half, longest) = probe(&trial.processes, 1).await;
    eprintln!("puts beside a slow follower: {half:?}, {longest:?}");
    assert!(half < slow / 2, "puts take {half:?}");
    wait_for("syncs on the slow disk", async || {
        (trial.disk.asked(Operation::Sync) > asked + 3).then_some(())
    })
    .await;
    trial.finish().await;
}

/// Syncs of the log at a member: those that took longer than a quarter of a second.
async fn slow_syncs(processes: &Processes, member: usize) -> Option<u64> {
    let text = metrics(processes.client_ports[member]).await?;
    let name = "etcd_disk_wal_fsync_duration_seconds_";
    let value = |rest: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(rest))?;
        line.trim().parse::<u64>().ok()
    };
    Some(value("count ")? - value("bucket{le=\"0.256\"} ")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_syncs_of_the_leader_are_told_and_hold_nobody_up() {
    let mut trial = Trial::start(&[], FAULTY).await;
    trial.disk.make(Operation::Sync, Trouble::Slow(millis(300)));
    let pause = trial.writes(300).await;
    eprintln!("longest pause beside syncs of 0.3 s: {pause:?}");
    assert!(pause < PAUSE_MAX, "no write for {pause:?}");
    wait_for("slow syncs in the metrics", async || {
        (slow_syncs(&trial.processes, FAULTY).await? > 2).then_some(())
    })
    .await;
    let up_to = Trouble::SlowUpTo(millis(20));
    trial.disk.make(Operation::Read, up_to);
    trial.disk.make(Operation::Write, up_to);
    trial
        .disk
        .make(Operation::Sync, Trouble::Slow(millis(1_100)));
    let pause = trial.writes(300).await;
    eprintln!("longest pause beside syncs of 1.1 s: {pause:?}");
    assert!(pause < PAUSE_MAX, "no write for {pause:?}");
    // A leader that synced first, and only then told the others, would take as long for each.
    let (half, longest) = probe(&trial.processes, 1).await;
    eprintln!("puts beside a slow leader: {half:?}, {longest:?}");
    assert!(half < millis(1_100) / 2, "puts take {half:?}");
    wait_for("a word about it", async || {
        let said = trial.processes.said(FAULTY);
        said.contains("a sync of the log was slow").then_some(())
    })
    .await;
    trial.finish().await;
}

/// One sync is for all that wait for it (an entry of the record of others' faults: one for each entry).
#[tokio::test(flavor = "multi_thread")]
async fn puts_that_wait_together_share_a_sync() {
    const CLIENTS: usize = 32;
    const EACH: usize = 10;
    let (disk, processes) = start(&[]);
    lead(&processes, FAULTY).await;
    put(&processes, FAULTY, "k", b"v").await;
    disk.make(Operation::Sync, Trouble::Slow(millis(20)));
    let before = disk.asked(Operation::Sync);
    let clients = (0..CLIENTS).map(async |client| {
        for turn in 0..EACH {
            put(&processes, FAULTY, &format!("k/{client}/{turn}"), b"v").await;
        }
    });
    futures::future::join_all(clients).await;
    let syncs = disk.asked(Operation::Sync) - before;
    eprintln!("{syncs} syncs for {} puts", CLIENTS * EACH);
    assert!(syncs > 0, "nothing was synced");
    assert!(
        (syncs as usize) < CLIENTS * EACH / 3,
        "{syncs} syncs for {} puts",
        CLIENTS * EACH
    );
    disk.heal();
}

/// A read has to know who leads, and nothing of what is being written (an entry of the record of others' faults).
#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_does_not_wait_behind_a_sync() {
    let trial = Trial::start(&[], FAULTY).await;
    put(&trial.processes, FAULTY, "read", b"v").await;
    let slow = millis(1_100);
    trial.disk.make(Operation::Sync, Trouble::Slow(slow));
    let asked = trial.disk.asked(Operation::Sync);
    let mut took = Vec::new();
    // The load goes on beside it, so that there always is a sync to wait for.
    while trial.disk.asked(Operation::Sync) < asked + 4 || took.len() < 40 {
        let began = Instant::now();
        let found = read(&trial.processes, FAULTY, "read", false).await;
        assert!(found.expect("answered").is_some());
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() * 9 / 10]);
    eprintln!("reads beside syncs of 1.1 s: {half:?}, nine of ten below {most:?}");
    assert!(most < slow / 2, "reads take {most:?}");
    trial.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_hangs_kept_its_lead_and_nobody_could_write() {
    // Tables that can take little without the disk.
    let mut trial = Trial::start(&["--memtable-bytes=1048576"], FAULTY).await;
    let processes = &trial.processes;
    let silent = processes.member_id(FAULTY).await;
    trial.disk.hang();
    let began = Instant::now();
    let value = super::quota::noise(1);
    let mut filled = 0;
    wait_for("another leader", async || {
        let key = format!("fill/{filled}");
        let fill = try_put(processes.kv(1), &key, &value[..64 << 10]);
        filled += 1;
        let _ = timeout(millis(200), fill).await;
        let leader = leader_seen_by(processes, 1).await?;
        (leader != 0 && leader != silent).then_some(())
    })
    .await;
    put(processes, 1, "after", b"v").await;
    let after = began.elapsed();
    eprintln!("writes at the next leader {after:?} after the disk fell silent");
    assert!(after < TAKEN_OVER_MAX, "it took {after:?}");
    // The deposed leader may refuse or be silent; it may not answer from before.
    if let Ok(found) = read(processes, FAULTY, "after", false).await {
        assert!(found.is_some(), "a stale read");
    }
    let said = processes.said(FAULTY);
    assert!(
        said.contains("the disk with the log does not answer"),
        "{said}"
    );
    let text = timeout(millis(3_000), metrics(processes.client_ports[FAULTY])).await;
    let text = text.ok().flatten();
    let text = text.expect("the silent member shows its metrics");
    let waits = text
        .lines()
        .find_map(|line| line.strip_prefix("corten_store_log_waits_seconds "));
    let waits: u64 = waits
        .and_then(|waits| waits.parse().ok())
        .expect("a number");
    assert!(waits >= 2, "it has waited for {waits} s");
    trial.writes(100).await;
    trial.disk.heal();
    joins_in(&trial.processes, FAULTY).await;
    trial.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_disk_hangs_is_not_ready() {
    let mut cluster = Cluster::configure(1);
    let disk = FaultyDisk::mount(&cluster.data_dir(0));
    cluster.start(0).await;
    let member = cluster.member(0);
    super::harness::put(member, "k", b"v").await;
    disk.hang();
    let hangs = try_put(member.kv(), "k", b"w");
    let hangs = timeout(millis(500), hangs).await;
    assert!(hangs.is_err(), "nobody has it on a disk: {hangs:?}");
    wait_for("it to be told", async || {
        let ready = member.admin("/readyz").await?;
        ready
            .contains("the disk with the log does not answer")
            .then_some(())
    })
    .await;
    disk.heal();
    wait_for("the member to be ready", async || {
        let ready = member.admin("/readyz").await?;
        (!ready.contains("disk with the log")).then_some(())
    })
    .await;
    super::harness::put(member, "k", b"x").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_cannot_write_its_log_ends_and_says_why() {
    let mut trial = Trial::start(&[], FAULTY).await;
    for operation in [Operation::Sync, Operation::Write] {
        let leader = trial.processes.leader().await;
        eprintln!("{operation:?} fails at m{FAULTY}; m{leader} leads");
        let failed = trial.disk.failed(operation);
        trial.disk.make_within("/wal/", operation, Trouble::Fails);
        let began = Instant::now();
        assert!(!trial.processes.ended(FAULTY).await, "it did not end well");
        let ended = began.elapsed();
        assert!(ended < PAUSE_MAX, "it went on for {ended:?}");
        assert_eq!(
            trial.disk.failed(operation) - failed,
            1,
            "it was tried again"
        );
        let said = trial.processes.said(FAULTY);
        assert!(said.contains(".wal: Input/output error"), "{said}");
        let pause = trial.writes(100).await;
        assert!(pause < PAUSE_MAX, "no write for {pause:?}");
        trial.disk.heal();
        trial.processes.spawn(FAULTY);
        joins_in(&trial.processes, FAULTY).await;
    }
    trial.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_a_failed_sync_took_what_the_disk_had_lost_for_written() {
    let (disk, mut processes) = start(&[]);
    lead(&processes, 2).await;
    put(&processes, 2, "before", b"v").await;
    processes.kill(1);
    // Several pages, none of which anything else writes to.
    disk.make_within("/wal/", Operation::Sync, Trouble::Fails);
    let value = super::quota::noise(1);
    let unsynced = try_put(processes.kv(2), "unsynced", &value[..64 << 10]);
    let unsynced = timeout(millis(300), unsynced).await;
    assert!(
        !matches!(unsynced, Ok(Ok(_))),
        "two members have not synced it"
    );
    assert!(!processes.ended(FAULTY).await);
    disk.heal();
    processes.spawn(FAULTY);
    // Now it is committed, and what follows it acknowledged, on the word of the member that has restarted.
    let revision = put(&processes, 2, "acknowledged", b"v").await;
    processes.kill(FAULTY);
    processes.kill(2);
    disk.lose_power();
    processes.spawn(FAULTY);
    processes.spawn(1);
    let found = wait_for("a linearizable read", async || {
        read(&processes, FAULTY, "acknowledged", false).await.ok()
    })
    .await;
    assert_eq!(found, Some(revision), "an acknowledged write is lost");
}

/// What a member has said since.
fn news(processes: &Processes, member: usize, since: usize) -> String {
    processes.said(member).split_off(since)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_and_never_taken_for_absent() {
    let (disk, mut processes) = start(&["--block-cache-bytes=1"]);
    lead(&processes, 1).await;
    // Enough for tables on the disk; opened anew, so that nothing of them is in memory.
    let mut load = Load::start(&processes, "load");
    let mut acknowledged = load.until(800).await;
    acknowledged.extend(load.finish().await);
    joins_in(&processes, FAULTY).await;
    processes.kill(FAULTY);
    processes.spawn(FAULTY);
    joins_in(&processes, FAULTY).await;

    let since = processes.said(FAULTY).len();
    disk.make_within("/state/", Operation::Read, Trouble::Fails);
    let mut refused = 0;
    for entry in &acknowledged {
        match read(&processes, FAULTY, &entry.key, true).await {
            Ok(found) => assert_eq!(found, Some(entry.revision), "{}", entry.key),
            Err(status) => {
                assert!(status.message().contains(".sst"), "{status}");
                refused += 1;
            }
        }
    }
    eprintln!("{refused} of {} reads refused", acknowledged.len());
    assert!(refused > 0, "all came from memory");
    let said = news(&processes, FAULTY, since);
    assert!(said.contains("cannot answer a client"), "{said}");
    // What it must read to apply a write, it cannot do without.
    for entry in acknowledged.iter().take(20) {
        put(&processes, 1, &entry.key, b"anew").await;
    }
    assert!(!processes.ended(FAULTY).await, "it did not end well");
    let said = news(&processes, FAULTY, since);
    assert!(
        said.contains(".sst") && said.contains("Input/output error"),
        "{said}"
    );

    for (part, named) in [
        ("/wal/", ".wal: Input/output error"),
        ("/state/CURRENT", "/state/CURRENT"),
        ("MANIFEST", "MANIFEST"),
        (".sst", ".sst"),
        ("/identity", "identity file in"),
    ] {
        let since = processes.said(FAULTY).len();
        disk.heal();
        disk.make_within(part, Operation::Read, Trouble::Fails);
        processes.spawn(FAULTY);
        assert!(!processes.ended(FAULTY).await, "it started without {part}");
        let said = news(&processes, FAULTY, since);
        assert!(said.contains(named), "{part}: {said}");
        assert!(said.contains("Input/output error"), "{part}: {said}");
    }
    disk.heal();
    processes.spawn(FAULTY);
    joins_in(&processes, FAULTY).await;
    acknowledged.drain(..20);
    check(&processes, FAULTY, &acknowledged).await;
}
