//! Paths to handlers. Errors are plain text with a status code: the API server makes Statuses of them.

use std::sync::Arc;

use bytes::Bytes;
use corten_base::admin::AdminServer;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::query::{Query, decode};
use super::{logs, port_forward, upgrade};
use crate::traits::{AccessError, ContainerView, PodAccess, PodView, StreamRequest};

/// A streamed or whole answer.
pub(super) type Body = BoxBody<Bytes, std::io::Error>;

/// What one connection may ask for.
#[derive(Clone)]
pub(super) struct Router {
    pub(super) access: Arc<dyn PodAccess>,
    pub(super) admin: AdminServer,
    pub(super) allowed: bool,
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl From<AccessError> for Refusal {
    fn from(error: AccessError) -> Self {
        let code = match &error {
            AccessError::PodNotFound(_) | AccessError::ContainerNotFound(_) => {
                StatusCode::NOT_FOUND
            }
            AccessError::NotRunning(_) => StatusCode::BAD_REQUEST,
            AccessError::Runtime(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(code, error.to_string())
    }
}

pub(super) fn text(code: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(message));
    *response.status_mut() = code;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

impl Router {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if matches!(path.as_str(), "/healthz" | "/livez" | "/readyz")
            && let Some(response) = self.admin.handle(&path, request.uri().query())
        {
            return response.map(|body| body.map_err(|never| match never {}).boxed());
        }
        if !self.allowed {
            return text(
                StatusCode::FORBIDDEN,
                "this port is for the API server: send its client certificate\n",
            );
        }
        match self.dispatch(&path, request).await {
            Ok(response) => response,
            Err(Refusal(code, message)) => text(code, message),
        }
    }

    async fn dispatch(
        &self,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match parts.as_slice() {
            ["containerLogs", namespace, pod, container] if request.method() == Method::GET => {
                let (pod, container) = self.find(namespace, pod, container)?;
                logs::serve(&self.access, &pod, &container, &query).await
            }
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                let (_, container) = self.find(namespace, pod, container)?;
                let command = query.all("command");
                if command.is_empty() {
                    return Err(Refusal(
                        StatusCode::BAD_REQUEST,
                        "you must provide at least one command".to_owned(),
                    ));
                }
                let wanted = streams(&query);
                let id = running(&container)?;
                let session = self.access.exec(&id, &command, &wanted);
                upgrade::remote(request, &wanted, session).await
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                let (_, container) = self.find(namespace, pod, container)?;
                let wanted = StreamRequest {
                    tty: container.tty,
                    ..streams(&query)
                };
                let id = running(&container)?;
                let session = self.access.attach(&id, &wanted);
                upgrade::remote(request, &wanted, session).await
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                let view = self.pod(namespace, pod)?;
                port_forward::serve(request, view)
            }
            ["metrics"] => {
                let response = self.admin.handle("/metrics", None).unwrap_or_default();
                Ok(response.map(|body| body.map_err(|never| match never {}).boxed()))
            }
            ["pods"] => Ok(self.list()),
            _ => Err(Refusal(
                StatusCode::NOT_FOUND,
                format!("the node agent has nothing at {path}"),
            )),
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<PodView, Refusal> {
        self.access.find(namespace, name).ok_or_else(|| {
            Refusal(
                StatusCode::NOT_FOUND,
                format!("pod {name:?} does not run on this node"),
            )
        })
    }

    fn find(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<(PodView, ContainerView), Refusal> {
        let view = self.pod(namespace, pod)?;
        let found = view
            .containers
            .iter()
            .find(|c| c.name == container)
            .cloned();
        match found {
            Some(found) => Ok((view, found)),
            None => Err(Refusal(
                StatusCode::NOT_FOUND,
                format!("container {container:?} in pod {pod:?} is not available"),
            )),
        }
    }

    /// The pods of this node as this agent sees them, as a v1 PodList.
    fn list(&self) -> Response<Body> {
        let items: Vec<_> = self
            .access
            .pods()
            .into_iter()
            .map(|view| view.pod)
            .collect();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items});
        let mut response = Response::new(full(list.to_string()));
        response.headers_mut().insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        response
    }
}

/// kubelet's names for the streams, and the API's.
fn streams(query: &Query) -> StreamRequest {
    let tty = query.flag(&["tty"]);
    StreamRequest {
        stdin: query.flag(&["input", "stdin"]),
        stdout: query.flag(&["output", "stdout"]),
        // A terminal has one output.
        stderr: !tty && query.flag(&["error", "stderr"]),
        tty,
    }
}

fn running(container: &ContainerView) -> Result<String, Refusal> {
    if container.running && !container.id.is_empty() {
        return Ok(container.id.clone());
    }
    let reason = container
        .reason
        .as_deref()
        .map(|r| format!(": {r}"))
        .unwrap_or_default();
    Err(Refusal(
        StatusCode::BAD_REQUEST,
        format!("container {:?} is not running{reason}", container.name),
    ))
}
