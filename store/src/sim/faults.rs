//! What breaks in a run, and when it is made good again.
//!
//! Does not look at what members do. Invariant: everything that breaks has an end, so that a run can be asked in the end
//! whether all is well again.

use std::time::Duration;

use rand::Rng;

use super::net::HostId;
use super::world::World;

/// Something that is to happen later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Boot(HostId),
    Resume(HostId),
    LetGo(HostId, HostId),
    Calm,
    FreeDisk(HostId),
    QuickDisk(HostId),
}

/// Longest time until the next thing breaks.
const QUIET_MAX_MS: u64 = 700;

impl World {
    /// Does what is due, and breaks something now and then.
    pub(super) fn disturb(&mut self) {
        let now = self.now;
        let due: Vec<Act> = self
            .agenda
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, act)| *act)
            .collect();
        self.agenda.retain(|(at, _)| *at > now);
        for act in due {
            self.act(act);
        }
        if !self.breaking || now < self.next_fault {
            return;
        }
        self.next_fault = now + self.millis(20, QUIET_MAX_MS);
        self.break_something();
    }

    /// Ends everything that was broken.
    pub(super) fn make_good(&mut self) {
        self.breaking = false;
        self.ambush = None;
        self.net.heal();
        self.agenda.clear();
        for host in 0..self.hosts.len() {
            self.act(Act::Resume(host));
            self.act(Act::FreeDisk(host));
            self.act(Act::QuickDisk(host));
            self.act(Act::Boot(host));
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Boot(host) => self.boot(host),
            Act::Resume(host) => self.hosts[host].paused = false,
            Act::LetGo(from, to) => self.net.hold(from, to, false),
            Act::Calm => self.net.slow(Duration::from_millis(8)),
            Act::FreeDisk(host) => self.hosts[host].disk.fault(|faults| faults.full = false),
            Act::QuickDisk(host) => self.hosts[host].disk_pace = 1,
        }
        self.note(format!("{act:?}"));
    }

    /// A random time.
    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from..=to))
    }

    /// Does something later.
    pub(super) fn later(&mut self, after: Duration, act: Act) {
        self.agenda.push((self.now + after, act));
    }

    fn break_something(&mut self) {
        let host = self.pick();
        let active = self.active();
        let others = active.iter().filter(|other| **other != host);
        let others: Vec<HostId> = others.copied().collect();
        let other = others[self.rng.random_range(0..others.len())];
        match self.rng.random_range(0..100) {
            0..=5 => self.lay_ambush(host, other),
            6..=14 => {
                self.note(format!("cut a connection of {host} and {other}"));
                self.net.cut_one(host, other);
            }
            15..=24 => self.isolate(host),
            25..=32 => {
                self.note(format!("hold {host} -> {other}"));
                self.hold(host, other);
            }
            33..=37 => self.part(),
            38..=45 => {
                self.note(format!("pause {host}"));
                self.hosts[host].paused = true;
                let time = self.millis(50, 2500);
                self.later(time, Act::Resume(host));
            }
            46..=63 => {
                let power = self.rng.random_bool(0.6);
                self.crash(host, power, "killed");
            }
            64..=66 => {
                for host in active {
                    self.crash(host, true, "power lost everywhere");
                }
            }
            67..=76 => self.light_fuse(host),
            77..=80 => {
                self.note("slow network".to_owned());
                let slowest = self.millis(20, 400);
                self.net.slow(slowest);
                let time = self.millis(200, 2000);
                self.later(time, Act::Calm);
            }
            81..=85 => {
                self.note(format!("slow disk of {host}"));
                self.hosts[host].disk_pace = self.rng.random_range(5..150);
                let time = self.millis(200, 2000);
                self.later(time, Act::QuickDisk(host));
            }
            86..=89 => {
                self.note(format!("full disk of {host}"));
                self.hosts[host].disk.fault(|faults| faults.full = true);
                let time = self.millis(300, 2500);
                self.later(time, Act::FreeDisk(host));
            }
            90..=92 => {
                self.note(format!("failing sync of {host}"));
                self.hosts[host]
                    .disk
                    .fault(|faults| faults.sync_fails = true);
            }
            93..=95 => self.flip(host),
            _ => self.jump_clock(host),
        }
    }

    fn jump_clock(&mut self, host: HostId) {
        let jump = self.millis(1, 400_000);
        let ahead = self.rng.random_bool(0.5);
        self.note(format!("clock jump of {host} by {jump:?}, ahead {ahead}"));
        let wall = &mut self.hosts[host].wall;
        *wall = if ahead {
            *wall + jump
        } else {
            wall.saturating_sub(jump)
        };
    }

    fn hold(&mut self, from: HostId, to: HostId) {
        self.net.hold(from, to, true);
        let time = self.millis(100, 3000);
        self.later(time, Act::LetGo(from, to));
    }

    fn isolate(&mut self, host: HostId) {
        self.note(format!("isolate {host}"));
        let time = self.millis(100, 3000);
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            for (from, to) in [(host, other), (other, host)] {
                self.net.hold(from, to, true);
                self.later(time, Act::LetGo(from, to));
            }
        }
    }

    /// An election, and a host that loses power as soon as it has a new term; it is back before the election is over, while
    /// two hosts do not hear each other.
    fn lay_ambush(&mut self, host: HostId, other: HostId) {
        let terms = self.active().into_iter().map(|id| self.term(id));
        let newest = terms.max().unwrap_or_default();
        self.note(format!("ambush on {host} after term {newest}"));
        self.ambush = Some((host, newest));
        self.hold(host, other);
        self.hold(other, host);
        for id in self.active() {
            if id != host && self.leads(id) {
                self.hosts[id].paused = true;
                let time = self.millis(300, 1500);
                self.later(time, Act::Resume(id));
            }
        }
    }

    /// Springs the ambush, if there is one on this host and it is time.
    pub(super) fn spring_ambush(&mut self, id: HostId) {
        let Some((host, term)) = self.ambush else {
            return;
        };
        if host == id && self.term(id) > term {
            self.ambush = None;
            self.crash(id, true, "ambushed");
            self.agenda.retain(|(_, act)| *act != Act::Boot(id));
            let time = self.millis(4, 60);
            self.later(time, Act::Boot(id));
        }
    }

    fn term(&self, id: HostId) -> u64 {
        let term = self.hosts[id].enter(|served| served.member.status().term);
        term.unwrap_or_default()
    }

    fn leads(&self, id: HostId) -> bool {
        let term = self.hosts[id].enter(|served| served.member.leading_term());
        term.flatten().is_some()
    }

    /// Two sides that do not hear each other.
    fn part(&mut self) {
        let sides: Vec<bool> = self.hosts.iter().map(|_| false).collect();
        let sides: Vec<bool> = sides.into_iter().map(|_| self.rng.random()).collect();
        self.note(format!("parted: {sides:?}"));
        let time = self.millis(100, 3000);
        for from in 0..sides.len() {
            for to in 0..sides.len() {
                if sides[from] != sides[to] {
                    self.net.hold(from, to, true);
                    self.later(time, Act::LetGo(from, to));
                }
            }
        }
    }

    /// The host will stop in the middle of what it does to its disk: a write, a snapshot, a compaction, a start.
    fn light_fuse(&mut self, host: HostId) {
        let steps = self.rng.random_range(0..60);
        self.note(format!("{host} stops at operation {steps}"));
        self.hosts[host]
            .disk
            .fault(|faults| faults.fuse = Some(steps));
    }

    /// A bit of the log changes while the host is down: the member must not start, or not miss anything. Then the operator
    /// brings the bit back.
    fn flip(&mut self, id: HostId) {
        self.crash(id, true, "killed, and a bit flips");
        let host = &mut self.hosts[id];
        // A start, which brings the end of the log in order; then everything in it counts.
        let Ok(before) = host.read_log() else {
            return;
        };
        let Some(flipped) = host.disk.flip() else {
            return;
        };
        let after = host.read_log();
        host.disk.unflip(&flipped);
        let (path, at, bit) = &flipped;
        let what = format!("{} byte {at} bit {bit} in host {id}", path.display());
        match after {
            Err(error) => self.note(format!("{what} is found: {error}")),
            Ok(after) if after == before => self.note(format!("{what} changes nothing")),
            Ok(after) => self.violation(format!("{what}: {before:?} became {after:?}")),
        }
    }
}
