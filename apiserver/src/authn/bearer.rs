//! Bearer tokens out of headers, and the few static ones.
//!
//! What a token means is decided by `tokens`; this only finds it. Invariant: the comparison with static tokens takes the
//! same time whether they differ early or late, by comparing digests.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use super::User;

/// Browsers cannot set headers on WebSockets, so a token may come as a subprotocol with this prefix.
const PROTOCOL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// What the headers say about credentials.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A bearer token.
    Token(String),
    /// An Authorization header of a scheme that is not served.
    Other,
}

/// Looks for a bearer token.
pub fn find(headers: &HeaderMap) -> Found {
    if let Some(value) = headers.get(http::header::AUTHORIZATION) {
        let Ok(text) = value.to_str() else {
            return Found::Other;
        };
        let mut words = text.trim().splitn(2, ' ');
        let scheme = words.next().unwrap_or_default();
        let token = words.next().unwrap_or_default().trim();
        return match scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            true => Found::Token(token.to_owned()),
            false => Found::Other,
        };
    }
    let protocols = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut tokens = protocols
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|protocol| protocol.trim().strip_prefix(PROTOCOL_PREFIX));
    match tokens.next() {
        None => Found::Nothing,
        Some(encoded) => base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(encoded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map_or(Found::Other, Found::Token),
    }
}

/// Takes tokens out of the offered subprotocols: they are for this server, not for whom the stream goes on to.
pub fn strip(headers: &mut HeaderMap) {
    let name = http::header::SEC_WEBSOCKET_PROTOCOL;
    if !headers.contains_key(&name) {
        return;
    }
    // What is not text names no protocol, and may hide a token from the comparison.
    let offered: Vec<String> = headers
        .get_all(&name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(PROTOCOL_PREFIX))
        .collect();
    headers.remove(&name);
    if let Ok(kept) = HeaderValue::from_str(&offered.join(", "))
        && !offered.is_empty()
    {
        headers.insert(name, kept);
    }
}

/// Tokens from configuration, for bootstrap; kept as digests.
#[derive(Debug, Default)]
pub struct StaticTokens(HashMap<[u8; 32], Arc<User>>);

impl StaticTokens {
    /// Adds a token.
    pub fn add(&mut self, token: &str, user: User) {
        self.0.insert(digest(token), Arc::new(user));
    }

    /// The user of a token.
    pub fn user(&self, token: &str) -> Option<Arc<User>> {
        self.0.get(&digest(token)).cloned()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
