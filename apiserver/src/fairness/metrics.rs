//! What flow control tells, under upstream's names. Seats are read at each scrape, the rest is counted.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use corten_base::admin::AdminServer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::gate::Gate;
use super::{Refusal, Usage};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Level {
    priority_level: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    priority_level: String,
    reason: &'static str,
}

/// From no wait at all to the longest there is.
const BUCKETS: [f64; 8] = [0.0005, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0];

/// What is counted.
pub(super) struct Counts {
    waits: Family<Level, Histogram, fn() -> Histogram>,
    rejected: Family<Rejected, Counter>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            waits: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            rejected: Family::default(),
        }
    }
}

impl Counts {
    /// A request has got its seat after so long.
    pub(super) fn dispatched(&self, level: &str, waited: Duration) {
        let level = Level {
            priority_level: level.to_owned(),
        };
        self.waits
            .get_or_create(&level)
            .observe(waited.as_secs_f64());
    }

    /// A request was not let in.
    pub(super) fn rejected(&self, level: &str, why: Refusal) {
        let labels = Rejected {
            priority_level: level.to_owned(),
            reason: why.reason(),
        };
        self.rejected.get_or_create(&labels).inc();
    }
}

pub(super) fn register(gate: &Arc<Gate>, admin: &AdminServer) {
    let shown = Shown(Arc::downgrade(gate));
    admin.with_registry(|registry| {
        registry.register(
            "apiserver_flowcontrol_request_wait_duration_seconds",
            "Time that requests waited for their turn.",
            gate.counts.waits.clone(),
        );
        registry.register(
            "apiserver_flowcontrol_rejected_requests",
            "Requests that were not let in.",
            gate.counts.rejected.clone(),
        );
        registry.register_collector(Box::new(shown));
    });
}

/// The gate, as long as it lives.
struct Shown(Weak<Gate>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

/// Name, explanation and value of what is told of each level.
type PerLevel = (&'static str, &'static str, fn(&Usage) -> u32);

const PER_LEVEL: [PerLevel; 4] = [
    (
        "apiserver_flowcontrol_current_executing_seats",
        "Seats of requests that are worked on.",
        |usage| usage.running,
    ),
    (
        "apiserver_flowcontrol_current_inqueue_seats",
        "Seats that requests in queues wait for.",
        |usage| usage.waiting,
    ),
    (
        "apiserver_flowcontrol_current_limit_seats",
        "Seats that a level has now.",
        |usage| usage.limit,
    ),
    (
        "apiserver_flowcontrol_nominal_limit_seats",
        "Seats that a level's shares give it.",
        |usage| usage.nominal,
    ),
];

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(gate) = self.0.upgrade() else {
            return Ok(());
        };
        let levels: Vec<(String, Usage)> = {
            let inner = gate.inner.lock();
            let names = inner.core.level_names();
            names
                .filter_map(|name| Some((name.to_owned(), inner.core.usage(name)?)))
                .collect()
        };
        for (name, help, value) in PER_LEVEL {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (level, usage) in &levels {
                let labels = [("priority_level", level.as_str())];
                let gauge = prometheus_client::metrics::gauge::ConstGauge::new(value(usage));
                gauge.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
