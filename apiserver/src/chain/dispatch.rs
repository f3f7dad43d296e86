//! From an authorised request to the part that answers it.
//!
//! Paths that name no resource are answered here or by `discovery` and `openapi`; resources go to `rest`, except for the
//! subresources that are streams. Invariant: every path gets an answer, if only a 404 Status.

use corten_api::status::Status;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use super::{Edge, compress, frames, respond, version};
use crate::request::{Body, Caller, empty};
use crate::{discovery, openapi};

impl Edge {
    pub(super) async fn dispatch(
        &self,
        caller: Caller,
        mut request: Request<Body>,
        grpc: bool,
    ) -> Result<Response<Body>, Status> {
        if grpc {
            return Ok((self.grpc)(request).await);
        }
        let info = std::sync::Arc::clone(&caller.info);
        if !info.is_resource_request {
            return self.path(&request);
        }
        match frames::wanted(&info, &mut request)? {
            Some(waiting) => Ok(waiting.answer(self.resource(caller, request).await?)),
            None => self.resource(caller, request).await,
        }
    }

    async fn resource(
        &self,
        caller: Caller,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let info = &caller.info;
        if info.resource == "pods" || info.subresource == "proxy" {
            match info.subresource.as_str() {
                "log" | "exec" | "attach" | "portforward" => {
                    let _gauge = Running::enter(self.metrics.long_running("stream"));
                    return Box::pin(self.streaming.serve(&caller, request)).await;
                }
                "proxy" => {
                    let _gauge = Running::enter(self.metrics.long_running("proxy"));
                    return Box::pin(self.streaming.proxy(&caller, request)).await;
                }
                _ => {}
            }
        }
        let gzip = matches!(info.verb.as_str(), "get" | "list")
            && compress::accepts_gzip(request.headers());
        let response = (self.rest)(request).await;
        Ok(if gzip {
            compress::apply(response)
        } else {
            response
        })
    }

    fn path(&self, request: &Request<Body>) -> Result<Response<Body>, Status> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(Status::method_not_supported());
        }
        let path = request.uri().path();
        match path.trim_end_matches('/') {
            "" => return Ok(respond::json(&json!({"paths": discovery::paths()}))),
            "/version" => return Ok(respond::json(&version::document())),
            "/.well-known/openid-configuration" => return self.openid(request, true),
            "/openid/v1/jwks" => return self.openid(request, false),
            _ => {}
        }
        if path == "/api"
            || path.starts_with("/api/")
            || path == "/apis"
            || path.starts_with("/apis/")
        {
            return discovery::serve(request);
        }
        if path.starts_with("/openapi/") {
            return openapi::serve(request);
        }
        let answer = self
            .admin
            .handle(path, request.uri().query())
            .ok_or_else(Status::no_such_path)?;
        Ok(answer.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
    }

    fn openid(
        &self,
        request: &Request<Body>,
        configuration: bool,
    ) -> Result<Response<Body>, Status> {
        let tokens = self
            .authenticator
            .tokens
            .as_ref()
            .ok_or_else(Status::no_such_path)?;
        let host = request
            .headers()
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = host
            .or_else(|| request.uri().authority().map(http::uri::Authority::as_str))
            .unwrap_or("localhost");
        Ok(match configuration {
            true => respond::json(&tokens.openid_configuration(host)),
            false => {
                let mut response = respond::json(&tokens.jwks());
                let kind = http::HeaderValue::from_static("application/jwk-set+json");
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, kind);
                response
            }
        })
    }
}

/// Counts something while it is being set up.
struct Running(prometheus_client::metrics::gauge::Gauge);

impl Running {
    fn enter(gauge: prometheus_client::metrics::gauge::Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// 304 for a client that has the document already.
pub(crate) fn not_modified(etag: &http::HeaderValue) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
        .headers_mut()
        .insert(http::header::ETAG, etag.clone());
    response
}
