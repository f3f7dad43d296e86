//! The agent's HTTPS server on port 10250: logs, exec, attach and port-forward for the API server, on kubelet's paths. Only
//! the API server's certificate is let in; people are authorised there, not here.
//!
//! ```text
//!  TLS (client certificate) ── route ──┬── logs          a stream of bytes
//!                                      ├── exec, attach  WebSocket v5/v4.channel.k8s.io, or SPDY/3.1 ── remote ── session
//!                                      └── portForward   SPDY/3.1, plain or through WebSocket ── the pod's namespace
//! ```

mod logs;
mod netns;
mod port_forward;
mod query;
mod remote;
mod route;
mod spdy;
mod upgrade;
mod websocket;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{TlsListener, peer_identity};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;

use crate::traits::PodAccess;

/// Connections at once: each exec or port-forward holds one, the API server is the only client.
const CONNECTIONS: usize = 1_024;
/// Connections at once of those who have not shown that they may ask for anything; they get health and refusals.
const STRANGERS: usize = 32;
/// How long one of those lasts, whatever it does.
const STRANGER_LIFE: Duration = Duration::from_secs(10);
/// A peer that has begun a request must have sent its head by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Who may ask: the API server's client certificate, or an administrator.
const ALLOWED_USER: &str = "kube-apiserver-kubelet-client";
const ALLOWED_GROUP: &str = "system:masters";

/// A bound server.
pub struct AgentServer {
    access: Arc<dyn PodAccess>,
    admin: AdminServer,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
}

impl AgentServer {
    /// Binds `addr`. `tls` must verify client certificates (optional ones are refused per request).
    pub async fn bind(
        addr: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        access: Arc<dyn PodAccess>,
        admin: AdminServer,
    ) -> std::io::Result<Self> {
        Ok(Self {
            access,
            admin,
            listener: TcpListener::bind(addr).await?,
            tls,
        })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`; streams under way end with the process.
    pub async fn run(self, shutdown: Shutdown) -> std::io::Result<()> {
        let mut listener = TlsListener::start(self.listener, self.tls, shutdown)?;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        // Apart, so that nobody can keep the API server out by opening connections.
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        while let Some((stream, peer)) = listener.next().await {
            let allowed = is_allowed(&stream);
            let pool = if allowed { &slots } else { &strangers };
            let Ok(slot) = Arc::clone(pool).try_acquire_owned() else {
                tracing::warn!(%peer, allowed, "too many connections; refusing one");
                continue;
            };
            let router = route::Router {
                access: Arc::clone(&self.access),
                admin: self.admin.clone(),
                allowed,
            };
            spawn("agent-connection", TaskKind::Connection, async move {
                if allowed {
                    serve(stream, router).await;
                } else if tokio::time::timeout(STRANGER_LIFE, serve(stream, router))
                    .await
                    .is_err()
                {
                    tracing::debug!(%peer, "a connection without credentials was cut");
                }
                drop(slot);
            });
        }
        Ok(())
    }
}

async fn serve(stream: TlsStream<TcpStream>, router: route::Router) {
    let service = service_fn(move |request| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

fn is_allowed(stream: &TlsStream<TcpStream>) -> bool {
    let certificates = stream.get_ref().1.peer_certificates();
    let Some(leaf) = certificates.and_then(|chain| chain.first()) else {
        return false;
    };
    peer_identity(leaf).is_ok_and(|identity| {
        identity.common_name == ALLOWED_USER
            || identity.organizations.iter().any(|o| o == ALLOWED_GROUP)
    })
}

#[cfg(test)]
mod tests;
