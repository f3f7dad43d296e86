//! From an HTTP request to a stream: which protocol the client and we both speak, the 101 answer, and the task that carries
//! on behind it. A session is opened before the 101, so that its errors are still plain HTTP errors.

use std::future::Future;

use corten_base::tasks::{TaskKind, spawn};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::route::{Body, Refusal, full};
use super::{spdy, websocket};
use crate::traits::{AccessError, StreamRequest, StreamSession};

/// How SPDY clients say which versions they speak, and hear which was chosen.
pub(super) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Ours for remote commands, best first.
const WEBSOCKET_COMMAND: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
const SPDY_COMMAND: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What the client wants to change to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    WebSocket,
    Spdy,
}

pub(super) fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let upgrade = headers.get(UPGRADE)?.to_str().ok()?.to_ascii_lowercase();
    match upgrade.as_str() {
        "websocket" => Some(Wanted::WebSocket),
        "spdy/3.1" => Some(Wanted::Spdy),
        _ => None,
    }
}

/// The first of `ours` that the client offers under `header`.
pub(super) fn negotiate(
    headers: &HeaderMap,
    header: &HeaderName,
    ours: &[&'static str],
) -> Option<&'static str> {
    let offered: Vec<&str> = headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    ours.iter()
        .find(|protocol| offered.contains(protocol))
        .copied()
}

/// Exec and attach over either protocol.
pub(super) async fn remote(
    mut request: Request<Incoming>,
    streams: &StreamRequest,
    session: impl Future<Output = Result<StreamSession, AccessError>>,
) -> Result<Response<Body>, Refusal> {
    let bad = |message: &str| Refusal(StatusCode::BAD_REQUEST, message.to_owned());
    let kind = wanted(request.headers())
        .ok_or_else(|| bad("you must ask for an upgrade to WebSocket or SPDY/3.1"))?;
    let (header, ours) = match kind {
        Wanted::WebSocket => (SEC_WEBSOCKET_PROTOCOL, WEBSOCKET_COMMAND),
        Wanted::Spdy => (STREAM_PROTOCOL, SPDY_COMMAND),
    };
    let protocol = negotiate(request.headers(), &header, ours).ok_or_else(|| {
        Refusal(
            StatusCode::FORBIDDEN,
            format!(
                "no protocol in common; this server speaks {}",
                ours.join(", ")
            ),
        )
    })?;
    let response = match kind {
        Wanted::WebSocket => websocket_response(request.headers(), protocol)?,
        Wanted::Spdy => spdy_response(protocol),
    };
    let session = session.await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let streams = streams.clone();
    spawn("remote-command", TaskKind::Connection, async move {
        match upgrade.await {
            Ok(upgraded) => match kind {
                Wanted::WebSocket => {
                    let framing = websocket::Framing::of(protocol);
                    websocket::remote(websocket::accept(upgraded).await, framing, session).await
                }
                Wanted::Spdy => {
                    spdy::command::remote(hyper_util::rt::TokioIo::new(upgraded), &streams, session)
                        .await
                }
            },
            Err(error) => tracing::debug!(%error, "the client left before the upgrade"),
        }
    });
    Ok(response)
}

pub(super) fn websocket_response(
    headers: &HeaderMap,
    protocol: &'static str,
) -> Result<Response<Body>, Refusal> {
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| {
        Refusal(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key is missing".to_owned(),
        )
    })?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut response = switching(HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

pub(super) fn spdy_response(protocol: &'static str) -> Response<Body> {
    let mut response = switching(HeaderValue::from_static("SPDY/3.1"));
    response
        .headers_mut()
        .insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

fn switching(to: HeaderValue) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, to);
    response
}
