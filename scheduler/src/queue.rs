//! Pods that wait to be placed: ready by priority and then by turn, backing off after a failure, waiting for an event that
//! could help, or gated. Pure: time comes as an argument. Invariant: a pod is in exactly one place, and one that is
//! taken is nowhere until it is said what became of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::pod::PodInfo;

/// Back-off after failed attempts; upstream's numbers.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod is tried again after this even if nothing happened: a net under missed events.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Sets of waits (bits of `explain::waits`).
const WAIT_SETS: usize = 8;

/// Order of ready pods: important first, then first come first served.
type Rank = (Reverse<i32>, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready(Rank),
    Backoff(Instant, u64),
    Waiting { bits: u8, since: Instant },
    Gated,
    Taken,
}

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    attempts: u32,
    failed_at: Option<Instant>,
    added: Instant,
    place: Place,
}

impl Entry {
    fn backoff_end(&self) -> Option<Instant> {
        let factor = 1_u32 << self.attempts.saturating_sub(1).min(10);
        let backoff = BACKOFF_MIN
            .checked_mul(factor)
            .unwrap_or(BACKOFF_MAX)
            .min(BACKOFF_MAX);
        self.failed_at.map(|at| at + backoff)
    }
}

/// A pod that was taken to be placed.
#[derive(Clone, Debug)]
pub struct Turn {
    pub pod: Arc<PodInfo>,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// Since when the pod has been waiting.
    pub added: Instant,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    pub ready: usize,
    pub backoff: usize,
    pub waiting: usize,
    pub gated: usize,
}

impl Depths {
    /// All pods that have no node yet.
    pub fn total(self) -> usize {
        self.ready + self.backoff + self.waiting + self.gated
    }
}

/// The queue. Bounded by the number of pending pods, which the store bounds.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    ready: BTreeMap<Rank, String>,
    backoff: BTreeMap<(Instant, u64), String>,
    waiting: [HashSet<String>; WAIT_SETS],
    turn: u64,
}

impl Queue {
    /// Takes in a pending pod, or its new state. A change of what the pod asks for ends its wait.
    pub fn add(&mut self, pod: Arc<PodInfo>, asks_changed: bool, now: Instant) {
        let uid = pod.uid.clone();
        let gated = pod.gated;
        let Some(entry) = self.entries.get_mut(&uid) else {
            let entry = Entry {
                pod,
                attempts: 0,
                failed_at: None,
                added: now,
                place: Place::Gated,
            };
            self.entries.insert(uid.clone(), entry);
            if !gated {
                self.make_ready(&uid);
            }
            return;
        };
        entry.pod = pod;
        match entry.place {
            Place::Gated if !gated => self.make_ready(&uid),
            Place::Waiting { .. } if asks_changed => self.activate(&uid, now),
            _ => {}
        }
    }

    /// Forgets a pod: it is placed, done or gone.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.unlink(uid);
        self.entries.remove(uid).map(|entry| entry.pod)
    }

    /// The next pod whose turn it is.
    pub fn take(&mut self, now: Instant) -> Option<Turn> {
        self.release_due(now);
        let (_, uid) = self.ready.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::Taken;
        entry.attempts += 1;
        Some(Turn {
            pod: Arc::clone(&entry.pod),
            attempt: entry.attempts,
            added: entry.added,
        })
    }

    /// A taken pod fits nowhere: it waits for one of these events.
    pub fn wait_for(&mut self, uid: &str, bits: u8, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        entry.failed_at = Some(now);
        entry.place = Place::Waiting { bits, since: now };
        self.waiting[usize::from(bits) % WAIT_SETS].insert(uid.to_owned());
    }

    /// A taken pod could not be bound: it comes again after its back-off.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        entry.failed_at = Some(now);
        self.activate(uid, now);
    }

    /// The pod now waits for this node to be cleared for it.
    pub fn set_nominated(&mut self, uid: &str, node: Option<&str>) -> Option<Arc<PodInfo>> {
        let entry = self.entries.get_mut(uid)?;
        let mut pod = PodInfo::clone(&entry.pod);
        pod.nominated = node.map(str::to_owned);
        entry.pod = Arc::new(pod);
        Some(Arc::clone(&entry.pod))
    }

    /// Something happened that could help pods that wait for any of `bits`.
    pub fn wake(&mut self, bits: u8, now: Instant) {
        for set in 0..WAIT_SETS {
            if set & usize::from(bits) == 0 {
                continue;
            }
            for uid in std::mem::take(&mut self.waiting[set]) {
                self.activate(&uid, now);
            }
        }
    }

    /// Wakes pods that have waited for very long.
    pub fn wake_overdue(&mut self, now: Instant) {
        let overdue: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                matches!(entry.place, Place::Waiting { since, .. } if now.saturating_duration_since(since) >= WAIT_MAX)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in overdue {
            self.activate(&uid, now);
        }
    }

    /// When the next back-off ends.
    pub fn next_due(&self) -> Option<Instant> {
        self.backoff.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether a pod could be taken at `now`.
    pub fn has_turn(&self, now: Instant) -> bool {
        !self.ready.is_empty() || self.next_due().is_some_and(|due| due <= now)
    }

    /// A pod in the queue.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// How many pods are where.
    pub fn depths(&self) -> Depths {
        let gated = self
            .entries
            .values()
            .filter(|entry| entry.place == Place::Gated)
            .count();
        Depths {
            ready: self.ready.len(),
            backoff: self.backoff.len(),
            waiting: self.waiting.iter().map(HashSet::len).sum(),
            gated,
        }
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(entry) = self.backoff.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let uid = entry.remove();
            self.make_ready(&uid);
        }
    }

    /// Ready at once, or when its back-off is over.
    fn activate(&mut self, uid: &str, now: Instant) {
        self.unlink(uid);
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        match entry.backoff_end().filter(|end| *end > now) {
            Some(end) => {
                self.turn += 1;
                entry.place = Place::Backoff(end, self.turn);
                self.backoff.insert((end, self.turn), uid.to_owned());
            }
            None => self.make_ready(uid),
        }
    }

    fn make_ready(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        self.turn += 1;
        let rank = (Reverse(entry.pod.priority), self.turn);
        entry.place = Place::Ready(rank);
        self.ready.insert(rank, uid.to_owned());
    }

    /// Takes a pod out of the place it is in.
    fn unlink(&mut self, uid: &str) {
        match self.entries.get(uid).map(|entry| entry.place) {
            Some(Place::Ready(rank)) => {
                self.ready.remove(&rank);
            }
            Some(Place::Backoff(at, turn)) => {
                self.backoff.remove(&(at, turn));
            }
            Some(Place::Waiting { bits, .. }) => {
                self.waiting[usize::from(bits) % WAIT_SETS].remove(uid);
            }
            Some(Place::Gated | Place::Taken) | None => {}
        }
    }
}

#[cfg(test)]
mod tests;
