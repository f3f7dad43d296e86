//! What runners count, labelled by controller. Registered once per process; each runner takes its own handle.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels = [(&'static str, &'static str); 1];

/// The metrics of all runners of a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    depth: Family<Labels, Gauge>,
    queue_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    work_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    runs: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    stale: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            depth: Family::default(),
            queue_seconds: Family::new_with_constructor(latency),
            work_seconds: Family::new_with_constructor(latency),
            runs: Family::default(),
            errors: Family::default(),
            stale: Family::default(),
        }
    }
}

/// 0.1 ms to about 3 minutes.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 21))
}

impl Metrics {
    /// Registers under the names that upstream's work queues have, where they mean the same.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("workqueue_depth", "Keys ready", self.depth.clone());
        registry.register(
            "workqueue_queue_duration_seconds",
            "Time that keys were ready before being taken",
            self.queue_seconds.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "Time that a run took",
            self.work_seconds.clone(),
        );
        registry.register("corten_controller_runs", "Runs", self.runs.clone());
        registry.register(
            "corten_controller_errors",
            "Actions that failed",
            self.errors.clone(),
        );
        registry.register(
            "corten_controller_stale_runs",
            "Runs begun although own writes were not seen",
            self.stale.clone(),
        );
    }

    pub(super) fn controller(&self, name: &'static str) -> ControllerMetrics {
        let labels = [("name", name)];
        ControllerMetrics {
            depth: self.depth.get_or_create(&labels).clone(),
            queue_seconds: self.queue_seconds.get_or_create(&labels).clone(),
            work_seconds: self.work_seconds.get_or_create(&labels).clone(),
            runs: self.runs.get_or_create(&labels).clone(),
            errors: self.errors.get_or_create(&labels).clone(),
            stale: self.stale.get_or_create(&labels).clone(),
        }
    }
}

/// One controller's share.
#[derive(Clone, Debug)]
pub(super) struct ControllerMetrics {
    depth: Gauge,
    queue_seconds: Histogram,
    work_seconds: Histogram,
    runs: Counter,
    errors: Counter,
    stale: Counter,
}

impl ControllerMetrics {
    pub(super) fn depth(&self, depth: usize) {
        self.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    pub(super) fn taken(&self, queued: Duration) {
        self.queue_seconds.observe(queued.as_secs_f64());
    }

    pub(super) fn ran(&self, took: Duration, failed: usize) {
        self.work_seconds.observe(took.as_secs_f64());
        self.runs.inc();
        self.errors.inc_by(failed as u64);
    }

    pub(super) fn stale(&self) {
        self.stale.inc();
    }
}
