//! What the scheduler counts, under upstream's names where the meaning is upstream's.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::queue::Depths;

type Labels = [(&'static str, &'static str); 1];

/// The scheduler's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<Labels, Counter>,
    pending: Family<Labels, Gauge>,
    attempt_seconds: Histogram,
    pod_seconds: Histogram,
    bind_seconds: Histogram,
    victims: Counter,
    preemptions: Counter,
    nodes: Gauge,
    dropped: Counter<u64, AtomicU64>,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            pending: Family::default(),
            // 10 µs to about 10 s.
            attempt_seconds: Histogram::new(exponential_buckets(0.000_01, 2.0, 21)),
            // 1 ms to about 35 minutes.
            pod_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 21)),
            bind_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            victims: Counter::default(),
            preemptions: Counter::default(),
            nodes: Gauge::default(),
            dropped: Counter::default(),
        };
        let m = metrics.clone();
        registry.register(
            "scheduler_schedule_attempts",
            "Attempts by result",
            m.attempts,
        );
        registry.register(
            "scheduler_pending_pods",
            "Pods waiting, by queue",
            m.pending,
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Time to decide one attempt",
            m.attempt_seconds,
        );
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Time from a pod's entering the queue to its binding",
            m.pod_seconds,
        );
        registry.register(
            "corten_scheduler_bind_duration_seconds",
            "Time of one binding call",
            m.bind_seconds,
        );
        registry.register(
            "scheduler_preemption_attempts",
            "Preemptions decided",
            m.preemptions,
        );
        registry.register(
            "corten_scheduler_preemption_victims",
            "Pods evicted",
            m.victims,
        );
        registry.register("corten_scheduler_nodes", "Nodes known", m.nodes);
        registry.register(
            "corten_scheduler_reports_dropped",
            "Conditions not written because too many were waiting",
            m.dropped,
        );
        metrics
    }

    pub(crate) fn attempt(&self, result: &'static str, took: Duration) {
        self.attempts.get_or_create(&[("result", result)]).inc();
        self.attempt_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn bound(&self, waited: Duration, call: Duration) {
        self.pod_seconds.observe(waited.as_secs_f64());
        self.bind_seconds.observe(call.as_secs_f64());
    }

    pub(crate) fn preempted(&self, victims: usize) {
        self.preemptions.inc();
        self.victims.inc_by(victims as u64);
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn depths(&self, depths: Depths, nodes: usize) {
        let set = |queue: &'static str, depth: usize| {
            self.pending
                .get_or_create(&[("queue", queue)])
                .set(i64::try_from(depth).unwrap_or(i64::MAX));
        };
        set("active", depths.ready);
        set("backoff", depths.backoff);
        set("unschedulable", depths.waiting);
        set("gated", depths.gated);
        self.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }
}
