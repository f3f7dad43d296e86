//! Spans over OTLP: a collector that the test runs gets, from a cluster that is told of it, one trace for a request on its
//! way through the API into the store, and one for each run of a reconciler with the requests that it made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use corten_base::tasks::{TaskKind, spawn};
use corten_e2e::cluster::step;
use corten_e2e::machine::{Machine, output};
use corten_e2e::wait::until;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|r| r.attributes).unwrap_or_default();
            let names = attributes.into_iter().filter(|a| a.key == "service.name");
            let mut services = self.services.lock().expect("no holder panics");
            services.extend(names.map(|name| format!("{:?}", name.value)));
            let mut spans = self.spans.lock().expect("no holder panics");
            spans.extend(resource.scope_spans.into_iter().flat_map(|s| s.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_from_the_api_to_the_store() {
    let machine = Machine::make("trace", 97).expect("a machine");
    let collector = Collector::default();
    let socket = tokio::net::TcpListener::bind((machine.outside(), 0))
        .await
        .expect("bound");
    let endpoint = format!("http://{}", socket.local_addr().expect("an address"));
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(socket));
    spawn("collector", TaskKind::Background, server);
    let ran = tokio::task::spawn_blocking(move || {
        run(&machine, &endpoint, &collector).unwrap_or_else(|error| panic!("{error:#}"));
    });
    ran.await.expect("no panic");
}

fn run(machine: &Machine, endpoint: &str, collector: &Collector) -> Result<()> {
    machine.up(&["--otlp-endpoint", endpoint])?;
    machine.kubectl(&["create", "configmap", "traced", "--from-literal=a=b"])?;
    step("the request's trace reaches from the API into the store");
    until("the trace", Duration::from_secs(30), || {
        let spans = collector.spans.lock().expect("no holder panics").clone();
        request_trace(&spans)?;
        reconciler_trace(&spans)
    })?;
    let services = collector.services.lock().expect("no holder panics").clone();
    ensure!(
        services.iter().any(|name| name.contains("corten")),
        "{services:?}"
    );
    output(&mut machine.corten(&["down"]))?;
    Ok(())
}

fn request_trace(spans: &[Span]) -> Result<(), String> {
    let create = "api POST /api/v1/namespaces/default/configmaps";
    let request = named(spans, create)
        .next()
        .ok_or(format!("no {create:?} among {}", spans.len()))?;
    if !request.parent_span_id.is_empty() {
        return Err("kubectl sends no trace, and yet the request has a parent".into());
    }
    let write = "store POST /etcdserverpb.KV/Txn";
    let mut writes = named(spans, write);
    match writes.find(|span| span.trace_id == request.trace_id) {
        Some(span) if span.parent_span_id == request.span_id => Ok(()),
        Some(_) => Err("the write is not the request's child".into()),
        None => Err(format!("no {write:?} in the request's trace")),
    }
}

/// A run of some reconciler with a request of its own, which in turn wrote to the store.
fn reconciler_trace(spans: &[Span]) -> Result<(), String> {
    let by_id: HashMap<&[u8], &Span> = spans.iter().map(|s| (s.span_id.as_slice(), s)).collect();
    let parent = |span: &Span| by_id.get(span.parent_span_id.as_slice()).copied();
    let found = spans
        .iter()
        .filter(|span| span.name.starts_with("store "))
        .any(|write| {
            let request = parent(write).filter(|span| span.name.starts_with("api "));
            request
                .and_then(parent)
                .is_some_and(|run| run.name.starts_with("reconcile "))
        });
    if found {
        Ok(())
    } else {
        Err("no trace of a reconciler's write".into())
    }
}

fn named<'a>(spans: &'a [Span], name: &'a str) -> impl Iterator<Item = &'a Span> {
    spans.iter().filter(move |span| span.name == name)
}
