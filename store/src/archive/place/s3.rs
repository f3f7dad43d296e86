//! Backups in a bucket of S3, or of anything that speaks its protocol.
//!
//! Only the six operations that backups need, over HTTP/1.1 with signature version 4; hence no client library, each of
//! which brings a second HTTP stack and a second crypto provider. Invariant: everything sent carries the SHA-256 of its
//! body within the signature, so what is stored is what was sent, or nothing.

mod http;
mod multipart;
mod page;
mod sign;
mod xml;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::http::{Method, StatusCode};
use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use http_body_util::BodyExt as _;

use super::{Item, Pipe};
use http::{Ask, Endpoint};
#[cfg(test)]
pub(crate) use page::read_for_tests;
pub use sign::Credentials;

/// Bodies up to this size go in one request, larger ones in parts of it: what is held in memory, and sent again when a
/// request fails.
const PART_BYTES: u64 = 16 << 20;
/// A page of a list has at most 1,000 names of at most 1 KiB, escaped.
const XML_BYTES_MAX: usize = 8 << 20;

/// Ten million names: far beyond any prefix that backups share with others. A server that never says that its list has
/// ended must not fill our memory.
const PAGES_MAX: usize = 10_000;

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The address is not one.
    #[error("{0:?} is not an address as in s3://bucket/prefix")]
    Address(String),
    /// The endpoint is not one.
    #[error("{0:?} is not an endpoint as in https://host:port")]
    Endpoint(String),
    /// Nothing to sign with.
    #[error(
        "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file with them"
    )]
    NoCredentials,
    /// The file of credentials cannot be used.
    #[error("cannot use the credentials in {0}")]
    Credentials(PathBuf, #[source] io::Error),
    /// Certificates of authorities cannot be read.
    #[error("cannot read the authorities that sign the endpoint's certificate ({0})")]
    Authorities(String, #[source] io::Error),
    /// The endpoint cannot be reached, or broke off.
    #[error("{operation} at {host}")]
    Transport {
        /// What was tried.
        operation: &'static str,
        /// Where.
        host: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// It answered with a refusal.
    #[error("{operation} {key:?}: the bucket answers {status} {code} {message}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// With which key.
        key: String,
        /// HTTP status.
        status: StatusCode,
        /// S3's word for it.
        code: String,
        /// S3's explanation.
        message: String,
    },
    /// Its answer cannot be understood.
    #[error("{operation}: the answer of the bucket lacks {what}")]
    Answer {
        /// What was tried.
        operation: &'static str,
        /// What is not in it.
        what: &'static str,
    },
    /// The local file cannot be read.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] io::Error),
}

/// How to reach a bucket.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// `https://host:port` of a server other than Amazon's; buckets are then parts of the path.
    pub endpoint: Option<String>,
    /// Part of each signature.
    pub region: String,
    /// Authorities of the endpoint's certificate, PEM; those of the system otherwise.
    pub ca_file: Option<PathBuf>,
}

/// A bucket and a prefix in it.
#[derive(Clone)]
pub struct S3 {
    bucket: String,
    /// Empty, or ends with a slash.
    prefix: String,
    endpoint: Arc<Endpoint>,
    credentials: Credentials,
    region: String,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

impl S3 {
    /// From `s3://bucket/prefix`.
    pub fn new(
        address: &str,
        options: &S3Options,
        credentials: Credentials,
    ) -> Result<Self, S3Error> {
        let bad = || S3Error::Address(address.to_owned());
        let rest = address.strip_prefix("s3://").ok_or_else(bad)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || bucket.contains(['?', '#', '@', ':']) {
            return Err(bad());
        }
        let prefix = prefix.trim_matches('/');
        let prefix = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix,
            endpoint: Arc::new(Endpoint::new(bucket, options)?),
            credentials,
            region: options.region.clone(),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn ask<'a>(&'a self, operation: &'static str, method: Method, key: &str) -> Ask<'a> {
        let path = match (self.endpoint.in_path, key) {
            (true, "") => format!("/{}", self.bucket),
            (true, key) => format!("/{}/{key}", self.bucket),
            (false, key) => format!("/{key}"),
        };
        Ask {
            s3: self,
            operation,
            method,
            key: key.to_owned(),
            path,
            query: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Item>, S3Error> {
        const OPERATION: &str = "list";
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut ask = self.ask(OPERATION, Method::GET, "");
            ask.query("list-type", "2");
            ask.query("prefix", &self.prefix);
            if let Some(next) = &next {
                ask.query("continuation-token", next);
            }
            let answer = ask.text().await?;
            let lacks = |what| S3Error::Answer {
                operation: OPERATION,
                what,
            };
            let page = page::read(&answer, &self.prefix).map_err(lacks)?;
            items.extend(page.items);
            let Some(token) = page.next else {
                return Ok(items);
            };
            // A server that gives the same page for ever must not keep us for ever.
            if next.as_ref() == Some(&token) {
                return Err(lacks("another token for the next page"));
            }
            next = Some(token);
        }
        Err(S3Error::Answer {
            operation: OPERATION,
            what: "an end: it has too many pages",
        })
    }

    pub(super) async fn put(&self, name: &str, body: Bytes) -> Result<(), S3Error> {
        let mut ask = self.ask("put", Method::PUT, &self.key(name));
        ask.body = body;
        ask.done().await
    }

    pub(super) async fn put_file(&self, file: &Path, name: &str) -> Result<(), S3Error> {
        let failed = |error| S3Error::File(file.to_owned(), error);
        let len = std::fs::metadata(file).map_err(failed)?.len();
        if len > PART_BYTES {
            return multipart::put(self, file, len, name).await;
        }
        let body = std::fs::read(file).map_err(failed)?;
        self.put(name, body.into()).await
    }

    pub(super) async fn open(&self, name: &str) -> Result<impl Read + Send + use<>, S3Error> {
        let answer = self
            .ask("get", Method::GET, &self.key(name))
            .response()
            .await?;
        let (pieces, pipe) = Pipe::new();
        let mut body = answer.into_body();
        spawn("s3-get", TaskKind::Connection, async move {
            while let Some(frame) = http::in_time(body.frame()).await.transpose() {
                let piece = match frame {
                    Ok(Ok(frame)) => frame.into_data().map_err(|_| ()),
                    Ok(Err(error)) => {
                        let _ = pieces.send(Err(io::Error::other(error))).await;
                        return;
                    }
                    Err(error) => {
                        let _ = pieces.send(Err(error)).await;
                        return;
                    }
                };
                // Trailers say nothing that is needed; a reader that is gone needs nothing more.
                if let Ok(piece) = piece
                    && pieces.send(Ok(piece)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(pipe)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), S3Error> {
        self.ask("delete", Method::DELETE, &self.key(name))
            .done()
            .await
    }
}
