//! Plain HTTP on the client port, beside gRPC: health, version, metrics, and etcd's API as JSON.
//!
//! Not the services: the gateway calls them as any client would, tokens and certificates included. Invariant: health,
//! version and metrics show nothing of what is stored, since they ask nobody who it is.

mod frames;
mod gateway;
mod health;
mod paths;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use corten_base::admin::AdminServer;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::replica::Replica;
use crate::services::{ETCD_VERSION, STORAGE_VERSION};
pub(crate) use gateway::Gateway;

/// The services with everything else that the client port answers.
pub(crate) fn face(routes: Routes, replica: Arc<dyn Replica>, admin: AdminServer) -> Routes {
    let face = Face {
        shared: Arc::new(Shared {
            gateway: Gateway::new(),
            replica,
            admin,
        }),
        routes: routes.clone().prepare(),
    };
    Routes::from(routes.into_axum_router().fallback_service(face))
}

/// What is asked for when the path is no gRPC method.
#[derive(Clone)]
struct Face {
    shared: Arc<Shared>,
    routes: Routes,
}

struct Shared {
    gateway: Gateway,
    replica: Arc<dyn Replica>,
    admin: AdminServer,
}

impl<B> Service<Request<B>> for Face
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let face = self.clone();
        let request = request.map(Body::new);
        Box::pin(async move { Ok(face.answer(request).await) })
    }
}

impl Face {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        if is_grpc(&request) {
            return Status::unimplemented("").into_http();
        }
        let path = request.uri().path();
        if path.starts_with("/v3/") {
            return self.shared.gateway.answer(self.routes, request).await;
        }
        let known = matches!(path, "/health" | "/version" | "/metrics") || health::is_check(path);
        if !known {
            return text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
            let headers = answer.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        let query = request.uri().query().unwrap_or_default();
        let replica = self.shared.replica.as_ref();
        match path {
            "/health" => health::health(replica, query).await,
            "/version" => json(StatusCode::OK, version()),
            "/metrics" => match self.shared.admin.handle(path, None) {
                Some(answer) => answer.map(Body::new),
                None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
            },
            path => health::checks(replica, path, query).await,
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn version() -> Vec<u8> {
    let version = serde_json::json!({
        "etcdserver": ETCD_VERSION,
        "etcdcluster": STORAGE_VERSION,
        "storage": STORAGE_VERSION,
    });
    version.to_string().into_bytes()
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    whole(status, "application/json", body.into())
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", body.into())
}

fn whole(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::new(Full::new(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    answer
}
