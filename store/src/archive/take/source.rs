//! The member that a backup is taken from.
//!
//! Invariant: everything of one backup comes from one member: only a member knows the hash of what it sent.

use std::path::PathBuf;
use std::time::Duration;

use corten_proto::etcd::etcdserverpb::StatusRequest;
use corten_proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A member that does not answer for this long is passed over for the next.
const PATIENCE: Duration = Duration::from_secs(5);
/// A silent connection is probed this often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) type Member = MaintenanceClient<Channel>;

/// Members that a backup can be taken from, and how to reach them.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// `http://`, `https://` or `unix://` addresses; the first that answers is taken.
    pub endpoints: Vec<String>,
    /// Authority of the members' certificates.
    pub ca_file: Option<PathBuf>,
    /// Certificate to show.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// Why no member can be asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of the identity cannot be read.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// An address is not one.
    #[error("{0:?} is not an address of a member")]
    Address(String, #[source] tonic::transport::Error),
    /// Nobody answers.
    #[error("no member answers: {0}")]
    Nobody(String),
    /// The member refuses.
    #[error("the member answers: {}", .0.message())]
    Member(tonic::Status),
}

impl Source {
    pub(super) async fn connect(&self) -> Result<Member, SourceError> {
        let mut why = Vec::new();
        for address in &self.endpoints {
            let mut member = MaintenanceClient::new(self.channel(address)?);
            match timeout(PATIENCE, member.status(StatusRequest {})).await {
                Ok(Ok(_)) => return Ok(member),
                Ok(Err(status)) => why.push(format!("{address}: {}", status.message())),
                Err(_) => why.push(format!("{address}: silence")),
            }
        }
        Err(SourceError::Nobody(why.join("; ")))
    }

    fn channel(&self, address: &str) -> Result<Channel, SourceError> {
        let bad = |error| SourceError::Address(address.to_owned(), error);
        let tune = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(PATIENCE)
                .http2_keep_alive_interval(KEEP_ALIVE)
        };
        if let Some(path) = address.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            // The name is never resolved: the connector dials the socket.
            let endpoint = tune(Endpoint::from_static("http://member.invalid"));
            return Ok(endpoint.connect_with_connector_lazy(tower::service_fn(
                move |_: http::Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                },
            )));
        }
        let mut endpoint = tune(Endpoint::from_shared(address.to_owned()).map_err(bad)?);
        if address.starts_with("https://") {
            endpoint = endpoint.tls_config(self.tls()?).map_err(bad)?;
        }
        Ok(endpoint.connect_lazy())
    }

    fn tls(&self) -> Result<ClientTlsConfig, SourceError> {
        corten_base::tls::install_provider();
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| SourceError::File(path.clone(), error))
        };
        let mut config = ClientTlsConfig::new();
        if let Some(path) = &self.ca_file {
            config = config.ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(config)
    }
}
