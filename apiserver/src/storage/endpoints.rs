//! Connections to the store's members: round robin over lazily connected channels, and patience while a leader is
//! elected.
//!
//! It does not judge outcomes: who repeats a request must be sure that repeating is harmless. Invariant: a request is
//! repeated only on errors that another member or a moment later may cure, and never beyond [`PATIENCE`].

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use corten_base::backoff::Backoff;
use corten_base::tls::TlsFiles;
use corten_base::trace;
use corten_proto::etcd::etcdserverpb::{
    kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

/// How long a request may look for a member that answers: several elections, and below the usual client's minute.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// One attempt; a cut member must not eat the whole patience.
const ATTEMPT: Duration = Duration::from_secs(4);
/// Above the store's own limit for values, with room for a page of large objects.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A member address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("store endpoint {endpoint:?} is not a URL")]
    Address {
        endpoint: String,
        source: tonic::transport::Error,
    },
    #[error("no store endpoint is configured")]
    None,
    #[error(
        "store endpoint {endpoint:?} uses https, but no store certificate files are configured"
    )]
    NoTls { endpoint: String },
    #[error("the TLS files for the store ({ca:?}) cannot be used")]
    Tls {
        ca: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The members of the store.
#[derive(Clone)]
pub struct Endpoints {
    members: Arc<[Member]>,
    requests: Arc<Rotation>,
    watches: Arc<Rotation>,
}

/// Whose turn it is to be asked first. Each kind of request has its own, and each request goes on from its own first
/// member: where all share one counter, requests that end with the one member that works leave it just behind that member
/// for whoever comes next.
#[derive(Debug, Default)]
struct Rotation(AtomicUsize);

impl Rotation {
    /// The members to ask, by position, in turn and without end.
    fn turns(&self, members: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.0.fetch_add(1, Ordering::Relaxed) % members.max(1);
        (0..members).cycle().skip(first)
    }
}

/// One member's channel with its typed stubs.
#[derive(Clone)]
pub(super) struct Member {
    channel: Channel,
}

/// A channel whose requests name the trace that they belong to.
pub(super) type Traced = InterceptedService<Channel, Stamp>;
type Stamp = fn(Request<()>) -> Result<Request<()>, Status>;

fn stamp(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(Ok(parent)) = trace::traceparent().map(|parent| parent.parse()) {
        request.metadata_mut().insert(trace::HEADER, parent);
    }
    Ok(request)
}

impl Member {
    pub(super) fn kv(&self) -> KvClient<Traced> {
        KvClient::with_interceptor(self.channel.clone(), stamp as Stamp)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn watch(&self) -> WatchClient<Traced> {
        WatchClient::with_interceptor(self.channel.clone(), stamp as Stamp)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn lease(&self) -> LeaseClient<Traced> {
        LeaseClient::with_interceptor(self.channel.clone(), stamp as Stamp)
    }
}

impl Endpoints {
    /// A store in this process.
    pub fn in_process(channel: Channel) -> Self {
        Self::of(vec![Member { channel }])
    }

    /// Members by URL, `http://host:port` or `https://host:port`; connections are made when first used.
    pub fn connect(endpoints: &[String], tls: Option<&TlsFiles>) -> Result<Self, ConnectError> {
        if endpoints.is_empty() {
            return Err(ConnectError::None);
        }
        let members = endpoints.iter().map(|endpoint| member(endpoint, tls));
        Ok(Self::of(members.collect::<Result<_, _>>()?))
    }

    fn of(members: Vec<Member>) -> Self {
        Self {
            members: members.into(),
            requests: Arc::default(),
            watches: Arc::default(),
        }
    }

    /// The next member in turn.
    pub(super) fn pick(&self) -> Member {
        let turn = self.requests.turns(self.members.len()).next();
        self.members[turn.unwrap_or(0)].clone()
    }

    /// Runs a request on every member at once, each with the time of one attempt.
    pub(super) async fn each<T, F, Fut>(&self, request: F) -> Vec<Result<T, Status>>
    where
        F: Fn(Member) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let ask = |member: &Member| {
            let attempt = tokio::time::timeout(ATTEMPT, request(member.clone()));
            async move {
                let late = |_| Status::deadline_exceeded("the store member did not answer");
                attempt.await.map_err(late)?
            }
        };
        futures::future::join_all(self.members.iter().map(ask)).await
    }

    /// Runs a harmlessly repeatable request on one member after the other.
    pub(super) async fn retrying<T, F, Fut>(&self, request: F) -> Result<T, Status>
    where
        F: FnMut(Member) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.in_turn(&self.requests, request).await
    }

    /// The same for the opening of a watch. The next watch begins with the next member, since one that opens watches may
    /// still know nothing new.
    pub(super) async fn opening<T, F, Fut>(&self, request: F) -> Result<T, Status>
    where
        F: FnMut(Member) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.in_turn(&self.watches, request).await
    }

    async fn in_turn<T, F, Fut>(&self, rotation: &Rotation, mut request: F) -> Result<T, Status>
    where
        F: FnMut(Member) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let mut turns = rotation.turns(self.members.len());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let member = self.members[turns.next().unwrap_or(0)].clone();
            let attempt = tokio::time::timeout(ATTEMPT, request(member)).await;
            let status = match attempt {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("the store member did not answer"),
            };
            let wait = backoff.next_delay();
            if !is_transient(&status) || tokio::time::Instant::now() + wait >= deadline {
                return Err(status);
            }
            tracing::debug!(code = ?status.code(), message = status.message(), "asking the next store member");
            tokio::time::sleep(wait).await;
        }
    }
}

/// Whether another member, or the same a moment later, may answer.
pub(super) fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted
    ) || (status.code() == Code::Unknown && std::error::Error::source(status).is_some())
}

fn member(endpoint: &str, tls: Option<&TlsFiles>) -> Result<Member, ConnectError> {
    let url = if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!(
            "{}://{endpoint}",
            if tls.is_some() { "https" } else { "http" }
        )
    };
    let secure = url.starts_with("https://");
    // The connector below does TLS itself, so that rotated certificate files are read again for each connection.
    let plain = url.replacen("https://", "http://", 1);
    let builder = Endpoint::from_shared(plain)
        .map_err(|source| ConnectError::Address {
            endpoint: endpoint.to_owned(),
            source,
        })?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true)
        .initial_connection_window_size(8 << 20)
        .initial_stream_window_size(4 << 20);
    if !secure {
        return Ok(Member {
            channel: builder.connect_lazy(),
        });
    }
    let files = tls.ok_or_else(|| ConnectError::NoTls {
        endpoint: endpoint.to_owned(),
    })?;
    let connector = TlsConnector::new(files)?;
    Ok(Member {
        channel: builder.connect_with_connector_lazy(connector),
    })
}

/// Dials a member with mutual TLS.
#[derive(Clone)]
struct TlsConnector {
    config: Arc<rustls::ClientConfig>,
}

impl TlsConnector {
    fn new(files: &TlsFiles) -> Result<Self, ConnectError> {
        let config =
            corten_base::tls::client_config(files).map_err(|source| ConnectError::Tls {
                ca: files.ca.clone(),
                source: source.into(),
            })?;
        let mut config = (*config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

impl tower::Service<Uri> for TlsConnector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        Box::pin(async move {
            let host = uri
                .host()
                .unwrap_or_default()
                .trim_matches(['[', ']'])
                .to_owned();
            let port = uri.port_u16().unwrap_or(2379);
            let name = rustls::pki_types::ServerName::try_from(host.clone())
                .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(connector.connect(name, stream).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_always_met_the_members_that_were_gone() {
        // One of three works. Every request ends with it, and a watch is opened after each.
        let (requests, watches) = (Rotation::default(), Rotation::default());
        for works in 0..3 {
            for _ in 0..10 {
                assert!(requests.turns(3).take(3).any(|member| member == works));
                assert!(watches.turns(3).take(3).any(|member| member == works));
            }
        }
        // And one that takes watches but tells nothing is not asked first again.
        let first = || watches.turns(3).next();
        let (one, two, three) = (first(), first(), first());
        assert!(one != two && two != three && one != three);
        assert_eq!(Rotation::default().turns(0).next(), None);
    }
}
