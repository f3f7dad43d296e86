//! The loop that owns the cluster's picture and the queue: takes in what the watches bring, places while leading, and
//! sends bindings and reports on their way. One task owns all state; calls run beside it and answer through a bounded
//! channel. Invariant: a pod is assumed on its node before its binding is sent, so no room is given away twice.

mod attempt;
mod bind;
mod intake;
mod report;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use corten_base::admin::{AdminServer, LoopLog};
use corten_base::shutdown::Shutdown;
use corten_client::Client;
use corten_client::cache::{Cache, CacheOptions, Change, Changes};
use corten_client::events::Recorder;
use corten_client::leader::Leadership;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::core::cluster::Cluster;
use crate::core::disruption::Budget;
use crate::core::place::Options;
use crate::core::selector::Selector;
use crate::metrics::Metrics;
use crate::queue::Queue;
use bind::{Binder, Bound};
use report::Reporter;

/// Changes taken in before placing goes on, and attempts before changes are looked at again: neither starves the other.
const INTAKE_AT_ONCE: usize = 1_024;
const ATTEMPTS_AT_ONCE: usize = 32;
/// How often gauges are refreshed and pods that wait for long are looked for.
const TICK: Duration = Duration::from_secs(5);

/// Everything that can happen.
enum Event {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    Budget(Change<PodDisruptionBudget>),
    Service(Change<Service>),
    Bound(Bound),
    /// Time passed, or we began to lead.
    Look,
    Stop,
}

/// What the watches bring.
struct Sources {
    pods: Changes<Pod>,
    nodes: Changes<Node>,
    namespaces: Changes<Namespace>,
    budgets: Changes<PodDisruptionBudget>,
    services: Changes<Service>,
    bound: mpsc::Receiver<Bound>,
}

/// The picture.
struct State {
    scheduler_name: String,
    cluster: Cluster,
    queue: Queue,
    budgets: BTreeMap<(String, String), Budget>,
    /// Selectors of Services, by namespace and name: their pods are spread by default.
    services: HashMap<String, BTreeMap<String, Selector>>,
    /// Pods whose binding is on its way or not yet seen, by uid.
    assumed: HashSet<String>,
    options: Options,
    rng: StdRng,
}

/// The running scheduler.
pub struct Shell {
    state: State,
    sources: Sources,
    caches: Caches,
    leadership: Leadership,
    binder: Binder,
    reporter: Reporter,
    metrics: Metrics,
    log: LoopLog,
    next_tick: Instant,
}

/// The copies that must be complete before the first decision.
#[derive(Clone)]
struct Caches {
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    namespaces: Cache<Namespace>,
    budgets: Cache<PodDisruptionBudget>,
    services: Cache<Service>,
}

impl Caches {
    fn start(client: &Client, shutdown: &Shutdown) -> Self {
        Self {
            pods: Cache::start(
                client,
                CacheOptions::all().strip(intake::strip_pod),
                shutdown,
            ),
            nodes: Cache::start(client, CacheOptions::all(), shutdown),
            namespaces: Cache::start(client, CacheOptions::all(), shutdown),
            budgets: Cache::start(client, CacheOptions::all(), shutdown),
            services: Cache::start(client, CacheOptions::all(), shutdown),
        }
    }

    fn are_synced(&self) -> bool {
        self.pods.is_synced()
            && self.nodes.is_synced()
            && self.namespaces.is_synced()
            && self.budgets.is_synced()
            && self.services.is_synced()
    }

    async fn wait_synced(&self) {
        self.nodes.wait_synced().await;
        self.pods.wait_synced().await;
        self.namespaces.wait_synced().await;
        self.budgets.wait_synced().await;
        self.services.wait_synced().await;
    }
}

impl Shell {
    /// Starts the watches. Nothing is decided before [`Shell::run`].
    pub fn start(
        config: &Config,
        client: Client,
        recorder: Recorder,
        metrics: Metrics,
        leadership: Leadership,
        admin: &AdminServer,
        shutdown: &Shutdown,
    ) -> Self {
        let caches = Caches::start(&client, shutdown);
        let synced = caches.clone();
        let log = LoopLog::default();
        let shown = log.clone();
        admin.loops().add("scheduler", move || shown.report());
        admin.readiness().check("caches", move || {
            if synced.are_synced() {
                Ok(())
            } else {
                Err("the first lists are not complete".to_owned())
            }
        });
        let (answers, bound) = mpsc::channel(config.binds_at_once);
        let sources = Sources {
            pods: caches.pods.subscribe(),
            nodes: caches.nodes.subscribe(),
            namespaces: caches.namespaces.subscribe(),
            budgets: caches.budgets.subscribe(),
            services: caches.services.subscribe(),
            bound,
        };
        let state = State {
            scheduler_name: config.scheduler_name.clone(),
            cluster: Cluster::new(),
            queue: Queue::default(),
            budgets: BTreeMap::new(),
            services: HashMap::new(),
            assumed: HashSet::new(),
            options: Options {
                percentage_of_nodes_to_score: config.percentage_of_nodes_to_score,
            },
            rng: StdRng::from_os_rng(),
        };
        let binder = Binder::new(
            client.clone(),
            recorder.clone(),
            answers,
            config.binds_at_once,
        );
        let pods = caches.pods.clone();
        let name = &config.scheduler_name;
        let reporter = Reporter::start(client, pods, recorder, name, shutdown);
        let next_tick = Instant::now();
        Self {
            state,
            sources,
            caches,
            leadership,
            binder,
            reporter,
            metrics,
            log,
            next_tick,
        }
    }

    /// Runs until shutdown.
    pub async fn run(mut self, shutdown: &Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            // Changes queue up meanwhile; the reflectors wait when the queues are full, so they must be read.
            () = Self::fill(&mut self.state, &mut self.sources, &self.caches) => {}
        }
        let nodes = self.state.cluster.len();
        tracing::info!(
            nodes,
            pods = self.caches.pods.len(),
            "caches are synced, scheduling"
        );
        loop {
            let busy = self.take_in() | self.place_some();
            self.tick();
            if busy {
                tokio::task::yield_now().await;
                if shutdown.is_triggered() {
                    return;
                }
                continue;
            }
            match self.wait(shutdown).await {
                Event::Stop => return,
                event => self.apply(event),
            }
        }
    }

    /// Takes in the initial state.
    async fn fill(state: &mut State, sources: &mut Sources, caches: &Caches) {
        let synced = caches.wait_synced();
        tokio::pin!(synced);
        loop {
            let change = tokio::select! {
                biased;
                // Nodes before pods, so that pods find theirs.
                Some(change) = sources.nodes.next() => Event::Node(change),
                Some(change) = sources.namespaces.next() => Event::Namespace(change),
                Some(change) = sources.budgets.next() => Event::Budget(change),
                Some(change) = sources.services.next() => Event::Service(change),
                Some(change) = sources.pods.next() => Event::Pod(change),
                () = &mut synced => return,
            };
            state.take_in(change);
        }
    }

    /// Takes in what is there, without waiting; whether there was anything.
    fn take_in(&mut self) -> bool {
        let mut taken = 0;
        while taken < INTAKE_AT_ONCE {
            let sources = &mut self.sources;
            let event = if let Ok(bound) = sources.bound.try_recv() {
                Event::Bound(bound)
            } else if let Some(change) = sources.nodes.try_next() {
                Event::Node(change)
            } else if let Some(change) = sources.pods.try_next() {
                Event::Pod(change)
            } else if let Some(change) = sources.namespaces.try_next() {
                Event::Namespace(change)
            } else if let Some(change) = sources.budgets.try_next() {
                Event::Budget(change)
            } else if let Some(change) = sources.services.try_next() {
                Event::Service(change)
            } else {
                break;
            };
            self.apply(event);
            taken += 1;
        }
        taken > 0
    }

    /// Places pods whose turn it is; whether there were any.
    fn place_some(&mut self) -> bool {
        if !self.leadership.is_leading() {
            return false;
        }
        let mut placed = 0;
        while placed < ATTEMPTS_AT_ONCE && self.binder.has_room() {
            let Some(turn) = self.state.queue.take(Instant::now()) else {
                break;
            };
            self.attempt(&turn);
            placed += 1;
        }
        placed > 0
    }

    /// The next event. Every arm is cancel-safe: channels keep what was not taken.
    async fn wait(&mut self, shutdown: &Shutdown) -> Event {
        let due = self
            .state
            .queue
            .next_due()
            .unwrap_or(self.next_tick)
            .min(self.next_tick);
        let leadership = self.leadership.clone();
        let leading = leadership.is_leading();
        let sources = &mut self.sources;
        tokio::select! {
            biased;
            () = shutdown.wait() => Event::Stop,
            Some(bound) = sources.bound.recv() => Event::Bound(bound),
            Some(change) = sources.nodes.next() => Event::Node(change),
            Some(change) = sources.pods.next() => Event::Pod(change),
            Some(change) = sources.namespaces.next() => Event::Namespace(change),
            Some(change) = sources.budgets.next() => Event::Budget(change),
            Some(change) = sources.services.next() => Event::Service(change),
            () = leadership.wait_leading(), if !leading => Event::Look,
            () = tokio::time::sleep_until(due.into()) => Event::Look,
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Bound(bound) => self.bound(bound),
            Event::Look | Event::Stop => {}
            change => self.state.take_in(change),
        }
    }

    /// What a binding came to.
    fn bound(&mut self, bound: Bound) {
        self.binder.answered();
        let uid = &bound.pod.uid;
        match bound.result {
            Ok(()) => {
                self.metrics.bound(bound.added.elapsed(), bound.took);
                self.log.succeeded(Timestamp::now());
                self.state.queue.remove(uid);
            }
            Err(error) => {
                tracing::warn!(pod = bound.pod.full_name(), node = bound.node, %error, "binding failed");
                self.metrics.attempt("error", bound.took);
                let why = format!("{} to {}: {error}", bound.pod.full_name(), bound.node);
                self.log.failed(Timestamp::now(), why);
                self.state.unassume(uid);
                if error.is_not_found() {
                    self.state.queue.remove(uid);
                } else {
                    self.state.queue.retry(uid, Instant::now());
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        self.state.queue.wake_overdue(now);
        self.log
            .depth(self.state.queue.depths().total(), self.binder.under_way());
        self.metrics
            .depths(self.state.queue.depths(), self.state.cluster.len());
    }
}
