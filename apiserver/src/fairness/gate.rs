//! The shell around the core: follows the objects of flow control, lets requests wait, and wakes those whose turn it is.
//!
//! One lock holds the core and those who wait; nobody waits for anything else under it. Invariant: a [`Seat`] that was given
//! is given back when it is dropped, and whoever is dropped while waiting leaves the queue, or gives back the seat that
//! was on its way to him.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use corten_api::kinds::flowcontrol::GROUP;
use corten_api::meta;
use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::classify::{Classifier, Flow};
use super::{Fairness, GivenUp, Outcome, REBALANCE_PERIOD, Refusal, Ticket, metrics, wait_max};
use crate::authn::User;
use crate::chain::objects::{Change, FOLLOW_QUEUE, Objects, Resource};
use crate::request::RequestInfo;

const SCHEMAS: Resource = Resource {
    group: GROUP,
    name: "flowschemas",
};
const LEVELS: Resource = Resource {
    group: GROUP,
    name: "prioritylevelconfigurations",
};
/// Objects of a list that cost as much as one other request. Upstream's number.
const OBJECTS_PER_SEAT: usize = 100;
/// No request takes more. Upstream's number.
const SEATS_MAX: u32 = 10;

/// How many objects a list would have to go through.
pub type Sizes = Box<dyn Fn(&RequestInfo) -> usize + Send + Sync>;

/// Lets requests in by priority and fairly within one.
pub struct Gate {
    pub(super) inner: Mutex<Inner>,
    /// A copy of the core's, so that requests are classified outside of the lock.
    classifier: ArcSwap<Classifier>,
    sizes: Sizes,
    began: Instant,
    pub(super) counts: metrics::Counts,
}

pub(super) struct Inner {
    pub(super) core: Fairness,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    schemas: BTreeMap<String, Value>,
    levels: BTreeMap<String, Value>,
}

/// A request that is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// When its client should come again, in seconds.
    pub retry_after: u32,
}

/// Held while the request is worked on.
pub struct Seat<'a> {
    gate: &'a Gate,
    ticket: Ticket,
    /// The uids of schema and level, for the answer's headers.
    pub schema: Arc<str>,
    /// See `schema`.
    pub level: Arc<str>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let now = self.gate.now();
        let mut inner = self.gate.inner.lock();
        let started = inner.core.leave(self.ticket, now);
        inner.wake(started);
    }
}

/// Where a request stands that has come.
struct Place {
    ticket: Ticket,
    /// The uid of its level.
    level: Arc<str>,
    /// Who tells of its turn; `None` when that has come.
    turn: Option<oneshot::Receiver<()>>,
}

/// Somebody in a queue; dropped when his client goes away.
struct Waiter<'a> {
    gate: &'a Gate,
    ticket: Option<Ticket>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.give_up(ticket);
        }
    }
}

impl Inner {
    fn wake(&mut self, started: Vec<Ticket>) {
        for ticket in started {
            // Whoever has gone in between gives the seat back himself: his ticket is started by now.
            if let Some(waiter) = self.waiting.remove(&ticket) {
                let _ = waiter.send(());
            }
        }
    }
}

impl Gate {
    /// A gate with so many seats.
    pub fn new(seats: usize, sizes: Sizes) -> Arc<Self> {
        let seats = u32::try_from(seats).unwrap_or(u32::MAX);
        let core = Fairness::new(seats, Duration::ZERO);
        let classifier = ArcSwap::new(Arc::clone(core.classifier()));
        Arc::new(Self {
            inner: Mutex::new(Inner {
                core,
                waiting: HashMap::new(),
                schemas: BTreeMap::new(),
                levels: BTreeMap::new(),
            }),
            classifier,
            sizes,
            began: Instant::now(),
            counts: metrics::Counts::default(),
        })
    }

    /// Shows levels and refusals among a server's metrics.
    pub fn register(self: &Arc<Self>, admin: &AdminServer) {
        metrics::register(self, admin);
    }

    /// Starts to follow the objects of flow control, and to move seats between levels.
    pub fn start(self: &Arc<Self>, objects: &Arc<dyn Objects>, shutdown: &Shutdown) {
        for resource in [LEVELS, SCHEMAS] {
            let (sender, mut changes) = mpsc::channel(FOLLOW_QUEUE);
            let (source, stop) = (Arc::clone(objects), shutdown.clone());
            spawn("fairness-follow", TaskKind::Critical, async move {
                tokio::select! {
                    biased;
                    () = stop.wait() => {}
                    () = source.follow(resource, sender) => {}
                }
            });
            let gate = Arc::clone(self);
            spawn("fairness-configure", TaskKind::Critical, async move {
                while let Some(change) = changes.recv().await {
                    gate.apply(resource, change);
                }
            });
        }
        let (gate, stop) = (Arc::clone(self), shutdown.clone());
        spawn("fairness-rebalance", TaskKind::Critical, async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.wait() => return,
                    () = tokio::time::sleep(REBALANCE_PERIOD) => gate.rebalance(),
                }
            }
        });
    }

    /// Takes over a change of the schemas or of the levels.
    pub(super) fn apply(&self, resource: Resource, change: Change) {
        let now = self.now();
        let mut inner = self.inner.lock();
        let known = if resource == SCHEMAS {
            &mut inner.schemas
        } else {
            &mut inner.levels
        };
        let named = |object: Value| (meta::name(&object).to_owned(), object);
        match change {
            Change::Reset(all) => *known = all.into_iter().map(named).collect(),
            Change::Set(object) => known.extend([named(object)]),
            Change::Removed { name, .. } => {
                known.remove(&name);
            }
        }
        let schemas: Vec<Value> = inner.schemas.values().cloned().collect();
        let levels: Vec<Value> = inner.levels.values().cloned().collect();
        let started = inner.core.configure(&schemas, &levels, now);
        self.classifier.store(Arc::clone(inner.core.classifier()));
        inner.wake(started);
    }

    fn rebalance(&self) {
        let now = self.now();
        let mut inner = self.inner.lock();
        let started = inner.core.rebalance(now);
        inner.wake(started);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits for a seat. `timeout` is the time in which the request must be answered.
    pub async fn enter(
        &self,
        user: &User,
        info: &RequestInfo,
        timeout: Duration,
    ) -> Result<Seat<'_>, Refused> {
        let flow = self.classifier.load().classify(user, info);
        let wanted = self.seats_of(info);
        let begun = Instant::now();
        let Place {
            ticket,
            level,
            turn,
        } = self.arrive(&flow, wanted)?;
        if let Some(turn) = turn {
            let mut waiter = Waiter {
                gate: self,
                ticket: Some(ticket),
            };
            let in_time = tokio::time::timeout(wait_max(timeout), turn).await.is_ok();
            waiter.ticket = None;
            // His turn may come in the very moment in which he has had enough.
            if !in_time && self.leave_queue(ticket) {
                return Err(self.refuse(&flow, Refusal::TimedOut));
            }
        }
        self.counts.dispatched(&flow.level, begun.elapsed());
        Ok(Seat {
            gate: self,
            ticket,
            schema: Arc::clone(&flow.schema.uid),
            level,
        })
    }

    fn seats_of(&self, info: &RequestInfo) -> u32 {
        if info.verb != "list" {
            return 1;
        }
        let objects = (self.sizes)(info);
        let seats = u32::try_from(objects / OBJECTS_PER_SEAT).unwrap_or(SEATS_MAX);
        seats.clamp(1, SEATS_MAX)
    }

    fn arrive(&self, flow: &Flow, wanted: u32) -> Result<Place, Refused> {
        let now = self.now();
        let mut inner = self.inner.lock();
        let seats = wanted.min(inner.core.seats_max(flow)).max(1);
        let uid = inner
            .core
            .level(flow)
            .map(|level| Arc::clone(&level.id.uid));
        let arrived = inner.core.arrive(flow, seats, now);
        let turn = (arrived.outcome == Outcome::Wait).then(|| {
            let (sender, receiver) = oneshot::channel();
            inner.waiting.insert(arrived.ticket, sender);
            receiver
        });
        inner.wake(arrived.started);
        drop(inner);
        match arrived.outcome {
            Outcome::Refuse(why) => Err(self.refuse(flow, why)),
            Outcome::Run | Outcome::Wait => Ok(Place {
                ticket: arrived.ticket,
                level: uid.unwrap_or_default(),
                turn,
            }),
        }
    }

    fn refuse(&self, flow: &Flow, why: Refusal) -> Refused {
        self.counts.rejected(&flow.level, why);
        let retry_after = self.inner.lock().core.refuse(flow, self.now());
        Refused { why, retry_after }
    }

    /// False when the turn has come already.
    fn leave_queue(&self, ticket: Ticket) -> bool {
        let now = self.now();
        let mut inner = self.inner.lock();
        inner.waiting.remove(&ticket);
        match inner.core.give_up(ticket, now) {
            GivenUp::Running => false,
            GivenUp::Left(started) => {
                inner.wake(started);
                true
            }
        }
    }

    /// Leaves the queue, or gives back the seat that has come too late.
    fn give_up(&self, ticket: Ticket) {
        if self.leave_queue(ticket) {
            return;
        }
        let now = self.now();
        let mut inner = self.inner.lock();
        let started = inner.core.leave(ticket, now);
        inner.wake(started);
    }
}

#[cfg(test)]
mod tests;
