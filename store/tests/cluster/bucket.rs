//! A small server of S3's protocol in this process, which checks every signature with code of its own.
//!
//! Only what backups use. Invariant: a request that S3 would refuse is refused here: wrong signature, wrong hash of the
//! body, parts out of order, unknown uploads.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use corten_base::pki::{Authority, CertRequest, Usage};
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{ClientAuth, TlsFiles};
use corten_store::archive::{Credentials, Place, S3, S3Options};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const ACCESS: &str = "AKIDTEST";
const SECRET: &str = "secret/with+signs";
const REGION: &str = "eu-test-1";
/// Small, so that lists have pages.
const PAGE: usize = 3;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    /// Answers 503 this many times.
    pub(crate) busy: u32,
    /// Flips a bit of large objects as they are stored.
    pub(crate) rots: bool,
    /// Requests by method.
    pub(crate) seen: BTreeMap<String, u32>,
    pub(crate) parts_seen: u32,
    pub(crate) refused_to_shake_hands: u32,
}

#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) state: Arc<Mutex<State>>,
    port: u16,
    /// Whoever connects must shake hands first.
    tls: Option<TlsAcceptor>,
    /// The authority that its clients trust.
    ca_file: Option<PathBuf>,
}

impl Bucket {
    pub(crate) async fn start() -> Bucket {
        Self::serve_on(None).await
    }

    /// Over TLS, with a certificate for the host that it runs on, of an authority of its own. The files are in `dir`.
    pub(crate) async fn start_tls(authority: &Authority, dir: &Path) -> Bucket {
        let request = CertRequest {
            common_name: "bucket".to_owned(),
            ips: vec!["127.0.0.1".parse().expect("an address")],
            usage: Usage::Server,
            ..CertRequest::default()
        };
        let issued = authority.issue(&request).expect("issued");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let files = TlsFiles {
            ca: write("bucket-ca.crt", authority.cert_pem()),
            cert: write("bucket.crt", &issued.cert_pem),
            key: write("bucket.key", &issued.key_pem),
        };
        let config = corten_base::tls::server_config(&files, ClientAuth::None).expect("usable");
        let bucket = Self::serve_on(Some(TlsAcceptor::from(config))).await;
        bucket.trusting(Some(files.ca))
    }

    /// The same bucket for clients that trust another authority; none: those of the system.
    pub(crate) fn trusting(&self, ca_file: Option<PathBuf>) -> Bucket {
        Bucket {
            ca_file,
            ..self.clone()
        }
    }

    async fn serve_on(tls: Option<TlsAcceptor>) -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let bucket = Bucket {
            state: Arc::default(),
            port: listener.local_addr().expect("address").port(),
            tls,
            ca_file: None,
        };
        let serving = bucket.clone();
        spawn("bucket", TaskKind::Background, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let bucket = serving.clone();
                spawn("bucket-connection", TaskKind::Connection, async move {
                    match &bucket.tls {
                        None => bucket.clone().converse(stream).await,
                        // Who does not trust it has hung up.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => bucket.clone().converse(stream).await,
                            Err(_) => bucket.state.lock().refused_to_shake_hands += 1,
                        },
                    }
                });
            }
        });
        bucket
    }

    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let bucket = self.clone();
            async move { Ok::<_, Infallible>(bucket.answer(request).await) }
        });
        // How a connection ends is the client's business.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    pub(crate) fn place_with(&self, secret: &str) -> Place {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.place_at(&format!("{scheme}://127.0.0.1:{}", self.port), secret)
    }

    /// Reached by another name than its own.
    pub(crate) fn place_by_name(&self, host: &str) -> Place {
        self.place_at(&format!("https://{host}:{}", self.port), SECRET)
    }

    fn place_at(&self, endpoint: &str, secret: &str) -> Place {
        let options = S3Options {
            endpoint: Some(endpoint.to_owned()),
            region: REGION.to_owned(),
            ca_file: self.ca_file.clone(),
        };
        let credentials = Credentials::new(ACCESS, secret, Some("a token"));
        Place::S3(S3::new("s3://box/some prefix/ü", &options, credentials).expect("an address"))
    }

    pub(crate) fn place(&self) -> Place {
        self.place_with(SECRET)
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let header = |name: &str| {
            let value = head.headers.get(name).expect(name);
            value.to_str().expect("text").to_owned()
        };
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let sent = header("authorization");
        let names = between(&sent, "SignedHeaders=", ",");
        let lines: String = names
            .split(';')
            .map(|name| format!("{name}:{}\n", header(name)))
            .collect();
        let body_hash = hex::encode(digest::digest(&digest::SHA256, &body));
        let mut pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        pairs.sort_unstable();
        let canonical = format!(
            "{}\n{path}\n{}\n{lines}\n{names}\n{body_hash}",
            head.method,
            pairs.join("&")
        );
        let date = header("x-amz-date");
        let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8]);
        let hash = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        let sign = |key: &[u8], text: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            hmac::sign(&key, text).as_ref().to_vec()
        };
        let key = sign(format!("AWS4{SECRET}").as_bytes(), &date.as_bytes()[..8]);
        let key = sign(
            &sign(&sign(&key, REGION.as_bytes()), b"s3"),
            b"aws4_request",
        );
        let signature = hex::encode(sign(&key, text.as_bytes()));
        let credential = format!("Credential={ACCESS}/{scope},");
        if !sent.ends_with(&format!("Signature={signature}")) || !sent.contains(&credential) {
            return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch");
        }
        if header("x-amz-content-sha256") != body_hash {
            return refuse(StatusCode::BAD_REQUEST, "XAmzContentSHA256Mismatch");
        }
        let key = unescape(&path);
        let key = key.strip_prefix("/box").expect("our bucket");
        self.serve(&head.method, key.trim_start_matches('/'), &query, body)
    }

    fn serve(&self, method: &Method, key: &str, query: &str, body: Bytes) -> Response<Full<Bytes>> {
        let mut state = self.state.lock();
        *state.seen.entry(method.to_string()).or_default() += 1;
        if state.busy > 0 {
            state.busy -= 1;
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
        }
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (unescape(name), unescape(value)))
            .collect();
        match (method.as_str(), query.get("uploadId")) {
            ("GET", _) if query.contains_key("list-type") => list(&state, &query),
            ("GET", _) => match state.objects.get(key) {
                Some(object) => Response::new(Full::new(object.clone())),
                None => refuse(StatusCode::NOT_FOUND, "NoSuchKey"),
            },
            ("DELETE", None) => {
                state.objects.remove(key);
                Response::default()
            }
            ("DELETE", Some(upload)) => {
                state.uploads.remove(upload);
                Response::default()
            }
            ("PUT", None) => {
                state.put(key, body);
                Response::default()
            }
            ("POST", None) => {
                let upload = format!("up&load{}", state.uploads.len());
                state.uploads.insert(upload.clone(), BTreeMap::new());
                let upload = upload.replace('&', "&amp;");
                text(format!("<R><UploadId>{upload}</UploadId></R>"))
            }
            ("PUT", Some(upload)) => {
                state.parts_seen += 1;
                let number = query["partNumber"].parse().expect("a number");
                let tag = format!("\"tag{number}\"");
                let parts = state.uploads.get_mut(upload).expect("begun");
                parts.insert(number, body);
                let answer = Response::builder().header("etag", tag);
                answer.body(Full::default()).expect("an answer")
            }
            ("POST", Some(upload)) => {
                let parts = state.uploads.remove(upload).expect("begun");
                let asked = String::from_utf8(body.to_vec()).expect("text");
                for number in parts.keys() {
                    let part = format!(
                        "<PartNumber>{number}</PartNumber><ETag>&quot;tag{number}&quot;</ETag>"
                    );
                    assert!(asked.contains(&part), "{asked}");
                }
                let whole: Vec<u8> = parts.into_values().flatten().collect();
                state.put(key, whole.into());
                text("<CompleteMultipartUploadResult/>".to_owned())
            }
            _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }
}

impl State {
    fn put(&mut self, key: &str, body: Bytes) {
        let mut body = body.to_vec();
        if self.rots && key.ends_with(".corten") {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        self.objects.insert(key.to_owned(), body.into());
    }
}

fn list(state: &State, query: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
    let prefix = &query["prefix"];
    let after = query.get("continuation-token").cloned().unwrap_or_default();
    let mut found = state
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(prefix) && **key > after);
    let mut xml = String::from("<ListBucketResult>");
    let mut last = String::new();
    for (key, object) in found.by_ref().take(PAGE) {
        xml.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>{}</Size></Contents>",
            object.len()
        ));
        last = key.clone();
    }
    let more = found.next().is_some();
    xml.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
    if more {
        xml.push_str(&format!(
            "<NextContinuationToken>{last}</NextContinuationToken>"
        ));
    }
    text(xml + "</ListBucketResult>")
}

fn text(text: String) -> Response<Full<Bytes>> {
    Response::new(Full::new(text.into()))
}

fn refuse(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let body = format!("<Error><Code>{code}</Code><Message>a test says so</Message></Error>");
    let answer = Response::builder().status(status);
    answer.body(Full::new(body.into())).expect("an answer")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).expect("there");
    rest.split_once(after).expect("there").0
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits: Vec<u8> = bytes.by_ref().take(2).collect();
        let digits = String::from_utf8(digits).expect("digits");
        out.push(u8::from_str_radix(&digits, 16).expect("hexadecimal"));
    }
    String::from_utf8(out).expect("text")
}
