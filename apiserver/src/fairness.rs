//! Whose request goes first when there are more than the server can work on: API priority and fairness, as a pure core.
//!
//! A [`Classifier`] finds the flow schema of a request, which leads to a priority level. Every level has a part of the
//! server's seats; what finds none waits in one of the level's queues, and the queues take turns, so that a flow that floods
//! the server delays itself and not the others. Seats that a level leaves empty are lent to those that want them.
//!
//! Nothing here knows a clock, a task or a socket. The shell tells what happens and when, and wakes the requests whose tickets
//! it gets back: [`Fairness::arrive`], then [`Fairness::leave`] for whatever was started, or [`Fairness::give_up`] for what
//! has waited for too long or lost its client; [`Fairness::rebalance`] every [`REBALANCE_PERIOD`]. Times are those since any
//! fixed moment. Invariant: every ticket that was started keeps its seats until it leaves, and each wait ends with exactly
//! one of started and given up.

pub mod classify;
pub mod dealer;
pub mod level;

mod demand;
mod queues;
mod refusals;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use corten_api::kinds::flowcontrol::mandatory;
use serde_json::Value;

use self::classify::{Classifier, Flow};
use self::demand::Demand;
use self::level::{Config, Discipline};
use self::queues::QueueSet;
use self::refusals::Refusals;
use self::shares::{Bounds, Sharing};

/// How often seats are lent and taken back.
pub const REBALANCE_PERIOD: Duration = Duration::from_secs(10);
/// No request waits for longer.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A request may spend this part of its time on waiting.
const WAIT_PART: u32 = 4;

/// How long a request may wait that must be answered within `timeout`.
pub fn wait_max(timeout: Duration) -> Duration {
    (timeout / WAIT_PART).min(WAIT_MAX)
}

/// One request on its way through a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What becomes of a request that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is worked on now.
    Run,
    /// It waits until its ticket is started.
    Wait,
    /// It is not taken; its ticket means nothing.
    Refuse(Refusal),
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its queue is full.
    QueueFull,
    /// The level has no queues and no seat left.
    ConcurrencyLimit,
    /// It has waited for too long; only the shell knows that.
    TimedOut,
}

impl Refusal {
    /// The name that upstream's metrics give it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimedOut => "time-out",
        }
    }
}

/// The answer to a request that has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Names the request from here on.
    pub ticket: Ticket,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Others that start now.
    pub started: Vec<Ticket>,
}

/// The answer to a request that does not want to wait any more.
#[derive(Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It has left its queue, and these start in its wake.
    Left(Vec<Ticket>),
    /// Too late: it has been started, and must leave.
    Running,
}

/// The state of all levels.
pub struct Fairness {
    /// Seats of the whole server.
    seats: u32,
    levels: BTreeMap<Arc<str>, Level>,
    tickets: HashMap<Ticket, Arc<str>>,
    next: u64,
    classifier: Arc<Classifier>,
}

struct Level {
    config: Config,
    /// False once its object is gone; it stays until its last request has left.
    wanted: bool,
    sharing: Sharing,
    queues: QueueSet,
    demand: Demand,
    refusals: Refusals,
}

impl Fairness {
    /// A server with so many seats, and with the mandatory objects only.
    pub fn new(seats: u32, now: Duration) -> Self {
        let mut fairness = Self {
            seats,
            levels: BTreeMap::new(),
            tickets: HashMap::new(),
            next: 0,
            classifier: Arc::new(Classifier::new(&[], |_| false)),
        };
        // Nobody waits yet, so nobody can start.
        fairness.configure(&[], &[], now);
        fairness
    }

    /// Takes over the FlowSchemas and PriorityLevelConfigurations that exist now, and tells whom that lets start.
    ///
    /// Broken levels count as absent, schemas without a level are left out, mandatory objects that are absent are made up.
    pub fn configure(&mut self, schemas: &[Value], levels: &[Value], now: Duration) -> Vec<Ticket> {
        let parsed = levels.iter().filter_map(Config::parse);
        let mut configs: BTreeMap<Arc<str>, Config> = parsed
            .map(|config| (Arc::clone(&config.id.name), config))
            .collect();
        self.classifier = Arc::new(Classifier::new(schemas, |level| {
            configs.contains_key(level)
        }));
        for config in mandatory::levels().iter().filter_map(Config::parse) {
            let name = Arc::clone(&config.id.name);
            configs.entry(name).or_insert(config);
        }
        for (name, level) in &mut self.levels {
            level.wanted = configs.contains_key(name);
        }
        self.levels
            .retain(|_, level| level.wanted || !level.queues.is_idle());
        for (name, config) in configs {
            match self.levels.get_mut(&name) {
                Some(level) => level.reconfigure(config),
                None => {
                    self.levels.insert(name, Level::new(config, now));
                }
            }
        }
        self.share();
        self.rebalance(now)
    }

    /// What requests are matched with. It does not change until the next `configure`, so that the shell may keep it outside
    /// of its lock.
    pub fn classifier(&self) -> &Arc<Classifier> {
        &self.classifier
    }

    /// The most seats that one request of the flow should ask for: more would keep the others out while it waits for them.
    pub fn seats_max(&self, flow: &Flow) -> u32 {
        self.levels
            .get(&flow.level)
            .map_or(1, |level| level.sharing.seats_max(&level.config.discipline))
    }

    /// The level of that name.
    pub fn level(&self, name: &str) -> Option<&Config> {
        self.levels.get(name).map(|level| &level.config)
    }

    /// A request has come that takes so many seats.
    pub fn arrive(&mut self, flow: &Flow, seats: u32, now: Duration) -> Arrived {
        let ticket = Ticket(self.next);
        self.next += 1;
        let refuse = |refusal| Arrived {
            ticket,
            outcome: Outcome::Refuse(refusal),
            started: Vec::new(),
        };
        // The level may have gone since the flow was classified.
        let name = if self.levels.contains_key(&flow.level) {
            Arc::clone(&flow.level)
        } else {
            Arc::from(mandatory::CATCH_ALL)
        };
        let Some(level) = self.levels.get_mut(&name) else {
            return refuse(Refusal::ConcurrencyLimit);
        };
        let answer = level.queues.arrive(ticket, flow.hash, seats.max(1), now);
        level.note_demand(now);
        match answer {
            Err(refusal) => refuse(refusal),
            Ok(mut started) => {
                self.tickets.insert(ticket, name);
                let mine = started.iter().position(|started| *started == ticket);
                let outcome = match mine {
                    Some(i) => {
                        started.remove(i);
                        Outcome::Run
                    }
                    None => Outcome::Wait,
                };
                Arrived {
                    ticket,
                    outcome,
                    started,
                }
            }
        }
    }

    /// A request that was started has been answered. Tells who starts now.
    pub fn leave(&mut self, ticket: Ticket, now: Duration) -> Vec<Ticket> {
        let Some(name) = self.tickets.remove(&ticket) else {
            return Vec::new();
        };
        let Some(level) = self.levels.get_mut(&name) else {
            return Vec::new();
        };
        let started = level.queues.leave(ticket, now);
        level.note_demand(now);
        if level.wanted || !level.queues.is_idle() {
            return started;
        }
        // The last request of a level that nobody wants any more: its seats go to the others.
        self.levels.remove(&name);
        self.share();
        self.rebalance(now)
    }

    /// A request does not want to wait any longer.
    pub fn give_up(&mut self, ticket: Ticket, now: Duration) -> GivenUp {
        let level = self
            .tickets
            .get(&ticket)
            .and_then(|name| self.levels.get_mut(name));
        let Some(level) = level else {
            return GivenUp::Left(Vec::new());
        };
        let Some(started) = level.queues.give_up(ticket, now) else {
            return GivenUp::Running;
        };
        level.note_demand(now);
        self.tickets.remove(&ticket);
        GivenUp::Left(started)
    }

    /// Counts a refused request of the flow, and tells after how many seconds its client should come again.
    pub fn refuse(&mut self, flow: &Flow, now: Duration) -> u32 {
        self.levels
            .get_mut(&flow.level)
            .map_or(1, |level| level.refusals.note(now))
    }

    /// Lends seats from the levels that have too many to those that want more, by what they have wanted since the last time.
    /// Tells whom that lets start.
    pub fn rebalance(&mut self, now: Duration) -> Vec<Ticket> {
        let bounds: Vec<Bounds> = self
            .levels
            .values_mut()
            .map(|level| {
                let wish = level.demand.take(now);
                level
                    .sharing
                    .bounds(&wish, level.config.discipline == Discipline::Exempt)
            })
            .collect();
        let total: u32 = self
            .levels
            .values()
            .map(|level| level.sharing.nominal)
            .sum();
        let limits = shares::lend(total, &bounds);
        let mut started = Vec::new();
        for (level, limit) in self.levels.values_mut().zip(limits) {
            started.extend(level.queues.set_limit(limit, now));
            level.note_demand(now);
        }
        started
    }

    /// Seats of a level as of the last balance: in use, waited for, and the limit.
    pub fn usage(&self, level: &str) -> Option<Usage> {
        self.levels.get(level).map(|level| Usage {
            running: level.queues.seats_running(),
            waiting: level.queues.seats_waiting(),
            limit: level.queues.limit(),
            nominal: level.sharing.nominal,
        })
    }

    /// The names of all levels.
    pub fn level_names(&self) -> impl Iterator<Item = &str> {
        self.levels.keys().map(AsRef::as_ref)
    }

    fn share(&mut self) {
        let sum: u64 = self
            .levels
            .values()
            .map(|level| u64::from(level.config.shares))
            .sum();
        for level in self.levels.values_mut() {
            level.sharing = Sharing::new(self.seats, sum, &level.config);
        }
    }
}

/// The seats of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Seats of requests that are worked on.
    pub running: u32,
    /// Seats of requests that wait.
    pub waiting: u32,
    /// Seats that it has now; an exempt level heeds it not.
    pub limit: u32,
    /// Seats that its shares give it.
    pub nominal: u32,
}

impl Level {
    fn new(config: Config, now: Duration) -> Self {
        Self {
            queues: QueueSet::new(config.discipline.clone(), now),
            config,
            wanted: true,
            sharing: Sharing::default(),
            demand: Demand::new(now),
            refusals: Refusals::default(),
        }
    }

    fn reconfigure(&mut self, config: Config) {
        self.queues.set_discipline(config.discipline.clone());
        self.config = config;
    }

    fn note_demand(&mut self, now: Duration) {
        let wanted = self.queues.seats_running() + self.queues.seats_waiting();
        self.demand.set(wanted, now);
    }
}
