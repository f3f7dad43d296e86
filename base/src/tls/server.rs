//! Accepting TLS connections with bounded handshakes, for every server of ours.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::shutdown::Shutdown;
use crate::tasks::{TaskKind, spawn};

/// A peer that has not finished its handshake by then is cut: slow openers must not hold slots.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once; each costs a signature.
const HANDSHAKES: usize = 256;
/// Finished connections waiting for their server to take them.
const READY: usize = 64;

/// Finished TLS connections, as a bounded queue.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    /// Starts accepting on `listener` until `shutdown`.
    pub fn start(
        listener: TcpListener,
        config: Arc<rustls::ServerConfig>,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY);
        spawn(
            "tls-listener",
            TaskKind::Critical,
            accept_loop(listener, config, sender, shutdown),
        );
        Ok(Self { ready, local })
    }

    /// The next connection, or `None` when the listener has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
        self.ready.recv().await
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

async fn accept_loop(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    let acceptor = TlsAcceptor::from(config);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most often out of file descriptors: wait for some to come back.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        spawn("tls-handshake", TaskKind::Connection, async move {
            match accept(&acceptor, stream).await {
                // A closed queue means that the server has stopped.
                Ok(stream) => drop(sender.send((stream, peer)).await),
                Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            }
            drop(slot);
        });
    }
}

/// One handshake with its deadline; Nagle is turned off, since every protocol here frames its own writes.
pub async fn accept(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "handshake took too long"))?
}
