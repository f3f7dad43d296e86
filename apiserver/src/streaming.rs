//! pods/log, exec, attach and portforward, and in `proxy` the three kinds of proxying: finds the node agent of the pod and becomes a pipe to it.
//!
//! The agent speaks the streaming protocols itself (WebSocket, SPDY); here bytes are only copied. Authorization has happened
//! before, except for the right to create that a GET with an upgrade needs as well. Invariant: the agent sees our client certificate
//! and no credential of the caller, and what the agent answers is passed on as it is; a refusal becomes a Status.

mod agent;
mod container;
mod location;
mod proxy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use corten_api::meta::GroupResource;
use corten_api::status::{Reason, Status};
use corten_base::tasks::{TaskKind, spawn};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;

pub use agent::Agents;
use location::Location;

use crate::authz::live::Live;
use crate::authz::{self, Attributes};
use crate::chain::objects::{Objects, Resource};
use crate::request::{Body, Caller, empty};

/// What streams need.
pub struct Streaming {
    /// Where pods and nodes are read.
    pub objects: Arc<dyn Objects>,
    /// For the second right that upgrades need.
    pub authorizer: Arc<Live>,
    /// How agents are reached; `None` when the server has no certificate for them.
    pub agents: Option<Agents>,
}

impl Streaming {
    /// Answers a request to one of the four subresources.
    pub async fn serve(
        &self,
        caller: &Caller,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let info = &caller.info;
        let upgrade = request.headers().contains_key(UPGRADE);
        self.check_method(caller, upgrade)?;
        let agents = self.agents.as_ref().ok_or_else(|| {
            Status::service_unavailable("this server has no certificate to reach node agents with")
        })?;
        let pods = GroupResource::new("", "pods");
        // As new as what the client has seen: it may have waited for the pod elsewhere.
        let pod = self
            .objects
            .latest(Resource::core("pods"), &info.namespace, &info.name)
            .await?
            .ok_or_else(|| Status::not_found(&pods, &info.name))?;
        let query = request.uri().query().unwrap_or_default();
        let location = Location::resolve(&info.subresource, &pod, query)?;
        let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let Some(node) = self
            .node_of(node_name, &info.subresource, &info.name)
            .await?
        else {
            // A pod that no node has yet has an empty log, as upstream answers.
            return Ok(crate::chain::respond::text(StatusCode::OK, ""));
        };
        let connection = agents.connect(node_name, &node).await?;
        forward(connection, request, location, upgrade).await
    }

    /// A WebSocket opens with GET, but what it does is a creation: reading rights must not be enough.
    fn check_method(&self, caller: &Caller, upgrade: bool) -> Result<(), Status> {
        let info = &caller.info;
        if info.subresource == "log" {
            return match info.verb.as_str() {
                "get" => Ok(()),
                verb => Err(Status::method_not_allowed(
                    &GroupResource::new("", "pods"),
                    verb,
                )),
            };
        }
        if !matches!(info.verb.as_str(), "get" | "create") {
            return Err(Status::method_not_allowed(
                &GroupResource::new("", "pods"),
                &info.verb,
            ));
        }
        if !upgrade {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let question = Attributes {
            verb: "create",
            ..Attributes::of_request(&caller.user, info)
        };
        authz::require(&*self.authorizer, &question)
    }

    async fn node_of(
        &self,
        name: &str,
        subresource: &str,
        pod: &str,
    ) -> Result<Option<Value>, Status> {
        if name.is_empty() {
            return match subresource {
                "log" => Ok(None),
                _ => Err(Status::bad_request(format!(
                    "pod {pod} does not have a host assigned"
                ))),
            };
        }
        let found = self.objects.get(Resource::core("nodes"), "", name).await?;
        found
            .map(Some)
            .ok_or_else(|| Status::not_found(&GroupResource::new("", "nodes"), name))
    }
}

/// Of an agent's refusal, what is passed on; as upstream.
const REFUSAL_BYTES_MAX: usize = 50_000;

/// Headers that belong to one hop, or that would tell the agent too much.
const DROPPED: [&str; 7] = [
    "authorization",
    "cookie",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "accept-encoding",
];

fn copied_headers(from: &HeaderMap, upgrade: bool) -> HeaderMap {
    let hop: [HeaderName; 4] = [CONNECTION, UPGRADE, TRANSFER_ENCODING, HOST];
    let mut headers = HeaderMap::new();
    for (name, value) in from {
        let upgrading = upgrade && (name == CONNECTION || name == UPGRADE);
        if upgrading
            || !(hop.contains(name) || name == CONTENT_LENGTH || DROPPED.contains(&name.as_str()))
        {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

async fn forward(
    mut connection: agent::Connection,
    mut request: Request<Body>,
    location: Location,
    upgrade: bool,
) -> Result<Response<Body>, Status> {
    let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
    let mut outgoing = Request::new(empty());
    *outgoing.method_mut() = request.method().clone();
    *outgoing.uri_mut() = location.uri().map_err(Status::internal)?;
    *outgoing.headers_mut() = copied_headers(request.headers(), upgrade);
    if let Ok(host) = connection.host.parse() {
        outgoing.headers_mut().insert(HOST, host);
    }
    let answered = connection.sender.send_request(outgoing).await;
    let mut answer = answered.map_err(|error| {
        Status::internal(format!(
            "error talking to the node agent at {}: {error}",
            connection.host
        ))
    })?;
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let (true, Some(client_side)) = (switched, client_side) {
        let agent_side = hyper::upgrade::on(&mut answer);
        spawn(
            "stream",
            TaskKind::Connection,
            pipe(client_side, agent_side),
        );
        let (head, _) = answer.into_parts();
        let mut response = Response::new(empty());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        return Ok(response);
    }
    if !upgrade && !answer.status().is_success() {
        return Err(refusal(answer).await);
    }
    let (mut head, body) = answer.into_parts();
    for name in [CONNECTION, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(
        head,
        body.map_err(Into::into).boxed_unsync(),
    ))
}

/// The agent says no in plain words; clients of the API expect a Status.
async fn refusal(answer: Response<Incoming>) -> Status {
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX)
        .collect()
        .await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
    let text = text.unwrap_or_default();
    match code {
        400 => Status::bad_request(text),
        404 => Status::with_code(code, Reason::NotFound, text),
        503 => Status::service_unavailable(text),
        code => {
            let message = format!(
                "an error on the server ({text:?}) has prevented the request from succeeding"
            );
            Status::with_code(code, Reason::InternalError, message)
        }
    }
}

/// Copies both ways until one side is done; the other then sees the end.
async fn pipe(client: hyper::upgrade::OnUpgrade, agent: hyper::upgrade::OnUpgrade) {
    let (client, agent) = match futures::try_join!(client, agent) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "stream was not upgraded");
            return;
        }
    };
    let (mut client, mut agent) = (TokioIo::new(client), TokioIo::new(agent));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut agent).await {
        tracing::debug!(%error, "stream ended");
    }
}
