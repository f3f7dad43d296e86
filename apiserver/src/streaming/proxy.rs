//! pods/proxy, services/proxy and nodes/proxy: any HTTP request, passed on to a pod, an endpoint of a Service or a node.
//!
//! The right to do so was judged before. What comes back is passed on as it is, but for links in HTML pages, which would lead
//! out of the proxy. Over https no certificate is verified, as upstream does: pods have none that could be. Invariant: no credential
//! of the caller goes along.

mod destination;
mod html;

use bytes::Bytes;
use corten_api::meta::GroupResource;
use corten_api::status::Status;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::unverified_client_config;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{DROPPED, Streaming, agent, pipe};
use crate::chain::objects::Resource;
use crate::request::{Body, BoxError, Caller, RequestInfo, empty, full};
use destination::{Destination, Name};

/// A page that is longer is passed on with its links as they are.
const PAGE_BYTES_MAX: usize = 8 << 20;

impl Streaming {
    /// Passes a request on.
    pub async fn proxy(
        &self,
        caller: &Caller,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let info = &caller.info;
        let raw = request.uri().path();
        let behind = behind(raw, info);
        if behind.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
            return to_the_root(request.uri());
        }
        let name = Name::parse(&info.name).ok_or_else(|| {
            Status::bad_request(format!("invalid {} request {:?}", info.resource, info.name))
        })?;
        let prefix = raw[..raw.len() - behind.len()].to_owned();
        let behind = behind.to_owned();
        let connection = match info.resource.as_str() {
            "pods" => {
                dial(&destination::of_pod(
                    &self.found("pods", info, &name).await?,
                    &name,
                )?)
                .await?
            }
            "services" => {
                let service = self.found("services", info, &name).await?;
                let endpoints = self.found("endpoints", info, &name).await?;
                dial(&destination::of_service(
                    &service,
                    &endpoints,
                    &name,
                    rand::random(),
                )?)
                .await?
            }
            "nodes" => self.node(info, &name).await?,
            _ => return Err(Status::method_not_supported()),
        };
        pass_on(connection, request, &prefix, &behind).await
    }

    async fn found(
        &self,
        resource: &'static str,
        info: &RequestInfo,
        name: &Name<'_>,
    ) -> Result<Value, Status> {
        let of = Resource::core(resource);
        let found = self.objects.latest(of, &info.namespace, name.name).await?;
        found.ok_or_else(|| Status::not_found(&GroupResource::new("", resource), name.name))
    }

    /// A node's agent, or another port of the node.
    async fn node(&self, info: &RequestInfo, name: &Name<'_>) -> Result<agent::Connection, Status> {
        let node = self.found("nodes", info, name).await?;
        let endpoint = agent::endpoint(&node)
            .ok_or_else(|| Status::internal(format!("node {} has no address", name.name)))?;
        let (address, agents_port) = endpoint;
        let port = destination::number(name.port)?;
        if port.is_none_or(|port| port == agents_port) {
            let agents = self.agents.as_ref().ok_or_else(|| {
                Status::service_unavailable(
                    "this server has no certificate to reach node agents with",
                )
            })?;
            return agents.connect(name.name, &node).await;
        }
        dial(&Destination {
            address,
            port: port.unwrap_or(agents_port),
            tls: name.is_tls(),
        })
        .await
    }
}

/// What follows `.../proxy`, as the client wrote it: empty, or from a slash on.
fn behind<'a>(raw: &'a str, info: &RequestInfo) -> &'a str {
    let all = raw.trim_matches('/').split('/').count();
    let before = all - info.parts.len().saturating_sub(3);
    let mut rest = raw;
    for _ in 0..before {
        rest = rest.trim_start_matches('/');
        rest = &rest[rest.find('/').unwrap_or(rest.len())..];
    }
    rest
}

/// Pages refer to their neighbours: the root needs its slash.
fn to_the_root(uri: &Uri) -> Result<Response<Body>, Status> {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!("{}/{query}", uri.path());
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(&location).map_err(Status::internal)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

async fn dial(to: &Destination) -> Result<agent::Connection, Status> {
    let host = format!("{}:{}", to.address, to.port);
    let refused = |error: String| {
        Status::service_unavailable(format!(
            "error trying to reach service: dial tcp {host}: {error}"
        ))
    };
    let connect = TcpStream::connect((to.address.as_str(), to.port));
    let stream = tokio::time::timeout(agent::CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| refused("i/o timeout".to_owned()))?
        .map_err(|error| refused(error.to_string()))?;
    if !to.tls {
        return connection(stream, host).await;
    }
    let name = ServerName::try_from(to.address.clone()).map_err(Status::internal)?;
    let config = unverified_client_config().map_err(Status::internal)?;
    let handshake = TlsConnector::from(config).connect(name, stream);
    let stream = tokio::time::timeout(agent::CONNECT_TIMEOUT, handshake)
        .await
        .map_err(|_| refused("TLS handshake timeout".to_owned()))?
        .map_err(|error| refused(error.to_string()))?;
    connection(stream, host).await
}

/// HTTP over what was dialled.
async fn connection<S>(stream: S, host: String) -> Result<agent::Connection, Status>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Status::internal)?;
    spawn("proxied-connection", TaskKind::Connection, async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to what is proxied ended");
        }
    });
    Ok(agent::Connection { sender, host })
}

fn headers_for(from: &HeaderMap, upgrade: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in from {
        let hop = [CONNECTION, UPGRADE, TRANSFER_ENCODING, HOST].contains(name);
        let upgrading = upgrade && (name == CONNECTION || name == UPGRADE);
        if upgrading || !(hop || DROPPED.contains(&name.as_str())) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

async fn pass_on(
    mut connection: agent::Connection,
    mut request: Request<Body>,
    prefix: &str,
    behind: &str,
) -> Result<Response<Body>, Status> {
    let upgrade = request.headers().contains_key(UPGRADE);
    let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
    let path = if behind.is_empty() { "/" } else { behind };
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let target: PathAndQuery = format!("{path}{query}").parse().map_err(Status::internal)?;
    let (head, body) = request.into_parts();
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = head.method;
    *outgoing.uri_mut() = Uri::from(target);
    *outgoing.headers_mut() = headers_for(&head.headers, upgrade);
    let host = HeaderValue::from_str(&connection.host).map_err(Status::internal)?;
    outgoing.headers_mut().insert(HOST, host);
    let answered = connection.sender.send_request(outgoing).await;
    let mut answer = answered.map_err(|error| {
        Status::service_unavailable(format!("error trying to reach service: {error}"))
    })?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client_side)) = (answer.status(), client_side) {
        let far_side = hyper::upgrade::on(&mut answer);
        spawn("stream", TaskKind::Connection, pipe(client_side, far_side));
        let (head, _) = answer.into_parts();
        return Ok(Response::from_parts(head, empty()));
    }
    back(answer, prefix, &connection.host).await
}

async fn back(
    answer: Response<Incoming>,
    prefix: &str,
    host: &str,
) -> Result<Response<Body>, Status> {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    if let Some(location) = head
        .headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        && let Some(within) = html::within(location, prefix, host)
        && let Ok(value) = HeaderValue::from_str(&within)
    {
        head.headers.insert(LOCATION, value);
    }
    let text = |name| {
        head.headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let is_page = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
        && text(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity")
        && text(CONTENT_LENGTH)
            .and_then(|length| length.parse::<usize>().ok())
            .is_none_or(|length| length <= PAGE_BYTES_MAX);
    if !is_page {
        let body = body.map_err(BoxError::from).boxed_unsync();
        return Ok(Response::from_parts(head, body));
    }
    let page = Limited::new(body, PAGE_BYTES_MAX).collect().await;
    let page = page.map_err(|error| Status::service_unavailable(error.to_string()))?;
    let page: Bytes = html::rewrite(&page.to_bytes(), prefix, host).into();
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(page.len()));
    Ok(Response::from_parts(head, full(page)))
}
