//! The member that a backup is taken from.
//!
//! Invariant: everything of one backup comes from one member: only a member knows the hash of what it sent. Tokens end, and
//! a large backup may take longer: whoever has a password logs in anew for each request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_proto::etcd::etcdserverpb::auth_client::AuthClient;
use corten_proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use corten_proto::etcd::etcdserverpb::{
    AuthenticateRequest, HashKvRequest, HashKvResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

/// A member that does not answer for this long is passed over for the next.
const PATIENCE: Duration = Duration::from_secs(5);
/// A silent connection is probed this often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The field of a request that carries a token.
const TOKEN: &str = "token";

/// Who asks, on a cluster with users (`etcdctl auth enable`). Shows no password when printed.
#[derive(Clone)]
pub struct Login {
    /// A user with the role root.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login of {:?}", self.user)
    }
}

impl Login {
    /// With the password in the first line of a file.
    pub fn from_file(user: &str, path: &Path) -> Result<Self, SourceError> {
        let failed = |error| SourceError::File(path.to_owned(), error);
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let line = text.lines().next().unwrap_or_default();
        Ok(Self {
            user: user.to_owned(),
            password: line.trim_end().to_owned(),
        })
    }
}

/// A member, and who asks it.
pub(super) struct Member {
    channel: Channel,
    login: Option<Login>,
}

impl Member {
    pub(super) async fn status(&self) -> Result<StatusResponse, Status> {
        let request = self.signed(StatusRequest {}).await?;
        Ok(self.client().status(request).await?.into_inner())
    }

    pub(super) async fn snapshot(&self) -> Result<Streaming<SnapshotResponse>, Status> {
        let request = self.signed(SnapshotRequest {}).await?;
        Ok(self.client().snapshot(request).await?.into_inner())
    }

    pub(super) async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Status> {
        let request = self.signed(HashKvRequest { revision }).await?;
        Ok(self.client().hash_kv(request).await?.into_inner())
    }

    fn client(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    async fn signed<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some(login) = &self.login {
            let mut auth = AuthClient::new(self.channel.clone());
            let asked = AuthenticateRequest {
                name: login.user.clone(),
                password: login.password.clone(),
            };
            let token = auth.authenticate(asked).await?.into_inner().token;
            let token = token
                .parse()
                .map_err(|_| Status::internal("the token is no text"))?;
            request.metadata_mut().insert(TOKEN, token);
        }
        Ok(request)
    }
}

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
    /// Who asks, where the certificate does not say it.
    pub login: Option<Login>,
}

/// Why no member can be asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of the identity, or with the password, cannot be read.
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
            let member = Member {
                channel: self.channel(address)?,
                login: self.login.clone(),
            };
            match timeout(PATIENCE, member.status()).await {
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
