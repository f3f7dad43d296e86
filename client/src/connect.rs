//! Connections to the API servers: lazy, remade when they break, one server after the other. Each new connection reads
//! the current certificates, so rotation needs no restart. Invariant: a dead server costs at most `CONNECT_TIMEOUT`
//! before the next one is tried.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_base::tls::TlsFiles;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::config::ClientConfig;
use crate::error::{Error, Result};

/// TCP and TLS to one server. Long enough for another continent, short enough to move on.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that vanished without a FIN is noticed after this and `KEEP_ALIVE_TIMEOUT`.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// One watch may be this far ahead of its reader; all of one connection together eight times as far.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// One server's address, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
}

impl Server {
    fn parse(text: &str) -> Result<Self> {
        let fault = |why: &str| Error::Config(format!("server {text:?}: {why}"));
        let uri: http::Uri = text.parse().map_err(|_| fault("not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(fault("must start with https://"));
        }
        let host = uri.host().ok_or_else(|| fault("has no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            host,
            port: uri.port_u16().unwrap_or(6443),
        })
    }
}

struct Connector {
    servers: Vec<Server>,
    next: AtomicUsize,
    tls: Arc<rustls::ClientConfig>,
}

impl Connector {
    /// One round over the servers, starting behind the one used last: whoever broke a connection is asked last.
    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut failures = Vec::new();
        for offset in 0..self.servers.len() {
            let server = &self.servers[(start + offset) % self.servers.len()];
            match tokio::time::timeout(CONNECT_TIMEOUT, self.connect_one(server)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    failures.push(format!("{}:{}: {error}", server.host, server.port))
                }
                Err(_) => failures.push(format!("{}:{}: timed out", server.host, server.port)),
            }
        }
        Err(io::Error::other(failures.join("; ")))
    }

    async fn connect_one(&self, server: &Server) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
    }
}

/// A channel that connects at the first call and again whenever the connection broke.
pub(crate) fn channel(config: &ClientConfig) -> Result<Channel> {
    let servers = config
        .servers
        .iter()
        .map(|text| Server::parse(text))
        .collect::<Result<Vec<_>>>()?;
    if servers.is_empty() {
        return Err(Error::Config("no server given".to_owned()));
    }
    let (Some(ca), Some(cert), Some(key)) = (&config.ca, &config.cert, &config.key) else {
        return Err(Error::Config("ca, cert and key are all needed".to_owned()));
    };
    let files = TlsFiles {
        ca: ca.clone(),
        cert: cert.clone(),
        key: key.clone(),
    };
    let tls = corten_base::tls::client_config(&files)
        .map_err(|error| Error::Config(error.to_string()))?;
    let mut tls = rustls::ClientConfig::clone(&tls);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = Arc::new(Connector {
        next: AtomicUsize::new(rand::random_range(0..servers.len())),
        servers,
        tls: Arc::new(tls),
    });
    // The URI only names the authority of requests: the connector picks the server and speaks TLS itself.
    let endpoint = Endpoint::from_static("http://corten-apiserver")
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let service = tower::service_fn(move |_: http::Uri| {
        let connector = Arc::clone(&connector);
        async move { connector.connect().await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_checked_once() {
        let cases = [
            ("https://10.0.0.1:7443", Some(("10.0.0.1", 7443))),
            ("https://api.example.org", Some(("api.example.org", 6443))),
            ("https://[::1]:6443", Some(("::1", 6443))),
            ("http://10.0.0.1", None),
            ("10.0.0.1:6443", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = Server::parse(text).ok();
            let expected = expected.map(|(host, port)| Server {
                host: host.to_owned(),
                port,
            });
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
