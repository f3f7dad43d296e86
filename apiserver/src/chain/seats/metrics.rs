//! What is counted of the fair queues, under upstream's names, and what one schema's requests have in common.
//!
//! Invariant: labels are the names of schemas and levels that exist; series of what is gone are removed, so their number is
//! that of the objects.

use std::time::Duration;

use corten_base::admin::AdminServer;
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::fairness::classify::Id;
use crate::fairness::{Fairness, Refusal};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Upstream's.
const BUCKETS: [f64; 13] = [
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    priority_level: String,
    flow_schema: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    priority_level: String,
    flow_schema: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    priority_level: String,
    flow_schema: String,
    execute: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Level {
    priority_level: String,
}

/// Registered once per server.
pub(super) struct FlowMetrics {
    waiting: Family<Labels, Gauge>,
    executing: Family<Labels, Gauge>,
    dispatched: Family<Labels, Counter>,
    refused: Family<Refused, Counter>,
    waits: Family<Waited, Histogram, fn() -> Histogram>,
    nominal: Family<Level, Gauge>,
    limit: Family<Level, Gauge>,
}

/// What all requests of one schema share, looked up once.
pub(super) struct Route {
    schema_uid: HeaderValue,
    level_uid: HeaderValue,
    labels: Labels,
    waiting: Gauge,
    executing: Gauge,
    dispatched: Counter,
    waits: Histogram,
    waits_in_vain: Histogram,
}

impl Default for Route {
    /// Of requests whose schema nobody knows; nobody sees what is counted of them.
    fn default() -> Self {
        Self {
            schema_uid: HeaderValue::from_static(""),
            level_uid: HeaderValue::from_static(""),
            labels: Labels::default(),
            waiting: Gauge::default(),
            executing: Gauge::default(),
            dispatched: Counter::default(),
            waits: Histogram::new(BUCKETS),
            waits_in_vain: Histogram::new(BUCKETS),
        }
    }
}

impl FlowMetrics {
    pub(super) fn register(admin: &AdminServer) -> Self {
        let metrics = Self {
            waiting: Family::default(),
            executing: Family::default(),
            dispatched: Family::default(),
            refused: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            nominal: Family::default(),
            limit: Family::default(),
        };
        admin.with_registry(|registry| {
            let registry = registry.sub_registry_with_prefix("apiserver_flowcontrol");
            registry.register(
                "current_inqueue_requests",
                "Requests that wait for seats.",
                metrics.waiting.clone(),
            );
            registry.register(
                "current_executing_requests",
                "Requests that have seats; of watches, those that begin.",
                metrics.executing.clone(),
            );
            registry.register(
                "dispatched_requests",
                "Requests that got their seats.",
                metrics.dispatched.clone(),
            );
            registry.register(
                "rejected_requests",
                "Requests that got no seats.",
                metrics.refused.clone(),
            );
            registry.register(
                "request_wait_duration_seconds",
                "How long requests waited for seats.",
                metrics.waits.clone(),
            );
            registry.register(
                "nominal_limit_seats",
                "Seats that a level's shares give it.",
                metrics.nominal.clone(),
            );
            registry.register(
                "current_limit_seats",
                "Seats that a level has now, with what is lent.",
                metrics.limit.clone(),
            );
        });
        metrics
    }

    /// Shows the seats of all levels as they are now.
    pub(super) fn show_levels(&self, core: &Fairness) {
        self.nominal.clear();
        self.limit.clear();
        for name in core.level_names() {
            let Some(usage) = core.usage(name) else {
                continue;
            };
            let level = Level {
                priority_level: name.to_owned(),
            };
            self.nominal.get_or_create(&level).set(usage.nominal.into());
            self.limit.get_or_create(&level).set(usage.limit.into());
        }
    }

    pub(super) fn refused(&self, route: &Route, refusal: Refusal) {
        let reason = refusal.reason();
        self.refused
            .get_or_create(&route.labels.refused(reason))
            .inc();
    }

    /// Removes the series of the routes that are not among the new ones.
    pub(super) fn forget<'a>(&self, before: impl Iterator<Item = &'a Route>, now: &[&Route]) {
        for Route { labels, .. } in before {
            if now.iter().any(|route| route.labels == *labels) {
                continue;
            }
            self.waiting.remove(labels);
            self.executing.remove(labels);
            self.dispatched.remove(labels);
            for refusal in [
                Refusal::QueueFull,
                Refusal::ConcurrencyLimit,
                Refusal::TimedOut,
            ] {
                self.refused.remove(&labels.refused(refusal.reason()));
            }
            for execute in ["true", "false"] {
                self.waits.remove(&labels.waited(execute));
            }
        }
    }
}

impl Labels {
    fn refused(&self, reason: &'static str) -> Refused {
        Refused {
            priority_level: self.priority_level.clone(),
            flow_schema: self.flow_schema.clone(),
            reason,
        }
    }

    fn waited(&self, execute: &'static str) -> Waited {
        Waited {
            priority_level: self.priority_level.clone(),
            flow_schema: self.flow_schema.clone(),
            execute,
        }
    }
}

impl Route {
    pub(super) fn new(metrics: &FlowMetrics, schema: &Id, level: &str, level_uid: &str) -> Self {
        // Clients know levels and schemas by uid only: names may tell how little somebody counts.
        let uid = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
        let labels = Labels {
            priority_level: level.to_owned(),
            flow_schema: (*schema.name).to_owned(),
        };
        // Each in a statement of its own: a family stays locked for as long as what it gives is borrowed.
        let waiting = metrics.waiting.get_or_create(&labels).clone();
        let executing = metrics.executing.get_or_create(&labels).clone();
        let dispatched = metrics.dispatched.get_or_create(&labels).clone();
        let waits = metrics.waits.get_or_create(&labels.waited("true")).clone();
        let waits_in_vain = metrics.waits.get_or_create(&labels.waited("false")).clone();
        Self {
            schema_uid: uid(&schema.uid),
            level_uid: uid(level_uid),
            labels,
            waiting,
            executing,
            dispatched,
            waits,
            waits_in_vain,
        }
    }

    /// Tells the client which way its request went.
    pub(super) fn label(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.schema_uid.clone());
        headers.insert(LEVEL_UID, self.level_uid.clone());
    }

    pub(super) fn waits(&self) {
        self.waiting.inc();
    }

    pub(super) fn waits_no_more(&self) {
        self.waiting.dec();
    }

    pub(super) fn waited(&self, for_seats: bool, time: Duration) {
        let waits = if for_seats {
            &self.waits
        } else {
            &self.waits_in_vain
        };
        waits.observe(time.as_secs_f64());
    }

    pub(super) fn started(&self) {
        self.dispatched.inc();
        self.executing.inc();
    }

    pub(super) fn left(&self) {
        self.executing.dec();
    }
}
