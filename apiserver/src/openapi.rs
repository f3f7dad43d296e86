//! Serves `/openapi/v2` and `/openapi/v3`, as kubectl explain and apply read them.
//!
//! The documents are built by `corten_api::openapi` on first use and kept, plain and compressed. Invariant: a document's hash in
//! the v3 index is the hash of what its path serves, so clients may cache by it for ever.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::OnceLock;

use bytes::Bytes;
use corten_api::kinds;
use corten_api::openapi::{V2_PROTOBUF, V2_PROTOBUF_ACCEPT};
use corten_api::status::Status;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LOCATION, VARY};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::chain::{accepts_gzip, gzip, not_modified, respond};
use crate::discovery::has_already;
use crate::request::{Body, empty, full, query_value};

/// One document in the forms in which it is sent.
struct Document {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
    hash: String,
    etag: HeaderValue,
}

impl Document {
    fn of(value: &Value) -> Self {
        Self::of_bytes(value.to_string().into())
    }

    fn of_bytes(plain: Bytes) -> Self {
        let hash = hex::encode_upper(Sha256::digest(&plain));
        let etag = HeaderValue::from_str(&format!("\"{hash}\""))
            .expect("hexadecimal digits are a header value");
        Self {
            plain,
            gzip: OnceLock::new(),
            hash,
            etag,
        }
    }

    fn compressed(&self) -> Bytes {
        self.gzip.get_or_init(|| gzip(&self.plain)).clone()
    }
}

/// By path below `/openapi/v3/`.
static V3: LazyLock<BTreeMap<String, Document>> = LazyLock::new(|| {
    let mut documents = BTreeMap::new();
    for group in kinds::registry().groups() {
        for version in &group.versions {
            let path = match group.name {
                "" => format!("api/{version}"),
                name => format!("apis/{name}/{version}"),
            };
            let document = corten_api::openapi::v3(group.name, version);
            documents.insert(path, Document::of(&document));
        }
    }
    documents
});

static V3_INDEX: LazyLock<Document> = LazyLock::new(|| {
    let entry = |(path, document): (&String, &Document)| {
        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
        (path.clone(), json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = V3.iter().map(entry).collect();
    Document::of(&json!({"paths": paths}))
});

static V2: LazyLock<Document> = LazyLock::new(|| Document::of(&corten_api::openapi::v2()));

/// The same document in the form that client-go asks for first.
static V2_ENCODED: LazyLock<Document> = LazyLock::new(|| {
    let bytes = corten_api::openapi::v2_protobuf(&corten_api::openapi::v2());
    Document::of_bytes(bytes.into())
});

/// Answers a GET below `/openapi/`.
pub fn serve(request: &Request<Body>) -> Result<Response<Body>, Status> {
    let path = request.uri().path().trim_end_matches('/');
    match path {
        "/openapi/v2" => Ok(match accepted(request, Some(V2_PROTOBUF_ACCEPT))? {
            Form::Json => send(request, &V2),
            Form::Protobuf => {
                let mut response = send(request, &V2_ENCODED);
                let kind = HeaderValue::from_static(V2_PROTOBUF);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
        }),
        "/openapi/v3" => Ok(send(request, &V3_INDEX)),
        path => {
            let name = path
                .strip_prefix("/openapi/v3/")
                .ok_or_else(Status::no_such_path)?;
            let document = V3.get(name).ok_or_else(Status::no_such_path)?;
            accepted(request, None)?;
            Ok(send_hashed(request, name, document))
        }
    }
}

/// A document named by its hash never changes; an old hash leads to the new one.
fn send_hashed(request: &Request<Body>, name: &str, document: &Document) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let Some(hash) = query_value(query, "hash") else {
        return send(request, document);
    };
    if hash == document.hash {
        let mut response = send(request, document);
        response.headers_mut().insert(
            CACHE_CONTROL,
            HeaderValue::from_static("public, immutable, max-age=31536000"),
        );
        return response;
    }
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let url = format!("/openapi/v3/{name}?hash={}", document.hash);
    if let Ok(url) = HeaderValue::from_str(&url) {
        response.headers_mut().insert(LOCATION, url);
    }
    response
}

fn send(request: &Request<Body>, document: &Document) -> Response<Body> {
    if has_already(request.headers(), &document.etag) {
        return not_modified(&document.etag);
    }
    let zip = accepts_gzip(request.headers());
    let mut response = Response::new(full(if zip {
        document.compressed()
    } else {
        document.plain.clone()
    }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, respond::JSON);
    headers.insert(ETAG, document.etag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if zip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The forms in which documents are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

/// The first media type in the Accept header that is served; the protobuf form of v3 is not built.
fn accepted(request: &Request<Body>, protobuf: Option<&str>) -> Result<Form, Status> {
    let mut asked = false;
    for value in request.headers().get_all(ACCEPT) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let kind = item.split(';').next().unwrap_or_default().trim();
            if kind.is_empty() {
                continue;
            }
            asked = true;
            if matches!(kind, "application/json" | "application/*" | "*/*") {
                return Ok(Form::Json);
            }
            if protobuf == Some(kind) {
                return Ok(Form::Protobuf);
            }
        }
    }
    match asked {
        true => Err(Status::not_acceptable(
            protobuf.into_iter().chain(["application/json"]),
        )),
        false => Ok(Form::Json),
    }
}
