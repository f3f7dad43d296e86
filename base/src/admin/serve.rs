//! Serving the admin face on a port of its own, plain or TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::{AdminResponse, AdminServer};
use crate::shutdown::Shutdown;
use crate::tasks::{TaskKind, spawn};
use crate::tls::TlsListener;

impl AdminServer {
    /// Binds `addr` and serves until `shutdown`. With `tls` the port speaks TLS. Returns the bound address.
    pub async fn serve(
        &self,
        addr: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        shutdown: Shutdown,
    ) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(addr).await?;
        let local = listener.local_addr()?;
        let admin = self.clone();
        match tls {
            Some(config) => {
                let mut listener = TlsListener::start(listener, config, shutdown)?;
                spawn("admin", TaskKind::Background, async move {
                    while let Some((stream, _)) = listener.next().await {
                        admin.clone().connection(stream);
                    }
                });
            }
            None => {
                spawn(
                    "admin",
                    TaskKind::Background,
                    plain_loop(admin, listener, shutdown),
                );
            }
        }
        Ok(local)
    }

    fn connection<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        spawn("admin-connection", TaskKind::Connection, async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let admin = self.clone();
                async move { Ok::<_, Infallible>(admin.answer(request.uri())) }
            });
            let served = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }

    fn answer(&self, uri: &http::Uri) -> AdminResponse {
        self.handle(uri.path(), uri.query()).unwrap_or_else(|| {
            let mut missing = Response::new(Full::new(Bytes::from_static(
                b"not found; try /livez /readyz /healthz /metrics /version /debug/loops\n",
            )));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            missing
        })
    }
}

async fn plain_loop(admin: AdminServer, listener: TcpListener, shutdown: Shutdown) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admin.clone().connection(stream),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
        }
    }
}
