//! Whom the server works for now: the fair queues of [`crate::fairness`] with a lock, a clock and requests that wait.
//!
//! A request is matched with the schemas outside of the lock, asks for its seats under it, and waits, if it has to, without
//! it. Nothing here knows objects of the API or bodies but `follow`, which learns the schemas and levels, and `place`, which
//! gives seats back once an answer is on its way. Invariant: a started ticket leaves exactly once, when its [`Seat`] is dropped,
//! and one that waits gives up when its client goes away.
//!
//! ```text
//!  request ── Place::enter ── classify ── arrive ──┬── Seat ── answer, or a watch's first state ── leave
//!                                                  ├── wait ── woken by whoever leaves, or 429 after a while
//!                                                  └── 429
//! ```

mod follow;
mod metrics;
mod place;
#[cfg(test)]
mod tests;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use corten_api::status::Status;
use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

use super::objects::Objects;
use super::{REQUEST_TIMEOUT, metrics as chain};
use crate::authn::User;
use crate::fairness::classify::{Classifier, Flow};
use crate::fairness::{Fairness, GivenUp, Outcome, REBALANCE_PERIOD, Refusal, Ticket, wait_max};
use crate::request::RequestInfo;
use metrics::{FlowMetrics, Route};
pub(crate) use place::Place;
use place::{HandedOn, LOOK_EVERY};
pub(crate) use work::Reach;

/// How many objects of a resource there are, by group and plural name.
pub type Count = Arc<dyn Fn(&str, &str) -> usize + Send + Sync>;

const REFUSED: &str = "too many requests, please try again later";

/// See the module's words.
pub struct Seats {
    state: Mutex<State>,
    routes: ArcSwap<Routes>,
    /// Places whose answers are on their way to their clients.
    handed_on: HandedOn,
    objects: Count,
    flows: FlowMetrics,
    requests: chain::Metrics,
    reading: Gauge,
    writing: Gauge,
    configured: AtomicBool,
    epoch: Instant,
}

struct State {
    core: Fairness,
    /// How those that wait are told that they may start. No longer than the queues, which have bounds.
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

impl State {
    fn start(&mut self, tickets: Vec<Ticket>) {
        for ticket in tickets {
            if let Some(turn) = self.waiting.remove(&ticket) {
                // Whoever has gone away meanwhile gives the seats back by himself.
                let _ = turn.send(());
            }
        }
    }
}

/// What is needed to find a request's way without the lock.
struct Routes {
    classifier: Arc<Classifier>,
    by_schema: HashMap<Arc<str>, Arc<Route>>,
}

impl Routes {
    fn new(core: &Fairness, flows: &FlowMetrics) -> Self {
        let classifier = Arc::clone(core.classifier());
        let by_schema = classifier.schemas().map(|(schema, level)| {
            let level_uid = core.level(level).map(|config| &*config.id.uid);
            let route = Route::new(flows, schema, level, level_uid.unwrap_or_default());
            (Arc::clone(&schema.name), Arc::new(route))
        });
        Self {
            by_schema: by_schema.collect(),
            classifier: Arc::clone(&classifier),
        }
    }
}

/// The seats of one request; given back when dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    ticket: Ticket,
    route: Arc<Route>,
    inflight: Gauge,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.inflight.dec();
        self.route.left();
        self.seats.leave(self.ticket);
    }
}

/// One request in a queue. Dropped before its turn it gives up, whatever has happened meanwhile.
struct Waiting<'a> {
    seats: &'a Seats,
    route: &'a Route,
    ticket: Ticket,
    turn: oneshot::Receiver<()>,
    settled: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.route.waits_no_more();
        if !self.settled && !self.seats.give_up(self.ticket) {
            self.seats.leave(self.ticket);
        }
    }
}

/// What becomes of a request at first.
enum Arrival<'a> {
    Runs(Ticket),
    Waits(Waiting<'a>),
    Refused(Refusal),
}

impl Seats {
    /// So many seats for everybody, and the mandatory schemas and levels.
    pub(super) fn new(
        total: u32,
        objects: Count,
        admin: &AdminServer,
        requests: &chain::Metrics,
    ) -> Arc<Self> {
        let core = Fairness::new(total, Duration::ZERO);
        let flows = FlowMetrics::register(admin);
        flows.show_levels(&core);
        Arc::new(Self {
            routes: ArcSwap::from_pointee(Routes::new(&core, &flows)),
            state: Mutex::new(State {
                core,
                waiting: HashMap::new(),
            }),
            handed_on: HandedOn::default(),
            objects,
            flows,
            requests: requests.clone(),
            reading: requests.inflight("readOnly"),
            writing: requests.inflight("mutating"),
            configured: AtomicBool::new(false),
            epoch: Instant::now(),
        })
    }

    /// Follows schemas and levels, lends seats, and looks after slow readers, until shutdown.
    pub fn start(self: &Arc<Self>, objects: &Arc<dyn Objects>, shutdown: &Shutdown) {
        follow::start(self, objects, shutdown);
        let (seats, stop) = (Arc::clone(self), shutdown.clone());
        spawn("fairness", TaskKind::Critical, async move {
            tokio::select! {
                biased;
                () = stop.wait() => {}
                () = seats.look_after() => {}
            }
        });
    }

    /// Whether the stored schemas and levels are obeyed already, and not only the mandatory ones.
    pub fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Acquire)
    }

    async fn look_after(&self) {
        let mut rebalance = tokio::time::interval(REBALANCE_PERIOD);
        let mut look = tokio::time::interval(LOOK_EVERY);
        rebalance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = rebalance.tick() => self.rebalance(),
                _ = look.tick() => self.handed_on.look(),
            }
        }
    }

    /// Takes over what exists now. Tells what requests are matched with from here on.
    fn configure(&self, schemas: &[Value], levels: &[Value]) -> Arc<Classifier> {
        let mut state = self.state.lock();
        let started = state.core.configure(schemas, levels, self.now());
        state.start(started);
        self.flows.show_levels(&state.core);
        let routes = Arc::new(Routes::new(&state.core, &self.flows));
        let before = self.routes.swap(Arc::clone(&routes));
        drop(state);
        let now: Vec<&Route> = routes.by_schema.values().map(Arc::as_ref).collect();
        self.flows
            .forget(before.by_schema.values().map(Arc::as_ref), &now);
        self.configured.store(true, Ordering::Release);
        Arc::clone(&routes.classifier)
    }

    fn rebalance(&self) {
        let mut state = self.state.lock();
        let started = state.core.rebalance(self.now());
        state.start(started);
        self.flows.show_levels(&state.core);
    }

    /// Which way a request goes.
    fn classify(&self, user: &User, info: &RequestInfo) -> (Flow, Arc<Route>) {
        let routes = self.routes.load();
        let flow = routes.classifier.classify(user, info);
        let route = routes.by_schema.get(&flow.schema.name).cloned();
        (flow, route.unwrap_or_default())
    }

    /// Waits for seats, or refuses.
    async fn enter(
        self: &Arc<Self>,
        flow: &Flow,
        route: &Arc<Route>,
        wanted: u32,
        read_only: bool,
    ) -> Result<Seat, Status> {
        let mut waiting = match self.arrive(flow, route, wanted) {
            Arrival::Runs(ticket) => {
                route.waited(true, Duration::ZERO);
                return Ok(self.seat(ticket, route, read_only));
            }
            Arrival::Waits(waiting) => waiting,
            Arrival::Refused(refusal) => return Err(self.refuse(flow, route, refusal, read_only)),
        };
        let since = Instant::now();
        let turn = tokio::time::timeout(wait_max(REQUEST_TIMEOUT), &mut waiting.turn).await;
        // Its turn may come in the very moment in which it has waited for too long.
        let runs = matches!(turn, Ok(Ok(()))) || !self.give_up(waiting.ticket);
        waiting.settled = true;
        route.waited(runs, since.elapsed());
        if runs {
            Ok(self.seat(waiting.ticket, route, read_only))
        } else {
            Err(self.refuse(flow, route, Refusal::TimedOut, read_only))
        }
    }

    fn arrive<'a>(&'a self, flow: &Flow, route: &'a Route, wanted: u32) -> Arrival<'a> {
        let mut state = self.state.lock();
        let seats = match wanted {
            0 | 1 => 1,
            wide => wide.min(state.core.seats_max(flow)),
        };
        let arrived = state.core.arrive(flow, seats, self.now());
        state.start(arrived.started);
        let ticket = arrived.ticket;
        match arrived.outcome {
            Outcome::Run => Arrival::Runs(ticket),
            Outcome::Refuse(refusal) => Arrival::Refused(refusal),
            Outcome::Wait => {
                let (sender, turn) = oneshot::channel();
                state.waiting.insert(ticket, sender);
                route.waits();
                Arrival::Waits(Waiting {
                    seats: self,
                    route,
                    ticket,
                    turn,
                    settled: false,
                })
            }
        }
    }

    fn seat(self: &Arc<Self>, ticket: Ticket, route: &Arc<Route>, read_only: bool) -> Seat {
        let inflight = self.inflight(read_only);
        inflight.inc();
        route.started();
        Seat {
            seats: Arc::clone(self),
            ticket,
            route: Arc::clone(route),
            inflight: inflight.clone(),
        }
    }

    fn inflight(&self, read_only: bool) -> &Gauge {
        if read_only {
            &self.reading
        } else {
            &self.writing
        }
    }

    fn refuse(&self, flow: &Flow, route: &Route, refusal: Refusal, read_only: bool) -> Status {
        let seconds = self.state.lock().core.refuse(flow, self.now());
        self.flows.refused(route, refusal);
        self.requests
            .rejected(if read_only { "readOnly" } else { "mutating" });
        Status::too_many_requests(REFUSED, seconds)
    }

    /// False when it is too late, because it has been started.
    fn give_up(&self, ticket: Ticket) -> bool {
        let mut state = self.state.lock();
        state.waiting.remove(&ticket);
        match state.core.give_up(ticket, self.now()) {
            GivenUp::Left(started) => {
                state.start(started);
                true
            }
            GivenUp::Running => false,
        }
    }

    fn leave(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        let started = state.core.leave(ticket, self.now());
        state.start(started);
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}
