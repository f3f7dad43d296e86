//! Port forwarding: each connection is a pair of SPDY streams, `error` and `data`, with the same request id. The SPDY
//! connection comes as it is, or through a WebSocket.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::route::{Body, Refusal};
use super::spdy::connection::{Connection, IncomingStream};
use super::upgrade::{
    STREAM_PROTOCOL, Wanted, negotiate, spdy_response, wanted, websocket_response,
};
use super::{netns, websocket};
use crate::traits::PodView;

/// The protocol's only version, and its form inside a WebSocket.
const SPDY_PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// Streams that wait for their partner; a client that opens more is broken.
const HALVES_MAX: usize = 256;
const CHUNK_BYTES: usize = 32 * 1024;

pub(super) fn serve(
    mut request: Request<Incoming>,
    pod: PodView,
) -> Result<Response<Body>, Refusal> {
    let bad = |message: &str| Refusal(StatusCode::BAD_REQUEST, message.to_owned());
    let kind = wanted(request.headers())
        .ok_or_else(|| bad("you must ask for an upgrade to SPDY/3.1 or WebSocket"))?;
    let refused = || {
        Refusal(
            StatusCode::FORBIDDEN,
            format!("no protocol in common; this server speaks {SPDY_PROTOCOL}"),
        )
    };
    let response = match kind {
        Wanted::Spdy => {
            negotiate(request.headers(), &STREAM_PROTOCOL, &[SPDY_PROTOCOL]).ok_or_else(refused)?;
            spdy_response(SPDY_PROTOCOL)
        }
        Wanted::WebSocket => {
            let protocol = negotiate(
                request.headers(),
                &SEC_WEBSOCKET_PROTOCOL,
                &[TUNNEL_PROTOCOL],
            )
            .ok_or_else(refused)?;
            websocket_response(request.headers(), protocol)?
        }
    };
    if !pod.host_network && pod.netns.is_none() {
        return Err(bad("the pod has no network yet"));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    spawn("port-forward", TaskKind::Connection, async move {
        match (upgrade.await, kind) {
            (Ok(upgraded), Wanted::Spdy) => forward(TokioIo::new(upgraded), pod.netns).await,
            (Ok(upgraded), Wanted::WebSocket) => {
                let (stream, pump) = websocket::tunnel(websocket::accept(upgraded).await);
                tokio::join!(forward(stream, pod.netns), pump);
            }
            (Err(error), _) => tracing::debug!(%error, "the client left before the upgrade"),
        }
    });
    Ok(response)
}

async fn forward(io: impl AsyncRead + AsyncWrite + Send + 'static, netns: Option<PathBuf>) {
    let mut connection = Connection::start(io);
    let mut halves: HashMap<String, IncomingStream> = HashMap::new();
    while let Some(stream) = connection.accept().await {
        let id = stream.header("requestid").unwrap_or_default().to_owned();
        let Some(other) = halves.remove(&id) else {
            if halves.len() >= HALVES_MAX {
                return;
            }
            halves.insert(id, stream);
            continue;
        };
        let (data, error) = if stream.header("streamtype") == Some("data") {
            (stream, other)
        } else {
            (other, stream)
        };
        let netns = netns.clone();
        spawn("port-forward-stream", TaskKind::Connection, async move {
            pair(data, error, netns).await
        });
    }
}

async fn pair(mut data: IncomingStream, mut error: IncomingStream, netns: Option<PathBuf>) {
    let port = data
        .header("port")
        .and_then(|port| port.parse::<u16>().ok())
        .unwrap_or_default();
    let connected = netns::connect(netns.as_deref(), port).await;
    let tcp = match connected {
        Ok(tcp) => tcp,
        Err(reason) => {
            let message = format!("failed to connect to localhost:{port} inside the pod: {reason}");
            // The client may have given up.
            let _ = error.send(Bytes::from(message)).await;
            error.finish().await;
            data.finish().await;
            return;
        }
    };
    let (mut read, mut write) = tcp.into_split();
    let (mut incoming, writer) = data.split();
    let inward = async {
        while let Some(bytes) = incoming.recv().await {
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if writer
                .send(Bytes::copy_from_slice(&buffer[..count]))
                .await
                .is_err()
            {
                break;
            }
        }
        writer.finish().await;
    };
    tokio::join!(inward, outward);
    error.finish().await;
}
