//! Watches and logs over WebSocket, for browsers: the same answers, an event or a piece of log to a message.
//!
//! The request goes on as a plain GET; only a good answer becomes a WebSocket, any other stays what it is. Facts: logs are spoken
//! in `binary.k8s.io` (also without a protocol) or `base64.binary.k8s.io`; watches have no protocol, and JSON goes as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use corten_api::status::Status;
use corten_base::tasks::{TaskKind, spawn};
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::request::{Body, RequestInfo, empty};

const BINARY: &str = "binary.k8s.io";
const BASE64_BINARY: &str = "base64.binary.k8s.io";
/// A line that is longer than any object may be is no event.
const LINE_BYTES_MAX: usize = 64 << 20;

/// How the answer is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// As the pieces come.
    Binary,
    /// The same, in letters.
    Base64,
    /// A line of JSON each.
    Lines,
}

/// A WebSocket that waits for its answer.
pub(super) struct Waiting {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<&'static str>,
    framing: Framing,
}

/// Takes the wish for a WebSocket out of a request for a watch or a log; none when there is no such wish.
pub(super) fn wanted(
    info: &RequestInfo,
    request: &mut Request<Body>,
) -> Result<Option<Waiting>, Status> {
    let is_log = info.resource == "pods" && info.subresource == "log";
    let upgrade = request.headers().get(UPGRADE);
    let asks = upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !asks || !(is_log || info.verb == "watch") {
        return Ok(None);
    }
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Status::bad_request("Sec-WebSocket-Key is missing"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let (protocol, framing) = agreed(request.headers(), is_log)?;
    let upgrade = hyper::upgrade::on(&mut *request);
    for name in [
        CONNECTION,
        UPGRADE,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL,
    ] {
        request.headers_mut().remove(name);
    }
    Ok(Some(Waiting {
        upgrade,
        accept: accept.map_err(Status::internal)?,
        protocol,
        framing,
    }))
}

fn agreed(headers: &HeaderMap, is_log: bool) -> Result<(Option<&'static str>, Framing), Status> {
    let offered: Vec<&str> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    if !is_log {
        return Ok((None, Framing::Lines));
    }
    match &offered[..] {
        [] => Ok((None, Framing::Binary)),
        all if all.contains(&BINARY) => Ok((Some(BINARY), Framing::Binary)),
        all if all.contains(&BASE64_BINARY) => Ok((Some(BASE64_BINARY), Framing::Base64)),
        _ => Err(Status::bad_request(format!(
            "no protocol in common; logs are spoken in {BINARY} and {BASE64_BINARY}"
        ))),
    }
}

impl Waiting {
    /// The answer as a WebSocket, if it is one that can be.
    pub(super) fn answer(self, response: Response<Body>) -> Response<Body> {
        let kind = response.headers().get(http::header::CONTENT_TYPE);
        let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if response.status() != StatusCode::OK || (self.framing == Framing::Lines && !is_json) {
            return response;
        }
        let mut switching = Response::new(empty());
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switching.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        let (upgrade, framing) = (self.upgrade, self.framing);
        spawn("websocket", TaskKind::Connection, async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let io = TokioIo::new(upgraded);
                    let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
                    carry(socket, response.into_body(), framing).await;
                }
                Err(error) => tracing::debug!(%error, "the client left before the upgrade"),
            }
        });
        switching
    }
}

/// Sends the body to its end, unless the client leaves before.
async fn carry<S>(socket: WebSocketStream<S>, mut body: Body, framing: Framing)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, mut source) = socket.split();
    let sending = async move {
        let mut rest = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            for message in messages(framing, &mut rest, piece) {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            if rest.len() > LINE_BYTES_MAX {
                return;
            }
        }
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = sink.send(Message::Close(Some(normal))).await;
        let _ = sink.close().await;
    };
    // Read on, so that pings are answered and a close is seen.
    let leaving = async move { while let Some(Ok(_)) = source.next().await {} };
    tokio::select! {
        biased;
        () = sending => {}
        () = leaving => {}
    }
}

/// What a piece of the body completes; `rest` holds the beginning of what is not complete.
fn messages(framing: Framing, rest: &mut BytesMut, piece: Bytes) -> Vec<Message> {
    match framing {
        Framing::Binary => vec![Message::Binary(piece)],
        Framing::Base64 => vec![Message::Text(BASE64.encode(piece).into())],
        Framing::Lines => {
            rest.extend_from_slice(&piece);
            let mut lines = Vec::new();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(end + 1);
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                lines.push(Message::Text(line.into()));
            }
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_events_end() {
        let mut rest = BytesMut::new();
        let mut told = |piece: &'static str| messages(Framing::Lines, &mut rest, piece.into());
        assert_eq!(told("{\"a\""), []);
        let both = [Message::text("{\"a\":1}"), Message::text("{}")];
        assert_eq!(told(":1}\n{}\n{\"b"), both);
        assert_eq!(told("\":2}\n"), [Message::text("{\"b\":2}")]);
        let piece = || Bytes::from_static(b"hi");
        let binary = messages(Framing::Binary, &mut rest, piece());
        assert_eq!(binary, [Message::binary(piece())]);
        let letters = messages(Framing::Base64, &mut rest, piece());
        assert_eq!(letters, [Message::text("aGk=")]);
    }

    #[test]
    fn protocols_are_agreed_on() {
        let agreed = |offered: &str, is_log| {
            let mut headers = HeaderMap::new();
            if !offered.is_empty() {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().expect("a header"));
            }
            agreed(&headers, is_log).map_err(|status| status.code())
        };
        assert_eq!(agreed("", true), Ok((None, Framing::Binary)));
        let letters = Ok((Some(BASE64_BINARY), Framing::Base64));
        assert_eq!(agreed("base64.binary.k8s.io", true), letters);
        let binary = Ok((Some(BINARY), Framing::Binary));
        assert_eq!(agreed("base64.binary.k8s.io, binary.k8s.io", true), binary);
        assert_eq!(agreed("v4.channel.k8s.io", true), Err(400));
        assert_eq!(agreed("", false), Ok((None, Framing::Lines)));
    }
}
