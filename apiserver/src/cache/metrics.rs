//! What the watch cache holds, read at each scrape.
//!
//! Invariant: labels are the names of known resources; scraping takes no lock for longer than it takes to read a number.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use corten_base::admin::{AdminServer, LoopReport};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{Caches, ResourceCache};

pub(super) fn register(caches: &Arc<Caches>, admin: &AdminServer) {
    let shown = Shown(Arc::downgrade(caches));
    admin.with_registry(|registry| registry.register_collector(Box::new(shown)));
    let followed = Arc::downgrade(caches);
    admin.loops().add("watch-cache", move || {
        let Some(caches) = followed.upgrade() else {
            return LoopReport::default();
        };
        let history: usize = caches
            .by_prefix
            .values()
            .map(|cache| cache.history_bytes())
            .sum();
        LoopReport {
            note: format!(
                "at revision {}, {} watchers, {history} bytes of history",
                caches.observed(),
                caches.budget.watchers()
            ),
            ..caches.log.report()
        }
    });
}

/// The caches, as long as they live.
struct Shown(Weak<Caches>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

/// Name, explanation and value of what is counted per resource.
type PerResource = (&'static str, &'static str, fn(&ResourceCache) -> usize);

const PER_RESOURCE: [PerResource; 4] = [
    (
        "apiserver_watch_cache_objects",
        "Objects in the watch cache.",
        ResourceCache::objects,
    ),
    (
        "apiserver_watch_cache_object_bytes",
        "Bytes of the objects in the watch cache.",
        ResourceCache::object_bytes,
    ),
    (
        "apiserver_watch_cache_events",
        "Events that are remembered for watches that resume.",
        ResourceCache::events,
    ),
    (
        "apiserver_watch_cache_history_bytes",
        "Bytes of old states and encodings that are remembered.",
        ResourceCache::history_bytes,
    ),
];

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(caches) = self.0.upgrade() else {
            return Ok(());
        };
        for (name, help, value) in PER_RESOURCE {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for cache in caches.by_prefix.values() {
                let labels = [
                    ("group", cache.descriptor.group),
                    ("resource", cache.descriptor.resource),
                ];
                family.encode_family(&labels)?.encode_gauge(&value(cache))?;
            }
        }
        let budget = &caches.budget;
        for (name, help, value) in [
            (
                "apiserver_watch_cache_live_event_bytes",
                "Bytes of all events that are remembered or wait for a watcher.",
                budget.live(),
            ),
            (
                "apiserver_registered_watchers",
                "Watches under way.",
                budget.watchers(),
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        let mut cuts: MetricEncoder<'_> = encoder.encode_descriptor(
            "apiserver_watch_cuts",
            "Watchers that were too far behind and had to list again.",
            None,
            MetricType::Counter,
        )?;
        for (why, count) in [("slow", &budget.cut_slow), ("budget", &budget.cut_for_room)] {
            cuts.encode_family(&[("reason", why)])?
                .encode_counter::<NoLabelSet, u64, u64>(&count.load(Ordering::Relaxed), None)?;
        }
        Ok(())
    }
}
