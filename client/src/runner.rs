//! What every reconciler shares, so that a controller is only a view and a plan.
//!
//! ```text
//! caches ──changes──▶ keys ──▶ queue ──▶ worker: wait for own writes ─▶ view ─▶ plan ─▶ execute
//!                                ▲                                                  │
//!                                └────────── back-off, requeue_after ◀──────────────┘
//! ```
//!
//! It makes no choice of its own: what is written is what the plan says. Invariant: a key is planned only when the
//! caches hold everything that this key's earlier plans wrote, so no controller needs expectations.

mod action;
mod execute;
mod metrics;
mod own_writes;

use std::sync::Arc;
use std::time::Duration;

use corten_base::admin::{LoopLog, LoopReport, Loops};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::trace;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tracing::Instrument;

pub use action::{Action, Expected, Plan};
pub use execute::{Executor, Failed};
use metrics::ControllerMetrics;
pub use metrics::Metrics;
use own_writes::{OwnWrites, Watched};

use crate::cache::{Cache, Change};
use crate::client::Client;
use crate::error::Error;
use crate::events::Recorder;
use crate::leader::Leadership;
use crate::object::{Cached, Revision};
use crate::queue::{Key, RetryPolicy, Taken, WorkQueue};

/// How long a key waits for its own writes to show up before it is planned regardless. Reached only when a write is
/// outside of what the cache selects, or the watch hangs.
const OWN_WRITES_LIMIT: Duration = Duration::from_secs(10);
/// Every key is looked at again this often: a net under lost wake-ups, not a mechanism.
const RESYNC: Duration = Duration::from_secs(30 * 60);
/// Workers of one controller unless it asks for another number.
const WORKERS: usize = 8;

/// A reconciler. `view` reads caches only; `plan` is a pure function.
pub trait Controller: Send + Sync + 'static {
    /// What one run is about.
    type Key: Key;
    /// All that a plan depends on.
    type View: Send + Sync;

    /// The name, for logs, metrics and events.
    fn name(&self) -> &'static str;

    /// Reads what the key's plan depends on.
    fn view(&self, key: &Self::Key) -> Self::View;

    /// Decides what is to be done.
    fn plan(&self, view: &Self::View, now: Timestamp) -> Plan;

    /// Decides what to record (conditions, events) when actions of the plan failed. The key is retried in any case.
    fn after_failure(&self, _view: &Self::View, _failed: &[Failed], _now: Timestamp) -> Plan {
        Plan::default()
    }
}

/// Turns a cache's changes into keys, for as long as the cache lives.
type Feed<C> =
    dyn Fn(Arc<C>, WorkQueue<<C as Controller>::Key>) -> BoxFuture<'static, ()> + Send + Sync;
/// Wakes the keys of all objects of a cache.
type WakeAll<C> = dyn Fn(&C, &WorkQueue<<C as Controller>::Key>) + Send + Sync;

/// Something that wakes keys: one watched cache.
struct Source<C: Controller> {
    synced: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    revision: Box<dyn Fn() -> Revision + Send + Sync>,
    feed: Box<Feed<C>>,
    wake_all: Box<WakeAll<C>>,
}

/// Runs one controller.
pub struct Runner<C: Controller> {
    controller: Arc<C>,
    queue: WorkQueue<C::Key>,
    sources: Vec<Source<C>>,
    own_writes: Arc<OwnWrites<C::Key>>,
    executor: Executor,
    leadership: Leadership,
    workers: usize,
    resync: Duration,
    metrics: ControllerMetrics,
    log: LoopLog,
    loops: Option<Loops>,
}

impl<C: Controller> Runner<C> {
    /// A runner that watches nothing yet, always leads, and counts for itself.
    pub fn new(controller: C, client: &Client) -> Self {
        let name = controller.name();
        let executor = Executor::new(client.clone().with_field_manager(name));
        Self {
            controller: Arc::new(controller),
            queue: WorkQueue::new(RetryPolicy::default()),
            sources: Vec::new(),
            own_writes: Arc::new(OwnWrites::default()),
            executor,
            leadership: Leadership::always(),
            workers: WORKERS,
            resync: RESYNC,
            metrics: Metrics::default().controller(name),
            log: LoopLog::default(),
            loops: None,
        }
    }

    /// Wakes the keys that `keys` names at each change of `cache`. The cache must also hold what the controller writes
    /// of this kind: the runner waits for its revision.
    #[must_use]
    pub fn watch<T: Cached>(
        mut self,
        cache: &Cache<T>,
        keys: impl Fn(&C, &Change<T>) -> Vec<C::Key> + Send + Sync + 'static,
    ) -> Self {
        let keys = Arc::new(keys);
        self.own_writes.watch(Watched::new(cache));
        let (for_sync, for_revision, for_feed, for_all) =
            (cache.clone(), cache.clone(), cache.clone(), cache.clone());
        let keys_of_all = Arc::clone(&keys);
        self.sources.push(Source {
            synced: Box::new(move || {
                let cache = for_sync.clone();
                Box::pin(async move { cache.wait_synced().await })
            }),
            revision: Box::new(move || for_revision.revision()),
            feed: Box::new(move |controller, queue| {
                let (mut changes, keys) = (for_feed.subscribe(), Arc::clone(&keys));
                Box::pin(async move {
                    while let Some(change) = changes.next().await {
                        for key in keys(&controller, &change) {
                            queue.add(key);
                        }
                    }
                })
            }),
            wake_all: Box::new(move |controller, queue| {
                for object in for_all.list() {
                    for key in keys_of_all(controller, &Change::Added(object)) {
                        queue.add(key);
                    }
                }
            }),
        });
        self
    }

    /// Acts only while this process leads; keys are kept meanwhile.
    #[must_use]
    pub fn leader(mut self, leadership: Leadership) -> Self {
        self.leadership = leadership;
        self
    }

    /// At most so many keys at once.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Another back-off for failing keys.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.queue = WorkQueue::new(policy);
        self
    }

    /// Looks at every key this often.
    #[must_use]
    pub fn resync(mut self, every: Duration) -> Self {
        self.resync = every;
        self
    }

    /// Records the events that plans ask for; without it they are dropped.
    #[must_use]
    pub fn recorder(mut self, recorder: Recorder) -> Self {
        self.executor = self.executor.with_recorder(recorder);
        self
    }

    /// Counts into these metrics.
    #[must_use]
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.metrics = metrics.controller(self.controller.name());
        self
    }

    /// The queue, for what wakes keys beside caches. Take it after [`Runner::retry`].
    pub fn queue(&self) -> WorkQueue<C::Key> {
        self.queue.clone()
    }

    /// Shows among these loops how the runner does.
    #[must_use]
    pub fn loops(mut self, loops: &Loops) -> Self {
        self.loops = Some(loops.clone());
        self
    }

    /// Runs until shutdown; returns when the keys in hand are done.
    pub async fn run(self, shutdown: Shutdown) {
        let name = self.controller.name();
        let synced = futures::future::join_all(self.sources.iter().map(|source| (source.synced)()));
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = synced => {}
        }
        tracing::info!(
            controller = name,
            workers = self.workers,
            "caches are synced, reconciling"
        );
        let runner = Arc::new(self);
        if let Some(loops) = &runner.loops {
            let shown = Arc::downgrade(&runner);
            loops.add(name, move || {
                shown.upgrade().map(|it| it.report()).unwrap_or_default()
            });
        }
        for source in &runner.sources {
            let feed = (source.feed)(Arc::clone(&runner.controller), runner.queue.clone());
            let stop = shutdown.clone();
            spawn("controller-feed", TaskKind::Critical, async move {
                tokio::select! {
                    biased;
                    () = stop.wait() => {}
                    () = feed => {}
                }
            });
        }
        let workers: Vec<_> = (0..runner.workers)
            .map(|_| {
                let (runner, shutdown) = (Arc::clone(&runner), shutdown.clone());
                spawn("controller-worker", TaskKind::Critical, async move {
                    runner.work(&shutdown).await;
                })
            })
            .collect();
        runner.keep_time(&shutdown).await;
        runner.queue.close();
        futures::future::join_all(workers).await;
    }

    fn report(&self) -> LoopReport {
        let revision = self.sources.iter().map(|source| (source.revision)()).min();
        let leads = if self.leadership.is_leading() {
            "leads"
        } else {
            "waits for the lease"
        };
        LoopReport {
            queued: self.queue.len(),
            running: self.queue.in_hand(),
            note: format!("{leads}, caches at {}", revision.unwrap_or_default()),
            ..self.log.report()
        }
    }

    /// Resyncs and refreshes gauges until shutdown.
    async fn keep_time(&self, shutdown: &Shutdown) {
        let mut gauges = tokio::time::interval(Duration::from_secs(5));
        let mut resync = tokio::time::interval(self.resync);
        resync.tick().await;
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                _ = gauges.tick() => {
                    self.metrics.depth(self.queue.len());
                }
                _ = resync.tick() => {
                    for source in &self.sources {
                        (source.wake_all)(&self.controller, &self.queue);
                    }
                }
            }
        }
    }

    async fn work(&self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.leadership.wait_leading() => {}
            }
            let Some(taken) = self.queue.take().await else {
                return;
            };
            if !self.leadership.is_leading() {
                self.queue.add(taken.key().clone());
                continue;
            }
            self.metrics.taken(taken.queued());
            let span = trace::run("reconcile", self.controller.name(), taken.key());
            self.reconcile(taken).instrument(span).await;
        }
    }

    async fn reconcile(&self, taken: Taken<C::Key>) {
        let key = taken.key().clone();
        if !self.own_writes.settled(&key, OWN_WRITES_LIMIT).await {
            self.metrics.stale();
            tracing::debug!(
                controller = self.controller.name(),
                ?key,
                "own writes not seen in time"
            );
        }
        let begin = tokio::time::Instant::now();
        let view = self.controller.view(&key);
        let plan = self.controller.plan(&view, Timestamp::now());
        let requeue_after = plan.requeue_after;
        let outcome = self.executor.execute(plan, &self.leadership).await;
        self.own_writes.add(&key, outcome.written);
        if !outcome.failed.is_empty() {
            let plan = self
                .controller
                .after_failure(&view, &outcome.failed, Timestamp::now());
            let recorded = self.executor.execute(plan, &self.leadership).await;
            self.own_writes.add(&key, recorded.written);
        }
        self.metrics.ran(begin.elapsed(), outcome.failed.len());
        if !self.leadership.is_leading() {
            // Part of the plan may not have been carried out: the key is due when we lead again.
            self.queue.add(key);
        }
        self.settle(taken, &outcome.failed, requeue_after);
    }

    /// Decides when the key comes again, and says once what went wrong.
    fn settle(&self, taken: Taken<C::Key>, failed: &[Failed], requeue_after: Option<Duration>) {
        let key = taken.key().clone();
        if let Some(first) = failed.first() {
            let retry_after = failed
                .iter()
                .filter_map(|failed| failed.error.retry_after())
                .max();
            let why = format!("{key:?}: {}: {}", first.action, first.error);
            self.log.failed(Timestamp::now(), why);
            let delay = taken.failed();
            if let Some(due) = requeue_after.filter(|due| *due < delay) {
                // What is due by time does not wait for what fails.
                self.queue.add_after(key.clone(), due);
            }
            if let Some(later) = retry_after.filter(|later| *later > delay) {
                // The server's wish is longer than our back-off: the key is woken earlier only by news.
                self.queue.postpone(&key, later);
            }
            let (name, action, error) = (self.controller.name(), &first.action, &first.error);
            if lost_race(error) {
                tracing::debug!(controller = name, ?key, action, %error, ?delay, "lost a race, again");
            } else {
                tracing::warn!(controller = name, ?key, action, %error, ?delay, "failed, again");
            }
            return;
        }
        self.log.succeeded(Timestamp::now());
        match requeue_after {
            Some(delay) => taken.again_after(delay),
            None => taken.succeeded(),
        }
    }
}

/// Failures that a look at newer state cures.
fn lost_race(error: &Error) -> bool {
    matches!(
        error,
        Error::Conflict(_) | Error::AlreadyExists(_) | Error::NotFound(_)
    )
}

#[cfg(test)]
mod tests;
