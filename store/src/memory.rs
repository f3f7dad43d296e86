//! A store in memory: one replica without raft, with the same core and the same services.
//! Not durable. For tests of the API server and for development.
//! Invariant: what works against this works against a cluster, but for what needs several members.
//!
//! `channel()` is a store of its own behind an in-process channel; it goes when the channel goes. `Memory` serves one
//! store to several channels and on sockets.

mod replica;

use std::io;
use std::sync::Arc;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};

use crate::services;
use replica::MemoryReplica;

/// Connections of one channel that wait to be accepted; a channel opens one at a time.
const CONNECTIONS_MAX: usize = 4;
/// Bytes in flight each way of an in-process connection.
const PIPE_BYTES: usize = 256 * 1024;

/// A store in memory, shared by its handles.
#[derive(Clone)]
pub struct Memory {
    replica: Arc<MemoryReplica>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store. Needs a tokio runtime for its upkeep, which ends with the last handle.
    pub fn new() -> Self {
        Self {
            replica: MemoryReplica::start(),
        }
    }

    /// A client channel to this store that stays within the process.
    pub fn channel(&self) -> Channel {
        let (connections, accepted) = mpsc::channel::<DuplexStream>(CONNECTIONS_MAX);
        let incoming = ReceiverStream::new(accepted).map(Ok::<_, io::Error>);
        // Ends when the channel, and with it the connector, is dropped.
        let server = Server::builder()
            .add_routes(services::routes(
                Arc::clone(&self.replica) as Arc<_>,
                services::Options::default(),
            ))
            .serve_with_incoming(incoming);
        spawn("memory-store", TaskKind::Background, async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the store in memory has stopped");
            }
        });
        // The name is never resolved.
        Endpoint::from_static("http://store.invalid").connect_with_connector_lazy(
            tower::service_fn(move |_: http::Uri| {
                let connections = connections.clone();
                async move {
                    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                    connections
                        .send(theirs)
                        .await
                        .map_err(|_| io::Error::other("the store has stopped"))?;
                    Ok::<_, io::Error>(TokioIo::new(ours))
                }
            }),
        )
    }

    /// Serves this store in plain text on a socket until `shutdown`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: Shutdown,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = TcpListenerStream::new(listener).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        });
        Server::builder()
            .add_routes(services::routes(
                Arc::clone(&self.replica) as Arc<_>,
                services::Options::default(),
            ))
            .serve_with_incoming_shutdown(incoming, async move { shutdown.wait().await })
            .await
    }
}

/// A new store in memory behind a channel. It lives as long as the channel and its clones.
pub fn channel() -> Channel {
    Memory::new().channel()
}

/// Serves a new store in memory on a socket until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    Memory::new().serve(listener, shutdown).await
}
