//! A client of an API server: HTTP/2 over TLS with a client certificate, a few connections that many tasks share, as
//! client-go has them.
//!
//! Invariant: every byte that passes a socket is counted, below TLS, in both directions.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{self, TlsFiles};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What Go's HTTP/2 client lets a server send ahead, on a stream and on a connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Of an answer that is an error, as much is shown.
const SHOWN_CHARS: usize = 200;

/// What an answer shall look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Json,
    /// Go's client asks for gzip unless told otherwise; both servers then compress what is larger than 128 KiB.
    JsonGzip,
    Protobuf,
    ProtobufGzip,
}

impl Format {
    fn accept(self) -> &'static str {
        match self {
            Format::Json | Format::JsonGzip => "application/json",
            Format::Protobuf | Format::ProtobufGzip => "application/vnd.kubernetes.protobuf",
        }
    }

    fn gzip(self) -> bool {
        matches!(self, Format::JsonGzip | Format::ProtobufGzip)
    }
}

/// A request as the loads make it.
pub(crate) struct Call {
    method: Method,
    path: String,
    format: Format,
    content: &'static str,
    body: Bytes,
}

impl Call {
    pub(crate) fn get(path: String, format: Format) -> Self {
        Self {
            method: Method::GET,
            path,
            format,
            content: "",
            body: Bytes::new(),
        }
    }

    pub(crate) fn post(path: String, body: Bytes) -> Self {
        Self::with_body(Method::POST, path, "application/json", body)
    }

    pub(crate) fn put(path: String, body: Bytes) -> Self {
        Self::with_body(Method::PUT, path, "application/json", body)
    }

    pub(crate) fn merge_patch(path: String, body: Bytes) -> Self {
        Self::with_body(Method::PATCH, path, "application/merge-patch+json", body)
    }

    fn with_body(method: Method, path: String, content: &'static str, body: Bytes) -> Self {
        Self {
            method,
            path,
            format: Format::Json,
            content,
            body,
        }
    }
}

/// Where a server is, who asks, and the count of bytes that all connections to this server share.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    tls: Arc<rustls::ClientConfig>,
    wire: Arc<AtomicU64>,
}

impl Target {
    pub(crate) fn new(port: u16, files: &TlsFiles, wire: Arc<AtomicU64>) -> Result<Self> {
        let mut tls = rustls::ClientConfig::clone(&*tls::client_config(files)?);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            port,
            tls: Arc::new(tls),
            wire,
        })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.set_nodelay(true)?;
        let counted = Counted {
            stream,
            count: Arc::clone(&self.wire),
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector
            .connect(ServerName::try_from("localhost")?, counted)
            .await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        spawn("connection", TaskKind::Connection, async move {
            // What breaks a connection is told to each of its requests.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            authority: format!("localhost:{}", self.port).into(),
        })
    }

    pub(crate) async fn client(&self, connections: usize) -> Result<Client> {
        let mut all = Vec::with_capacity(connections);
        for _ in 0..connections.max(1) {
            all.push(self.connect().await?);
        }
        Ok(Client(all))
    }
}

/// Several connections to one server. They end with it.
pub(crate) struct Client(Vec<Connection>);

impl Client {
    /// The connection of the task with this number.
    pub(crate) fn at(&self, number: usize) -> Connection {
        self.0[number % self.0.len()].clone()
    }
}

#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: Arc<str>,
}

impl Connection {
    /// The answer's head, once it says success; the body comes as a stream.
    pub(crate) async fn open(&self, call: Call) -> Result<Response<Incoming>> {
        let path = call.path.clone();
        let answer = self.send(call).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let text: String = String::from_utf8_lossy(&body)
            .chars()
            .take(SHOWN_CHARS)
            .collect();
        bail!("{status} to {path}: {text}")
    }

    /// The answer whatever it says: code and body.
    pub(crate) async fn ask(&self, call: Call) -> Result<(u16, Bytes)> {
        let answer = self.send(call).await?;
        let code = answer.status().as_u16();
        Ok((code, answer.into_body().collect().await?.to_bytes()))
    }

    async fn send(&self, call: Call) -> Result<Response<Incoming>> {
        let uri = format!("https://{}{}", self.authority, call.path);
        let mut request = Request::builder()
            .method(call.method)
            .uri(uri)
            .header(header::USER_AGENT, "bench/1")
            .header(header::ACCEPT, call.format.accept());
        if call.format.gzip() {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.content);
        }
        let request = request.body(Full::new(call.body))?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }

    /// The whole answer in memory.
    pub(crate) async fn call(&self, call: Call) -> Result<Bytes> {
        let answer = self.open(call).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    /// Reads an answer to its end without keeping it; returns its size.
    pub(crate) async fn drain(&self, call: Call) -> Result<usize> {
        let mut body = self.open(call).await?.into_body();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(size)
    }
}

/// The text after `name":"` in JSON without blanks, up to the next quote.
pub(crate) fn quoted<'a>(json: &'a [u8], name: &str) -> Option<&'a str> {
    let marker = format!("\"{name}\":\"");
    let at = json
        .windows(marker.len())
        .position(|part| part == marker.as_bytes())?;
    let rest = &json[at + marker.len()..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The resourceVersion of an object or a list: the first in its text.
pub(crate) fn resource_version(json: &[u8]) -> Result<&str> {
    quoted(json, "resourceVersion").context("an answer without resourceVersion")
}

/// A socket that counts.
struct Counted {
    stream: TcpStream,
    count: Arc<AtomicU64>,
}

impl Counted {
    fn add(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.count.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.add(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.add(*written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
