//! What an HTTP request asks for, resolved from method, path and query alone, exactly as clients of
//! Kubernetes expect it to be resolved.
//!
//! It does not look at bodies, does not know which resources exist and decides nothing: discovery, authorization
//! and the registry each read the same [`RequestInfo`]. Invariant: the resolution is a pure function, so that two
//! stages of the pipeline can never disagree about what a request is.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::selector::FieldSelector;
use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt;

use crate::authn::User;

#[cfg(test)]
mod tests;

/// Error type of streamed bodies.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The one body type of the pipeline, for requests and responses, REST and gRPC alike.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// A body that is already complete.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body without content.
pub fn empty() -> Body {
    http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A request as the pipeline sees it. The strings are percent-decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// False for `/healthz`, `/apis/apps` and everything else that names no resource.
    pub is_resource_request: bool,
    /// The decoded path, as it stands in RBAC's nonResourceURLs.
    pub path: String,
    /// get, list, watch, create, update, patch, delete, deletecollection; for other paths the method in lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// Empty for the core group.
    pub api_group: String,
    /// For example `v1`.
    pub api_version: String,
    /// Empty when the request is cluster-wide. `namespaces/x` itself has namespace `x`, as upstream.
    pub namespace: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Empty when the resource itself is meant.
    pub subresource: String,
    /// Empty for collections, unless a field selector pins `metadata.name`.
    pub name: String,
    /// The decoded segments from the resource on: `[resource, name, subresource, rest...]`.
    pub parts: Vec<String>,
    /// Raw `fieldSelector` of list, watch and deletecollection.
    pub field_selector: Option<String>,
    /// Raw `labelSelector` of list, watch and deletecollection.
    pub label_selector: Option<String>,
}

/// Who asks and what for: put into the request's extensions by the chain, read by everything behind it
/// (`request.extensions().get::<Caller>()`). gRPC calls carry it too; their `info` names only the path.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The identity after authentication and impersonation.
    pub user: Arc<User>,
    /// What is asked for.
    pub info: Arc<RequestInfo>,
    /// The User-Agent header, empty when absent; field managers are named after it.
    pub user_agent: Arc<str>,
    /// Identifies the request in audit log and traces.
    pub request_id: Arc<str>,
}

impl Caller {
    /// The caller of an internal action that has no request.
    pub fn internal(user: Arc<User>, user_agent: &str) -> Self {
        Self {
            user,
            info: Arc::new(RequestInfo::default()),
            user_agent: user_agent.into(),
            request_id: Arc::from(""),
        }
    }
}

/// Verbs in front of the resource in the path, kept for old clients.
const VERB_PREFIXES: [&str; 2] = ["proxy", "watch"];
/// What may follow `namespaces/<name>` without being a resource inside that namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Resolves a request line.
    pub fn resolve(method: &Method, uri: &Uri) -> Self {
        let path = decode(uri.path()).into_owned();
        let mut info = Self {
            path,
            verb: method.as_str().to_ascii_lowercase(),
            ..Self::default()
        };
        let segments: Vec<String> = uri
            .path()
            .trim_matches('/')
            .split('/')
            .map(|segment| decode(segment).into_owned())
            .collect();
        info.resolve_resource(method, &segments, uri.query().unwrap_or(""));
        info
    }

    /// Requests that may last as long as the client likes: they get no deadline and do not count as in flight.
    pub fn is_long_running(&self) -> bool {
        const SUBRESOURCES: [&str; 5] = ["attach", "exec", "proxy", "log", "portforward"];
        self.is_resource_request
            && (self.verb == "watch"
                || self.verb == "proxy"
                || SUBRESOURCES.contains(&self.subresource.as_str()))
    }

    /// Whether the request can change nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "get" | "list" | "watch" | "head" | "options"
        )
    }

    /// The path behind the subresource, for proxied requests: `a/b` of `pods/x/proxy/a/b`.
    pub fn rest(&self) -> String {
        self.parts.get(3..).unwrap_or_default().join("/")
    }

    fn resolve_resource(&mut self, method: &Method, segments: &[String], query: &str) {
        if segments.len() < 3 || !matches!(segments[0].as_str(), "api" | "apis") {
            return;
        }
        let mut rest = &segments[1..];
        if segments[0] == "apis" {
            if rest.len() < 3 {
                return;
            }
            self.api_group.clone_from(&rest[0]);
            rest = &rest[1..];
        }
        self.api_prefix.clone_from(&segments[0]);
        self.is_resource_request = true;
        self.api_version.clone_from(&rest[0]);
        rest = &rest[1..];

        if VERB_PREFIXES.contains(&rest[0].as_str()) && rest.len() > 1 {
            self.verb.clone_from(&rest[0]);
            rest = &rest[1..];
        } else {
            self.verb = verb_of(method).to_owned();
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            self.namespace.clone_from(&rest[1]);
            if rest.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&rest[2].as_str()) {
                rest = &rest[2..];
            }
        }
        self.parts = rest.to_vec();
        self.resource.clone_from(&rest[0]);
        if let Some(name) = rest.get(1) {
            self.name.clone_from(name);
        }
        if let Some(subresource) = rest.get(2)
            && self.verb != "proxy"
        {
            self.subresource.clone_from(subresource);
        }
        self.resolve_collection(query);
    }

    fn resolve_collection(&mut self, query: &str) {
        if self.name.is_empty() && self.verb == "get" {
            let watch = query_value(query, "watch");
            let watching = watch.is_some_and(|value| !matches!(&*value, "false" | "0"));
            self.verb = if watching { "watch" } else { "list" }.to_owned();
        } else if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_owned();
        }
        if matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            let present = |name| {
                query_value(query, name)
                    .filter(|value| !value.is_empty())
                    .map(Cow::into_owned)
            };
            self.field_selector = present("fieldSelector");
            self.label_selector = present("labelSelector");
            if self.name.is_empty() && self.verb != "deletecollection" {
                self.name = self
                    .field_selector
                    .as_deref()
                    .and_then(pinned_name)
                    .unwrap_or_default();
            }
        }
    }
}

fn verb_of(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The name that a field selector allows alone, so that a rule with resourceNames can admit the list.
fn pinned_name(selector: &str) -> Option<String> {
    // Read as the registry reads it: a comma may be escaped and then belongs to a value.
    let selector = FieldSelector::parse(selector).ok()?;
    let value = selector.required_value("metadata.name")?;
    let usable = !value.is_empty() && value != "." && value != ".." && !value.contains(['/', '%']);
    usable.then(|| value.to_owned())
}

/// The first value of a query parameter, decoded.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query_pairs(query)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

/// All query parameters in order, decoded (`+` is a blank).
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_plus(key), decode_plus(value))
        })
}

/// The User-Agent of a request, empty when absent or not text.
pub fn user_agent(headers: &HeaderMap) -> &str {
    headers
        .get(http::header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

fn decode_plus(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        Cow::Owned(decode(&text.replace('+', " ")).into_owned())
    } else {
        decode(text)
    }
}

/// Percent-decodes; a malformed escape stays as it is, invalid UTF-8 becomes the replacement character.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten();
        let value = escape
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        if let Some(value) = value {
            out.push(value);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}
