//! Connections to node agents: address from the Node object, mTLS with our client certificate.
//!
//! One connection serves one stream: an upgrade takes it over whole. Invariant: the agent's certificate chains to the cluster's
//! authority and names the node or the address that was dialled.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_api::status::Status;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{TlsError, TlsFiles, client_config};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::request::Body;

/// A dead host must not hold a kubectl for long.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The kubelet's port, when the Node does not say.
const PORT_DEFAULT: u16 = 10250;
/// Which address of a node is tried first.
const ADDRESS_TYPES: [&str; 5] = [
    "InternalIP",
    "ExternalIP",
    "InternalDNS",
    "ExternalDNS",
    "Hostname",
];

/// Dials agents.
pub struct Agents {
    connector: TlsConnector,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Body>,
    /// `address:port`, for the Host header and messages.
    pub(super) host: String,
}

impl Agents {
    /// With the certificate that agents know us by; the files are followed.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let mut config = (*client_config(files)?).clone();
        // Upgrades exist in HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    pub(super) async fn connect(&self, name: &str, node: &Value) -> Result<Connection, Status> {
        let (address, port) = endpoint(node).ok_or_else(|| {
            Status::internal(format!(
                "node {name} has no address of type {}",
                ADDRESS_TYPES.join(", ")
            ))
        })?;
        let host = match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
            _ => format!("{address}:{port}"),
        };
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, self.dial(name, &address, port)).await;
        let stream = dialled
            .map_err(|_| "no answer in time".to_owned())
            .and_then(|outcome| outcome.map_err(|error| error.to_string()))
            .map_err(|error| {
                Status::internal(format!("error dialing the node agent at {host}: {error}"))
            })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Status::internal)?;
        spawn("agent-connection", TaskKind::Connection, async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to node agent ended");
            }
        });
        Ok(Connection { sender, host })
    }

    /// The certificate may name the node or the address: the name is tried first, as it says more.
    async fn dial(
        &self,
        name: &str,
        address: &str,
        port: u16,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let by_name = ServerName::try_from(name.to_owned());
        let by_address = ServerName::try_from(address.to_owned());
        let mut last =
            std::io::Error::other("neither the node's name nor its address can be verified");
        for server_name in [by_name, by_address].into_iter().flatten() {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            match self.connector.connect(server_name, stream).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Address and port of the agent of a node.
pub(super) fn endpoint(node: &Value) -> Option<(String, u16)> {
    let addresses = node["status"]["addresses"].as_array()?;
    let of_type = |kind: &&str| {
        let found = addresses.iter().find(|address| address["type"] == **kind)?;
        found["address"]
            .as_str()
            .filter(|address| !address.is_empty())
    };
    let address = ADDRESS_TYPES.iter().find_map(of_type)?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0);
    Some((address.to_owned(), port.unwrap_or(PORT_DEFAULT)))
}
