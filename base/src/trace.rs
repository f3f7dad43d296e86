//! Spans that leave the process over OTLP, and the header (`traceparent`, W3C Trace Context) that joins those of several
//! processes into one trace.
//!
//! Not for logs: spans made here are of level debug and of one target, so they cost one comparison where nothing is
//! exported. Invariant: a request starts a trace of its own unless its sender says which it belongs to; the life of a task
//! is never part of one.

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of every span that is exported.
pub const TARGET: &str = "corten::span";
/// The header that names a trace and the span that asks.
pub const HEADER: &str = "traceparent";

/// The span of a request that was received: `kind` says by whom (`api`, `store`), `path` is without its query, which may
/// hold secrets. The answer's code is recorded with [`answered`].
pub fn request(kind: &'static str, method: &str, path: &str, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.name = format!("{kind} {method} {path}"),
        otel.kind = "server",
        http.request.method = method,
        url.path = path,
        http.response.status_code = Empty,
    );
    if !span.is_disabled() {
        // A malformed header begins a new trace.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
    span
}

/// Records the code of an answer.
pub fn answered(span: &Span, code: u16) {
    span.record("http.response.status_code", code);
}

/// The span of one run of a loop over one thing: a reconciler over a key, the scheduler over a pod, an agent over a pod.
pub fn run(kind: &'static str, name: &str, key: &dyn std::fmt::Debug) -> Span {
    tracing::debug_span!(
        target: TARGET,
        parent: None,
        "run",
        otel.name = format!("{kind} {name}"),
        corten.key = ?key,
    )
}

/// The value of [`HEADER`] for a request made within the current span; none where nothing is exported.
pub fn traceparent() -> Option<String> {
    let current = Span::current();
    if current.is_disabled() {
        return None;
    }
    let context = current.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
