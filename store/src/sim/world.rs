//! One run: hosts, clients, watchers and the network between them, moved on in steps of the same time.
//!
//! Invariant: within a step everything happens in a fixed order, decided by the seed alone.

mod ending;
mod traffic;

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::client::{Inbox, Operation, Told};
use super::disk::SimDisk;
use super::faults::Act;
use super::host::Host;
use super::invariants::Verdict;
use super::invariants::agreement::Hashes;
use super::invariants::leaders::Leaders;
use super::invariants::revisions::History;
use super::invariants::watches::Progress;
use super::membership::{Operator, url};
use super::net::{HostId, Net};
use crate::config::{ClusterState, Config};
use crate::raft::identity::{self, Identity};

/// How far time moves at once.
const TICK: Duration = Duration::from_millis(2);
/// Few, so that clients meet.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// How often members' rows are compared.
const COMPARE_EVERY: Duration = Duration::from_millis(250);

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) hosts: usize,
    pub(super) clients: usize,
    /// Whether members are replaced.
    pub(super) replaces: bool,
    /// How long things break.
    pub(super) trouble: Duration,
}

impl Plan {
    /// The plan of a seed: mostly three members, sometimes five.
    pub(super) fn of(seed: u64) -> Self {
        let hosts = if seed % 4 == 3 { 5 } else { 3 };
        Self {
            seed,
            hosts,
            clients: 5,
            replaces: seed % 2 == 1,
            trouble: Duration::from_secs(15),
        }
    }
}

struct Client {
    next: Duration,
    /// Operation under way.
    waiting: Option<usize>,
    /// What it last saw of each key: for comparing.
    seen: [i64; KEYS.len()],
}

struct Watcher {
    progress: Progress,
    life: u32,
    running: bool,
    retry: Duration,
}

pub(super) struct World {
    plan: Plan,
    pub(super) rng: StdRng,
    pub(super) now: Duration,
    pub(super) net: Net,
    pub(super) hosts: Vec<Host>,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    pub(super) inbox: Inbox,
    pub(super) operator: Operator,
    dir: PathBuf,
    operations: Vec<Operation>,
    history: History,
    leaders: Leaders,
    hashes: Hashes,
    next_compare: Duration,
    pub(super) agenda: Vec<(Duration, Act)>,
    /// A host that is to lose power as soon as its term is beyond this one.
    pub(super) ambush: Option<(HostId, u64)>,
    pub(super) breaking: bool,
    pub(super) next_fault: Duration,
    asking: bool,
    log: Vec<String>,
    violation: Option<String>,
}

/// How a run ended.
pub(super) struct Report {
    pub(super) verdict: Verdict,
    pub(super) log: Vec<String>,
    pub(super) answered: usize,
    pub(super) asked: usize,
    pub(super) terms: usize,
    pub(super) revisions: i64,
}

/// A configuration for simulated members.
fn config(plan: &Plan, number: usize, state: ClusterState, dir: &Path) -> Config {
    let members = (0..plan.hosts).chain((number >= plan.hosts).then_some(number));
    let cluster = members.map(|number| format!("m{number}={}", url(number)));
    let cluster: Vec<String> = cluster.collect();
    Config {
        name: format!("m{number}"),
        listen_client_urls: Vec::new(),
        listen_peer_urls: vec![url(number)],
        initial_advertise_peer_urls: vec![url(number)],
        initial_cluster_state: state,
        initial_cluster: cluster.join(","),
        heartbeat_interval: 50,
        election_timeout: 300,
        snapshot_count: 60,
        snapshot_catchup_entries: 30,
        corruption_check_interval: 0,
        ..Config::embedded(dir.join(format!("m{number}")))
    }
}

impl World {
    pub(super) fn new(plan: Plan, dir: &Path) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let net = Net::new(rng.random());
        let client = |_| Client {
            next: Duration::from_millis(500),
            waiting: None,
            seen: [0; KEYS.len()],
        };
        let mut world = Self {
            clients: (0..plan.clients).map(client).collect(),
            watchers: Vec::new(),
            operator: Operator::new(plan.replaces),
            dir: dir.to_owned(),
            plan,
            rng,
            now: Duration::ZERO,
            net,
            hosts: Vec::new(),
            inbox: Inbox::default(),
            operations: Vec::new(),
            history: History::default(),
            leaders: Leaders::default(),
            hashes: Hashes::default(),
            next_compare: COMPARE_EVERY,
            agenda: Vec::new(),
            ambush: None,
            breaking: true,
            next_fault: Duration::from_millis(1500),
            asking: true,
            log: Vec::new(),
            violation: None,
        };
        for id in 0..plan.hosts {
            world.add_host(id, None);
        }
        world
    }

    /// A machine without a member, and a watcher for the member that will be on it.
    pub(super) fn add_host(&mut self, id: HostId, identity: Option<Identity>) {
        let state = match identity {
            Some(_) => ClusterState::Existing,
            None => ClusterState::New,
        };
        let settings = config(&self.plan, id, state, &self.dir)
            .check()
            .expect("usable");
        self.hosts.push(Host {
            id,
            identity: identity.unwrap_or_else(|| identity::founding(&settings)),
            settings,
            disk: SimDisk::new(self.rng.random()),
            platter: std::sync::Arc::new(Mutex::default()),
            rng: StdRng::seed_from_u64(self.rng.random()),
            net: self.net.clone(),
            process: None,
            local: Duration::from_secs(1000 + 100 * id as u64),
            drift_ppm: self.rng.random_range(-20_000..20_000),
            wall: Duration::from_secs(1_700_000_000) + self.now,
            paused: false,
            retired: false,
            disk_pace: 1,
        });
        // What a member that comes later missed may be compacted: it begins where the slowest of the others is.
        let active = self.active().into_iter().filter(|other| *other != id);
        let next = active.map(|other| self.watchers[other].progress.next());
        self.watchers.push(Watcher {
            progress: Progress::from(next.min().unwrap_or(2)),
            life: 0,
            running: false,
            retry: Duration::ZERO,
        });
    }

    /// Hosts that have a member, or had and will.
    pub(super) fn active(&self) -> Vec<HostId> {
        let active = self.hosts.iter().filter(|host| !host.retired);
        active.map(|host| host.id).collect()
    }

    /// Any of those.
    pub(super) fn pick(&mut self) -> HostId {
        let active = self.active();
        active[self.rng.random_range(0..active.len())]
    }

    /// Runs to the end, or to the first violation.
    pub(super) fn run(mut self) -> Report {
        for host in 0..self.hosts.len() {
            self.boot(host);
        }
        while self.now < self.plan.trouble && self.violation.is_none() {
            self.step();
        }
        self.note("all is made good".to_owned());
        self.make_good();
        self.recover();
        if self.violation.is_none()
            && let Err(why) = self.judge()
        {
            self.violation(why);
        }
        let answered = |operation: &&Operation| matches!(&operation.told, Some((_, told)) if !matches!(told, Told::Failed(_)));
        Report {
            verdict: self.violation.take().map_or(Ok(()), Err),
            answered: self.operations.iter().filter(answered).count(),
            asked: self.operations.len(),
            terms: self.leaders.count(),
            revisions: self.history.last(),
            log: self.log,
        }
    }

    pub(super) fn note(&mut self, what: String) {
        let at = self.now.as_millis();
        self.log.push(format!("{at:>6} {what}"));
    }

    /// The first one ends the run.
    pub(super) fn violation(&mut self, what: String) {
        self.note(format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    pub(super) fn boot(&mut self, id: HostId) {
        let host = &mut self.hosts[id];
        if host.process.is_some() || host.retired {
            return;
        }
        if let Err(error) = host.boot() {
            let excused = host.disk.is_harmed();
            host.crash(true);
            let error = format!("host {id} does not start: {error}");
            if excused {
                self.note(error);
                let time = self.millis(50, 500);
                self.later(time, Act::Boot(id));
            } else {
                self.violation(error);
            }
        }
    }

    pub(super) fn crash(&mut self, id: HostId, power: bool, why: &str) {
        self.note(format!("{id} crashes (power {power}): {why}"));
        self.hosts[id].crash(power);
        self.watchers[id].running = false;
        self.watchers[id].life += 1;
        self.agenda.retain(|(_, act)| *act != Act::Resume(id));
        let time = self.millis(20, 2500);
        self.later(time, Act::Boot(id));
    }

    fn step(&mut self) {
        self.now += TICK;
        self.disturb();
        self.net.advance(self.now);
        self.log_parts();
        if self.asking {
            self.start_operations();
        }
        self.give_up();
        self.operate();
        self.start_watchers();
        for id in 0..self.hosts.len() {
            self.hosts[id].pass(TICK);
            self.hosts[id].tick();
            self.hear();
            self.look_after(id);
        }
        if self.now >= self.next_compare {
            self.next_compare = self.now + COMPARE_EVERY;
            self.compare();
        }
    }

    fn log_parts(&mut self) {
        for line in self.net.take_log() {
            self.note(line);
        }
        for id in 0..self.hosts.len() {
            for line in self.hosts[id].disk.take_log() {
                self.note(format!("disk {id}: {line}"));
            }
        }
    }

    /// After a host had its turn: has it stopped, does it lead?
    fn look_after(&mut self, id: HostId) {
        if self.hosts[id].disk.is_dead() {
            self.crash(id, true, "at the operation that was chosen");
            return;
        }
        if let Some(why) = self.hosts[id].failure() {
            if self.hosts[id].disk.is_harmed() {
                self.crash(id, false, &why);
            } else {
                self.violation(format!("host {id} stopped: {why}"));
            }
            return;
        }
        self.spring_ambush(id);
        let term = self.hosts[id].enter(|served| served.member.leading_term());
        if let Some(Some(term)) = term
            && let Err(why) = self.leaders.see(term, id)
        {
            self.violation(why);
        }
    }

    fn compare(&mut self) {
        for id in 0..self.hosts.len() {
            let state = self.hosts[id].enter(|served| {
                let store = served.member.engine().store();
                let hash = store.hash_kv(0).ok()?;
                Some((
                    served.member.applied().get()?,
                    store.revision().get(),
                    hash.hash,
                ))
            });
            if let Some(Some((index, revision, hash))) = state
                && let Err(why) = self.hashes.see(id, index, revision, hash)
            {
                self.violation(why);
            }
        }
    }
}
