//! Opening a connection to another member.
//!
//! Does not know what is said over it. Invariant: a URL that asks for TLS is never dialled without.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::connect::PeerUrl;

/// Bytes to and from another member.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A way to members.
pub(crate) trait Dial: Send + Sync + 'static {
    /// Connects to the first of `urls` that answers.
    fn dial(&self, urls: Arc<[String]>) -> BoxFuture<'static, io::Result<Box<dyn Connection>>>;
}

/// Over the host's network, encrypted where the URL says so.
pub(crate) struct HostNetwork {
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl HostNetwork {
    pub(crate) fn new(tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let tls = tls.map(with_http2);
        Self { tls }
    }
}

impl Dial for HostNetwork {
    fn dial(&self, urls: Arc<[String]>) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        Box::pin(dial(urls, self.tls.clone()))
    }
}

/// The same trust and identity, offering HTTP/2.
fn with_http2(config: Arc<rustls::ClientConfig>) -> Arc<rustls::ClientConfig> {
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn dial(
    urls: Arc<[String]>,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> io::Result<Box<dyn Connection>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the member has no peer URL");
    for url in urls.iter() {
        match dial_one(url, tls.clone()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_one(
    url: &str,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> io::Result<Box<dyn Connection>> {
    let address = PeerUrl::parse(url)?;
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
    tcp.set_nodelay(true)?;
    if !address.tls {
        return Ok(Box::new(tcp));
    }
    let config = tls.ok_or_else(|| {
        io::Error::other(format!("{url} needs TLS files and none are configured"))
    })?;
    let name = rustls::pki_types::ServerName::try_from(address.host)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(name, tcp)
        .await?;
    Ok(Box::new(stream))
}
