//! Sockets: binding them, and serving gRPC (and, to clients, plain HTTP) on what they accept.
//!
//! Knows nothing of what is served. Invariant: a slow TLS handshake holds up nobody else.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_base::tls::{ClientAuth, TlsListener};
use corten_base::trace;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};

use super::authority::Tolerant;
use super::{Serving, StoreError};
use crate::config::{Listen, ServerFiles};

/// Probes on connections without traffic, so that dead clients' watches are let go.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Data in flight per stream and connection; the default of 64 KiB would throttle large ranges.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Who speaks on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// gRPC, and HTTP/1.1 or HTTP/2 for health, metrics and the JSON gateway.
    Clients,
    /// gRPC alone.
    Members,
}

/// A bound socket.
pub(super) enum Bound {
    Tcp {
        listener: TcpListener,
        tls: bool,
    },
    Unix {
        listener: UnixListener,
        path: PathBuf,
    },
}

impl Bound {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Bound::Tcp { listener, .. } => listener.local_addr().ok(),
            Bound::Unix { .. } => None,
        }
    }
}

pub(super) fn bind(listen: &Listen) -> Result<Bound, StoreError> {
    let bound = match listen {
        Listen::Tcp { tls, host, port } => bind_tcp(host, *port).map(|listener| Bound::Tcp {
            listener,
            tls: *tls,
        }),
        Listen::Unix(path) => bind_unix(path).map(|listener| Bound::Unix {
            listener,
            path: path.clone(),
        }),
    };
    bound.map_err(|source| StoreError::Listen {
        address: format!("{listen:?}"),
        source,
    })
}

fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((host, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn bind_unix(path: &std::path::Path) -> io::Result<UnixListener> {
    // A socket file that a crash left behind; binding never replaces one.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

pub(super) fn client_tls(files: &ServerFiles) -> Result<Arc<rustls::ServerConfig>, StoreError> {
    let auth = if files.require_client {
        ClientAuth::Required
    } else {
        ClientAuth::None
    };
    Ok(corten_base::tls::server_config(&files.files, auth)?)
}

/// Serves clients on all sockets and on in-process connections.
pub(super) fn serve_clients(
    bound: Vec<Bound>,
    in_process: mpsc::Receiver<DuplexStream>,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: Routes,
    stop: &Shutdown,
) -> Result<Serving, StoreError> {
    let mut serving = Serving(Vec::new());
    let connections = ReceiverStream::new(in_process).map(Ok::<_, io::Error>);
    serving.spawn(
        "serve-in-process",
        serve(connections, routes.clone(), Wire::Clients, stop.clone()),
    );
    for bound in bound {
        serve_bound(
            &mut serving,
            bound,
            tls.clone(),
            &routes,
            Wire::Clients,
            stop,
        )?;
    }
    Ok(serving)
}

/// Serves one socket.
pub(super) fn serve_bound(
    serving: &mut Serving,
    bound: Bound,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: &Routes,
    wire: Wire,
    stop: &Shutdown,
) -> Result<(), StoreError> {
    let (routes, stop) = (routes.clone(), stop.clone());
    match bound {
        Bound::Tcp {
            listener,
            tls: false,
        } => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            serving.spawn("serve-tcp", serve(incoming, routes, wire, stop));
        }
        Bound::Tcp {
            listener,
            tls: true,
        } => {
            let config = tls.ok_or_else(|| io::Error::other("an https URL without TLS files"))?;
            let listener = TlsListener::start(listener, config, stop.clone())?;
            serving.spawn(
                "serve-tls",
                serve(tls_incoming(listener), routes, wire, stop),
            );
        }
        Bound::Unix { listener, path } => {
            serving.spawn("serve-unix", async move {
                serve(UnixListenerStream::new(listener), routes, wire, stop).await;
                // The next start removes it if this does not.
                let _ = std::fs::remove_file(path);
            });
        }
    }
    Ok(())
}

type TlsIncoming = Pin<
    Box<
        dyn Stream<Item = io::Result<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>>
            + Send,
    >,
>;

fn tls_incoming(listener: TlsListener) -> TlsIncoming {
    Box::pin(futures::stream::unfold(
        listener,
        |mut listener| async move {
            let (stream, _) = listener.next().await?;
            Some((Ok(stream), listener))
        },
    ))
}

/// Serves whoever comes in, until `stop`.
pub(crate) async fn serve<I, IO>(incoming: I, routes: Routes, wire: Wire, stop: Shutdown)
where
    I: Stream<Item = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let server = Server::builder()
        .tcp_nodelay(true)
        .accept_http1(wire == Wire::Clients)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .trace_fn(|request| {
            trace::request(
                "store",
                request.method().as_str(),
                request.uri().path(),
                request.headers(),
            )
        })
        .add_routes(routes);
    let wait = async move { stop.wait().await };
    let incoming = incoming.map(|connection| connection.map(Tolerant::new));
    if let Err(error) = server.serve_with_incoming_shutdown(incoming, wait).await {
        tracing::error!(%error, "a listener ended");
    }
}
