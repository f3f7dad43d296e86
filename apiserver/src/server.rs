//! The sockets in front of the pipeline: TLS on TCP, and connections within the process.
//!
//! HTTP/1.1 (with upgrades) and HTTP/2 on one port. It knows nothing of requests but how to hand them to the [`Edge`] with the
//! identity that the connection proved. Invariant: a peer can hold one connection slot and bounded memory, never a task without
//! a deadline before its first request.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{TlsListener, peer_identity};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::authn::{Peer, User};
use crate::chain::Edge;
use crate::request::Body;

/// Connections at once; each may carry many streams.
const CONNECTIONS: usize = 10_000;
/// Streams of one HTTP/2 connection: as upstream, so that clients open a second one at the same point.
const STREAMS_PER_CONNECTION: u32 = 250;
/// A client that does not finish its head in this time is cut; so is an idle HTTP/1.1 connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that has not brought a first request by then is cut, whatever its protocol.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Tokens and impersonation make long heads.
const HEAD_BYTES: u32 = 64 * 1024;
/// How soon a vanished HTTP/2 peer is noticed.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Watches have to end at some time: after this they are cut and resume elsewhere.
const DRAIN: Duration = Duration::from_secs(5);
/// Bytes on their way between two ends of a connection within the process.
const DUPLEX_BYTES: usize = 256 * 1024;

/// Serves the edge on a socket until shutdown, then drains.
pub async fn serve(
    edge: Arc<Edge>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let mut connections = TlsListener::start(listener, tls, shutdown.clone())?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let front = Front::new(&edge);
    while let Some((stream, address)) = connections.next().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let peer = peer_of(&stream, address);
        front.connect(stream, peer, Some(slot));
    }
    // GOAWAY and `connection: close` first, so that clients move to another server; then the deadline.
    front.drain().await;
    Ok(())
}

/// A gRPC channel into the edge without a socket, acting as `user`. It ends with the process or with shutdown.
pub fn local_channel(edge: &Arc<Edge>, user: User, shutdown: &Shutdown) -> Channel {
    let local = Local::new(edge, user, shutdown);
    let connector = tower::service_fn(move |_: Uri| {
        let stream = local.connect();
        async move { Ok::<_, Infallible>(TokioIo::new(stream)) }
    });
    Endpoint::from_static("http://in-process").connect_with_connector_lazy(connector)
}

/// Opens connections within the process, all with one identity.
#[derive(Clone)]
pub struct Local {
    front: Arc<Front>,
    user: Arc<User>,
    shutdown: Shutdown,
}

impl Local {
    /// Connections that act as `user`.
    pub fn new(edge: &Arc<Edge>, user: User, shutdown: &Shutdown) -> Self {
        let front = Arc::new(Front {
            cut: shutdown.child(),
            ..Front::new(edge)
        });
        Self {
            front,
            user: Arc::new(user),
            shutdown: shutdown.clone(),
        }
    }

    /// The client's end of a new connection; HTTP/1.1 and HTTP/2 are both understood.
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(DUPLEX_BYTES);
        let peer = Peer {
            user: Some(Arc::clone(&self.user)),
            address: None,
        };
        if !self.shutdown.is_triggered() {
            self.front.connect(server, peer, None);
        }
        client
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(256);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

fn peer_of(stream: &TlsStream<TcpStream>, address: SocketAddr) -> Peer {
    let nobody = Peer {
        user: None,
        address: Some(address),
    };
    let (_, session) = stream.get_ref();
    let Some(leaf) = session.peer_certificates().and_then(<[_]>::first) else {
        return nobody;
    };
    match peer_identity(leaf) {
        Ok(identity) => Peer::of_certificate(&identity, Some(address)),
        Err(error) => {
            tracing::debug!(%address, %error, "client certificate names nobody");
            nobody
        }
    }
}

/// What every connection of one listener shares.
struct Front {
    edge: Arc<Edge>,
    builder: Builder<TokioExecutor>,
    graceful: GracefulShutdown,
    /// Ends connections at once.
    cut: Shutdown,
}

impl Front {
    fn new(edge: &Arc<Edge>) -> Self {
        let graceful = GracefulShutdown::new();
        Self {
            edge: Arc::clone(edge),
            builder: builder(),
            graceful,
            cut: Shutdown::new(),
        }
    }

    /// Serves one connection in a task of its own. The slot is free again when the connection ends.
    fn connect<S>(&self, stream: S, peer: Peer, slot: Option<OwnedSemaphorePermit>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (edge, peer) = (Arc::clone(&self.edge), Arc::new(peer));
        let used = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&used);
        let service = service_fn(move |request: Request<Incoming>| {
            first.store(true, Ordering::Relaxed);
            let (edge, peer) = (Arc::clone(&edge), Arc::clone(&peer));
            async move {
                let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                Ok::<Response<Body>, Infallible>(Box::pin(edge.handle(&peer, request)).await)
            }
        });
        let connection = self
            .builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
        let watched = self.graceful.watch(connection);
        let cut = self.cut.clone();
        // Connections within the process hold no slot and may wait as long as they like.
        let limited = slot.is_some();
        spawn("connection", TaskKind::Connection, async move {
            tokio::pin!(watched);
            let ended = tokio::select! {
                biased;
                () = cut.wait() => return,
                ended = &mut watched => Some(ended),
                () = tokio::time::sleep(FIRST_REQUEST_TIMEOUT), if limited => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None if !used.load(Ordering::Relaxed) => return,
                None => tokio::select! {
                    biased;
                    () = cut.wait() => return,
                    ended = &mut watched => ended,
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
            drop(slot);
        });
    }

    async fn drain(self) {
        if tokio::time::timeout(DRAIN, self.graceful.shutdown())
            .await
            .is_err()
        {
            tracing::info!("connections were still open after {DRAIN:?}, cutting them");
            self.cut.trigger();
        }
    }
}
