//! One request to a bucket: signed, sent, sent again when that may help.
//!
//! A connection per request: requests are few and large. Invariant: every wait has a bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_base::backoff::Backoff;
use corten_base::tasks::{TaskKind, spawn};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::sign::{self, Signed};
use super::{S3, S3Error, S3Options, XML_BYTES_MAX, page};

/// How often a request is tried in all.
const TRIES: u32 = 5;
/// Connecting, and each wait for the other side, may take this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where requests go.
#[derive(Debug)]
pub(super) struct Endpoint {
    tls: Option<Arc<rustls::ClientConfig>>,
    host: String,
    port: u16,
    /// The host as it is signed and sent.
    authority: String,
    /// Whether the bucket is part of the path; otherwise of the host's name.
    pub(super) in_path: bool,
}

impl Endpoint {
    pub(super) fn new(bucket: &str, options: &S3Options) -> Result<Self, S3Error> {
        let given = options.endpoint.as_deref();
        let (in_path, text) = match given {
            Some(endpoint) => (true, endpoint.to_owned()),
            None => {
                let region = &options.region;
                (false, format!("https://{bucket}.s3.{region}.amazonaws.com"))
            }
        };
        let bad = || S3Error::Endpoint(text.clone());
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let (host, scheme) = uri.host().zip(uri.scheme_str()).ok_or_else(bad)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad());
        }
        let tls = match scheme {
            "http" => None,
            "https" => Some(client_config(options)?),
            _ => return Err(bad()),
        };
        let default_port = if tls.is_some() { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let authority = if port == default_port {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority,
            in_path,
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> io::Result<Response<Incoming>> {
        let tcp = in_time(TcpStream::connect((self.host.as_str(), self.port))).await??;
        tcp.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return speak(tcp, request).await;
        };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        speak(in_time(connector.connect(name, tcp)).await??, request).await
    }
}

async fn speak<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    spawn("s3-connection", TaskKind::Connection, async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the bucket ended");
        }
    });
    in_time(sender.send_request(request))
        .await?
        .map_err(io::Error::other)
}

/// A wait for the other side.
pub(super) async fn in_time<T>(future: impl Future<Output = T>) -> io::Result<T> {
    timeout(PATIENCE, future)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no sign of the other side"))
}

/// Whether the other side is not who it should be: it will not be the next time either.
fn is_distrust(error: &S3Error) -> bool {
    let S3Error::Transport { source, .. } = error else {
        return false;
    };
    let tls = source.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

fn client_config(options: &S3Options) -> Result<Arc<rustls::ClientConfig>, S3Error> {
    corten_base::tls::install_provider();
    let mut roots = rustls::RootCertStore::empty();
    let from = match &options.ca_file {
        Some(path) => path.display().to_string(),
        None => "the system's".to_owned(),
    };
    let failed = |error| S3Error::Authorities(from.clone(), error);
    let certificates = match &options.ca_file {
        Some(path) => {
            let pem = std::fs::read(path).map_err(failed)?;
            CertificateDer::pem_slice_iter(&pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| failed(io::Error::other(error)))?
        }
        // Some that cannot be read do no harm: the one that is needed is missed by name.
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(failed(io::Error::other("there is none")));
    }
    Ok(Arc::new(
        rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    ))
}

/// A request in the making.
pub(super) struct Ask<'a> {
    pub(super) s3: &'a S3,
    pub(super) operation: &'static str,
    pub(super) method: Method,
    pub(super) key: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Ask<'_> {
    pub(super) fn query(&mut self, name: &str, value: &str) {
        self.query.push((name.to_owned(), value.to_owned()));
    }

    /// The answer to a request that was granted.
    pub(super) async fn response(&self) -> Result<Response<Incoming>, S3Error> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let last = backoff.failures() + 1 >= TRIES;
            let error = match self.try_once().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let status = answer.status();
                    let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                    let error = self.refused(answer).await;
                    if last || !again {
                        return Err(error);
                    }
                    error
                }
                Err(error) if last || is_distrust(&error) => return Err(error),
                Err(error) => error,
            };
            tracing::warn!(%error, "the bucket is asked again");
            sleep(backoff.next_delay()).await;
        }
    }

    /// Asks, and needs nothing of the answer.
    pub(super) async fn done(&self) -> Result<(), S3Error> {
        self.text().await.map(drop)
    }

    /// The answer as text, which S3's is.
    pub(super) async fn text(&self) -> Result<String, S3Error> {
        let answer = self.response().await?;
        self.body(answer).await
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<String, S3Error> {
        let body = Limited::new(answer.into_body(), XML_BYTES_MAX).collect();
        let body = in_time(body).await.map_err(|error| self.broken(error))?;
        let body = body.map_err(|error| self.broken(io::Error::other(error)))?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }

    async fn try_once(&self) -> Result<Response<Incoming>, S3Error> {
        let request = self.request().map_err(|error| self.broken(error))?;
        let answer = self.s3.endpoint.send(request).await;
        answer.map_err(|error| self.broken(error))
    }

    fn request(&self) -> io::Result<Request<Full<Bytes>>> {
        let path = sign::escape(&self.path, true);
        let mut pairs: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| {
                let escape = |text| sign::escape(text, false);
                format!("{}={}", escape(name), escape(value))
            })
            .collect();
        pairs.sort_unstable();
        let query = pairs.join("&");
        let body_sha256 = sign::sha256(&self.body);
        let endpoint = &self.s3.endpoint;
        let signed = Signed {
            method: self.method.as_str(),
            host: &endpoint.authority,
            path: &path,
            query: &query,
            headers: &[],
            body_sha256: &body_sha256,
        };
        let headers = sign::headers(
            &signed,
            &self.s3.credentials,
            &self.s3.region,
            Timestamp::now(),
        );
        let target = match query.as_str() {
            "" => path.clone(),
            query => format!("{path}?{query}"),
        };
        let mut request = Request::builder()
            .method(&self.method)
            .uri(target)
            .header("host", &endpoint.authority)
            .header("content-length", self.body.len());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
            .body(Full::new(self.body.clone()))
            .map_err(io::Error::other)
    }

    async fn refused(&self, answer: Response<Incoming>) -> S3Error {
        let status = answer.status();
        let text = self.body(answer).await.unwrap_or_default();
        let (code, message) = page::refusal(&text);
        S3Error::Refused {
            operation: self.operation,
            key: self.key.clone(),
            status,
            code,
            message,
        }
    }

    fn broken(&self, source: io::Error) -> S3Error {
        S3Error::Transport {
            operation: self.operation,
            host: self.s3.endpoint.authority.clone(),
            source,
        }
    }
}
