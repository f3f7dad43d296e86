//! Connections to the other members: one per member and lane, opened on first use and reopened when broken.
//!
//! Does not know what is said over them. Invariant: every call carries the cluster id and the id of the member it is
//! meant for, so that a reused address or a foreign cluster is refused instead of obeyed.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use corten_proto::corten::store::v1::peer_client::PeerClient;
use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::codegen::InterceptedService;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};

use super::dial::Dial;
use crate::raft::types::{MemberId, Node};

/// Metadata key of the cluster a call belongs to.
pub(crate) const CLUSTER_KEY: &str = "corten-cluster-id";
/// Metadata key of the member a call is meant for.
pub(crate) const TARGET_KEY: &str = "corten-to";

/// Longer than any round trip that Raft can work with; shorter than an election timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A silent connection is probed this often, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Log entries in flight to one follower; with a 10 ms round trip this sustains 400 MB/s.
const WINDOW_BYTES: u32 = 4 << 20;
/// Far above the largest client request with its envelope; bounds what a broken peer can make this one allocate.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Traffic of different urgency does not share a connection: a heartbeat must not queue behind a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Log replication.
    Log,
    /// Heartbeats, votes, read indexes, lease questions.
    Control,
    /// Proposals forwarded to the leader.
    Forward,
    /// Snapshots.
    Bulk,
}

/// A client for one member.
pub(crate) type Client = PeerClient<InterceptedService<Channel, Stamp>>;

/// Puts the addressing metadata on each call.
#[derive(Clone)]
pub(crate) struct Stamp {
    cluster: MetadataValue<tonic::metadata::Ascii>,
    target: MetadataValue<tonic::metadata::Ascii>,
}

impl Stamp {
    fn new(cluster: u64, target: MemberId) -> Self {
        Self {
            cluster: cluster.into(),
            target: target.0.into(),
        }
    }
}

impl Interceptor for Stamp {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        request
            .metadata_mut()
            .insert(CLUSTER_KEY, self.cluster.clone());
        request
            .metadata_mut()
            .insert(TARGET_KEY, self.target.clone());
        Ok(request)
    }
}

/// How to reach members, and the open connections.
pub(crate) struct Peers {
    cluster: u64,
    dialer: Arc<dyn Dial>,
    clients: Mutex<HashMap<(MemberId, Lane), Reached>>,
}

/// Where a member was reached, and the connection.
type Reached = (Vec<String>, Client);

impl Peers {
    pub(crate) fn new(cluster: u64, dialer: Arc<dyn Dial>) -> Self {
        Self {
            cluster,
            dialer,
            clients: Mutex::default(),
        }
    }

    /// The shared client for `target`; a member that moved gets a new connection.
    pub(crate) fn client(&self, target: MemberId, node: &Node, lane: Lane) -> Client {
        let mut clients = self.clients.lock();
        if let Some((urls, client)) = clients.get(&(target, lane))
            && *urls == node.peer_urls
        {
            return client.clone();
        }
        let client = client(
            self.cluster,
            target,
            &node.peer_urls,
            Arc::clone(&self.dialer),
        );
        clients.insert((target, lane), (node.peer_urls.clone(), client.clone()));
        client
    }
}

/// A client that is not shared, for a cluster and member that may not be known yet (id zero).
pub(crate) fn client(
    cluster: u64,
    target: MemberId,
    urls: &[String],
    dialer: Arc<dyn Dial>,
) -> Client {
    PeerClient::with_interceptor(channel(urls, dialer), Stamp::new(cluster, target))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn channel(urls: &[String], dialer: Arc<dyn Dial>) -> Channel {
    let urls: Arc<[String]> = urls.into();
    // The name is never resolved: the connector below dials the member's own addresses.
    Endpoint::from_static("http://peer.invalid")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let connection = dialer.dial(Arc::clone(&urls));
            async move { connection.await.map(TokioIo::new) }
        }))
}

/// A member's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerUrl {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl PeerUrl {
    /// Accepts `http://host:port` and `https://host:port`, with nothing after.
    pub(crate) fn parse(url: &str) -> io::Result<PeerUrl> {
        let refuse =
            |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("URL {url:?}: {why}"));
        let uri: Uri = url.parse().map_err(|_| refuse("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse("scheme must be http or https")),
        };
        if !matches!(uri.path(), "" | "/") {
            return Err(refuse("must end after the port"));
        }
        let host = uri.host().ok_or_else(|| refuse("no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri.port_u16().ok_or_else(|| refuse("no port"))?;
        Ok(PeerUrl { tls, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_or_refused() {
        let url = PeerUrl::parse("https://10.0.0.1:2380").expect("valid");
        assert_eq!(
            url,
            PeerUrl {
                tls: true,
                host: "10.0.0.1".to_owned(),
                port: 2380
            }
        );
        assert_eq!(
            PeerUrl::parse("http://[::1]:80").expect("valid").host,
            "::1"
        );
        for bad in ["10.0.0.1:2380", "ftp://a:1", "http://a", "http://a:1/x", ""] {
            assert!(PeerUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
