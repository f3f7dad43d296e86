//! A queue worker for the controllers whose steps need answers from the server (namespaces, garbage, approval of signing
//! requests). Keys, back-off and leadership are as in `corten_client::runner`; only the step may wait. Not for anything that
//! a plan can say.

use std::future::Future;
use std::sync::Arc;

use corten_base::admin::{LoopLog, LoopReport, Loops};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::cache::{Cache, Change};
use corten_client::leader::Leadership;
use corten_client::object::Cached;
use corten_client::queue::{Key, Taken, WorkQueue};
use jiff::Timestamp;

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do until something changes.
    Done,
    /// Something is under way that no watch tells: look again after a growing wait.
    Again,
}

/// Something that works on keys with calls to the server.
pub trait Work: Send + Sync + 'static {
    /// What one step is about.
    type Key: Key;

    /// For logs.
    fn name(&self) -> &'static str;

    /// Does one step.
    fn step(&self, key: Self::Key) -> impl Future<Output = corten_client::Result<Step>> + Send;
}

/// Takes keys with `workers` tasks until shutdown, while leading.
pub async fn run<W: Work>(
    work: Arc<W>,
    queue: WorkQueue<W::Key>,
    workers: usize,
    leadership: Leadership,
    loops: &Loops,
    shutdown: Shutdown,
) {
    let log = LoopLog::default();
    let (shown, waiting) = (log.clone(), queue.clone());
    loops.add(work.name(), move || LoopReport {
        queued: waiting.len(),
        running: waiting.in_hand(),
        ..shown.report()
    });
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let (work, queue) = (Arc::clone(&work), queue.clone());
            let (leadership, shutdown) = (leadership.clone(), shutdown.clone());
            let log = log.clone();
            spawn("controller-worker", TaskKind::Critical, async move {
                take_keys(&*work, &queue, &log, &leadership, &shutdown).await;
            })
        })
        .collect();
    shutdown.wait().await;
    queue.close();
    futures::future::join_all(tasks).await;
}

async fn take_keys<W: Work>(
    work: &W,
    queue: &WorkQueue<W::Key>,
    log: &LoopLog,
    leadership: &Leadership,
    shutdown: &Shutdown,
) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = leadership.wait_leading() => {}
        }
        let Some(taken) = queue.take().await else {
            return;
        };
        if !leadership.is_leading() {
            queue.add(taken.key().clone());
            continue;
        }
        step(work, taken, log).await;
    }
}

async fn step<W: Work>(work: &W, taken: Taken<W::Key>, log: &LoopLog) {
    let key = taken.key().clone();
    let outcome = work.step(key.clone()).await;
    let now = Timestamp::now();
    match outcome {
        Ok(Step::Done) => {
            log.succeeded(now);
            taken.succeeded();
        }
        Ok(Step::Again) => {
            log.succeeded(now);
            taken.failed();
        }
        Err(error) => {
            log.failed(now, format!("{key:?}: {error}"));
            let delay = taken.failed();
            if error.is_conflict() || error.is_not_found() {
                tracing::debug!(controller = work.name(), ?key, %error, ?delay, "lost a race, again");
            } else {
                tracing::warn!(controller = work.name(), ?key, %error, ?delay, "failed, again");
            }
        }
    }
}

/// Adds the keys that each change of a cache wakes, until shutdown.
pub fn feed<T: Cached, K: Key>(
    cache: &Cache<T>,
    queue: &WorkQueue<K>,
    shutdown: &Shutdown,
    keys: impl Fn(&Change<T>) -> Vec<K> + Send + Sync + 'static,
) {
    let (mut changes, queue, shutdown) = (cache.subscribe(), queue.clone(), shutdown.clone());
    spawn("controller-feed", TaskKind::Critical, async move {
        loop {
            let change = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                change = changes.next() => change, // cancel-safe
            };
            let Some(change) = change else { return };
            for key in keys(&change) {
                queue.add(key);
            }
        }
    });
}
