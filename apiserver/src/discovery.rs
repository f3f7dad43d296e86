//! What the server offers: `/api`, `/apis` and everything below them, classic and aggregated.
//!
//! Documents are made from the registry of kinds once and kept encoded. Invariant: both forms list exactly the resources
//! that requests are routed to, because both come from the same descriptors.

mod documents;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use corten_api::kinds;
use corten_api::status::Status;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::chain::{not_modified, respond};
use crate::request::Body;

/// A document that is ready to be sent.
struct Encoded {
    bytes: Bytes,
    etag: HeaderValue,
}

impl Encoded {
    fn of(value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        let digest = hex::encode_upper(Sha256::digest(&bytes));
        let etag = HeaderValue::from_str(&format!("\"{digest}\""))
            .expect("hexadecimal digits are a header value");
        Self { bytes, etag }
    }
}

/// The forms in which `/api` and `/apis` can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Classic,
    Aggregated(&'static str),
}

/// Versions of the aggregated form, the best first.
const AGGREGATED: [&str; 2] = ["v2", "v2beta1"];

struct Documents {
    classic: BTreeMap<String, Encoded>,
    /// By path and version.
    aggregated: BTreeMap<(&'static str, &'static str), Encoded>,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let kinds = kinds::registry();
    let mut classic = BTreeMap::new();
    let mut add = |path: String, value: &Value| drop(classic.insert(path, Encoded::of(value)));
    add("/api".to_owned(), &documents::core_versions(kinds));
    add("/apis".to_owned(), &documents::group_list(kinds));
    for group in kinds.groups() {
        if !group.name.is_empty() {
            add(format!("/apis/{}", group.name), &documents::group(&group));
        }
        for version in &group.versions {
            let prefix = if group.name.is_empty() {
                "/api".to_owned()
            } else {
                format!("/apis/{}", group.name)
            };
            add(
                format!("{prefix}/{version}"),
                &documents::resource_list(kinds, group.name, version),
            );
        }
    }
    let mut aggregated = BTreeMap::new();
    for version in AGGREGATED {
        aggregated.insert(
            ("/api", version),
            Encoded::of(&documents::aggregated(kinds, version, true)),
        );
        aggregated.insert(
            ("/apis", version),
            Encoded::of(&documents::aggregated(kinds, version, false)),
        );
    }
    Documents {
        classic,
        aggregated,
    }
});

/// Answers a GET below `/api` or `/apis` that names no resource.
pub fn serve(request: &Request<Body>) -> Result<Response<Body>, Status> {
    let path = request.uri().path().trim_end_matches('/');
    let form = if matches!(path, "/api" | "/apis") {
        wanted(request.headers())?
    } else {
        Form::Classic
    };
    let (document, content_type) = match form {
        Form::Classic => (DOCUMENTS.classic.get(path), respond::JSON),
        Form::Aggregated(version) => {
            let key = if path == "/api" { "/api" } else { "/apis" };
            (
                DOCUMENTS.aggregated.get(&(key, version)),
                media_type(version),
            )
        }
    };
    let document = document.ok_or_else(Status::no_such_path)?;
    if has_already(request.headers(), &document.etag) {
        return Ok(not_modified(&document.etag));
    }
    let mut response = respond::json_bytes(document.bytes.clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(ETAG, document.etag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// Whether the client named the tag in If-None-Match.
pub(crate) fn has_already(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let wanted = etag.as_bytes();
    headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|tag| tag.trim_ascii() == wanted)
    })
}

/// The paths that `/` lists.
pub(crate) fn paths() -> Vec<&'static str> {
    let own = [
        "/.well-known/openid-configuration",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    let mut paths: Vec<&'static str> = own.to_vec();
    paths.extend(DOCUMENTS.classic.keys().map(String::as_str));
    paths.sort_unstable();
    paths
}

fn media_type(version: &str) -> HeaderValue {
    let text =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    HeaderValue::from_str(&text).expect("the versions are plain words")
}

/// The first form in the Accept header that is served.
fn wanted(headers: &HeaderMap) -> Result<Form, Status> {
    let mut asked = false;
    for value in headers.get_all(ACCEPT) {
        for item in value
            .to_str()
            .unwrap_or_default()
            .split(',')
            .filter(|item| !item.trim().is_empty())
        {
            asked = true;
            if let Some(form) = form_of(item) {
                return Ok(form);
            }
        }
    }
    if asked {
        Err(Status::not_acceptable(["application/json"]))
    } else {
        Ok(Form::Classic)
    }
}

fn form_of(item: &str) -> Option<Form> {
    let mut parts = item.split(';').map(str::trim);
    if !matches!(
        parts.next(),
        Some("application/json" | "application/*" | "*/*")
    ) {
        return None;
    }
    let (mut group, mut version, mut kind) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            Some(("as", value)) => kind = value,
            _ => {}
        }
    }
    if kind.is_empty() {
        return Some(Form::Classic);
    }
    let known = AGGREGATED.into_iter().find(|known| *known == version);
    known
        .filter(|_| group == "apidiscovery.k8s.io" && kind == "APIGroupDiscoveryList")
        .map(Form::Aggregated)
}
