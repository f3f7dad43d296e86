//! What the pipeline counts, under upstream's names so that dashboards keep working.
//!
//! Invariant: labels come from the list of known kinds and verbs; a client cannot invent one, so the number of series is
//! bounded.

use std::time::Duration;

use corten_api::kinds;
use corten_base::admin::AdminServer;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::request::RequestInfo;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Counted {
    verb: String,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    verb: String,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    request_kind: &'static str,
}

/// Registered once per server.
#[derive(Clone)]
pub(super) struct Metrics {
    requests: Family<Counted, Counter>,
    durations: Family<Timed, Histogram, fn() -> Histogram>,
    inflight: Family<Kind, Gauge>,
    long_running: Family<Kind, Gauge>,
    rejected: Family<Kind, Counter>,
    unauthenticated: Counter,
    panics: Counter,
}

/// From a cached read to a slow list.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 10.0, 60.0,
];

impl Metrics {
    pub(super) fn register(admin: &AdminServer) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            inflight: Family::default(),
            long_running: Family::default(),
            rejected: Family::default(),
            unauthenticated: Counter::default(),
            panics: Counter::default(),
        };
        admin.with_registry(|registry| {
            let all = metrics.clone();
            registry.register(
                "apiserver_request",
                "Requests by verb, resource and code.",
                all.requests,
            );
            registry.register(
                "apiserver_request_duration_seconds",
                "Time to the response's head.",
                all.durations,
            );
            registry.register(
                "apiserver_current_inflight_requests",
                "Requests being worked on.",
                all.inflight,
            );
            registry.register(
                "apiserver_longrunning_requests",
                "Watches and streams under way.",
                all.long_running,
            );
            registry.register(
                "apiserver_rejected_requests",
                "Requests refused for load.",
                all.rejected,
            );
            registry.register(
                "apiserver_authentication_failures",
                "Requests with bad credentials.",
                all.unauthenticated,
            );
            registry.register(
                "apiserver_panics",
                "Requests that ended in a panic.",
                all.panics,
            );
        });
        metrics
    }

    pub(super) fn observe(&self, info: &RequestInfo, code: u16, took: Duration) {
        let (group, version, resource, subresource) = known(info);
        let scope = match (
            info.is_resource_request,
            info.namespace.is_empty(),
            info.name.is_empty(),
        ) {
            (false, ..) => "",
            (true, _, false) => "resource",
            (true, false, true) => "namespace",
            (true, true, true) => "cluster",
        };
        let verb = verb(info);
        let counted = Counted {
            verb: verb.clone(),
            group,
            version,
            resource,
            subresource,
            scope,
            code,
        };
        self.requests.get_or_create(&counted).inc();
        if !info.is_long_running() {
            let timed = Timed {
                verb,
                group,
                resource,
                subresource,
                scope,
            };
            self.durations
                .get_or_create(&timed)
                .observe(took.as_secs_f64());
        }
    }

    pub(super) fn inflight(&self, kind: &'static str) -> Gauge {
        self.inflight
            .get_or_create(&Kind { request_kind: kind })
            .clone()
    }

    pub(super) fn long_running(&self, kind: &'static str) -> Gauge {
        self.long_running
            .get_or_create(&Kind { request_kind: kind })
            .clone()
    }

    pub(super) fn rejected(&self, kind: &'static str) {
        self.rejected
            .get_or_create(&Kind { request_kind: kind })
            .inc();
    }

    pub(super) fn unauthenticated(&self) {
        self.unauthenticated.inc();
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }
}

fn verb(info: &RequestInfo) -> String {
    const VERBS: [&str; 9] = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "post",
    ];
    let known = VERBS.contains(&info.verb.as_str());
    if known {
        info.verb.to_ascii_uppercase()
    } else {
        "OTHER".to_owned()
    }
}

fn known(info: &RequestInfo) -> (&'static str, &'static str, &'static str, &'static str) {
    let found = kinds::registry().resource(&info.api_group, &info.api_version, &info.resource);
    let Some(descriptor) = found.filter(|_| info.is_resource_request) else {
        return ("", "", "", "");
    };
    let subresource = descriptor
        .subresource(&info.subresource)
        .map_or("", |subresource| subresource.name);
    (
        descriptor.group,
        descriptor.version,
        descriptor.resource,
        subresource,
    )
}
