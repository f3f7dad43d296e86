//! Amazon's signature version 4: what proves that a request comes from the holder of a key, unchanged.
//!
//! Pure. Invariant: the path and query that are signed are byte for byte those that are sent.

use std::fmt;
use std::io;
use std::path::Path;

use aws_lc_rs::{digest, hmac};
use jiff::Timestamp;

use super::S3Error;

/// A key with its name.
#[derive(Clone)]
pub struct Credentials {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credentials of {}", self.access_key)
    }
}

impl Credentials {
    /// From their parts.
    pub fn new(access_key: &str, secret_key: &str, session_token: Option<&str>) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            session_token: session_token.map(str::to_owned),
        }
    }

    /// From the environment variables that all S3 tools use.
    pub fn from_env() -> Result<Self, S3Error> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY")) {
            (Some(access), Some(secret)) => {
                let token = var("AWS_SESSION_TOKEN");
                Ok(Self::new(&access, &secret, token.as_deref()))
            }
            _ => Err(S3Error::NoCredentials),
        }
    }

    /// From a file as `~/.aws/credentials`: the first section that has both.
    pub fn from_file(path: &Path) -> Result<Self, S3Error> {
        let failed = |error| S3Error::Credentials(path.to_owned(), error);
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let value = |wanted: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == wanted).then(|| value.trim().to_owned())
            })
        };
        match (value("aws_access_key_id"), value("aws_secret_access_key")) {
            (Some(access), Some(secret)) => Ok(Self::new(
                &access,
                &secret,
                value("aws_session_token").as_deref(),
            )),
            _ => {
                let what = "it lacks aws_access_key_id or aws_secret_access_key";
                Err(failed(io::Error::new(io::ErrorKind::InvalidData, what)))
            }
        }
    }
}

/// What is signed of a request.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// Escaped.
    pub(super) path: &'a str,
    /// Escaped and in order.
    pub(super) query: &'a str,
    /// More headers, by name in small letters, in order.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body_sha256: &'a str,
}

/// The headers that make a request a signed one.
pub(super) fn headers(
    request: &Signed<'_>,
    credentials: &Credentials,
    region: &str,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let moment = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &moment[..8];
    let mut signed = vec![
        ("host", request.host),
        ("x-amz-content-sha256", request.body_sha256),
        ("x-amz-date", &moment),
    ];
    if let Some(token) = &credentials.session_token {
        signed.push(("x-amz-security-token", token));
    }
    signed.extend_from_slice(request.headers);
    signed.sort_unstable();
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = signed
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method, request.path, request.query, request.body_sha256
    );
    let scope = format!("{day}/{region}/s3/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}",
        sha256(canonical.as_bytes())
    );
    let mut key = hmac_sha256(
        format!("AWS4{}", credentials.secret_key).as_bytes(),
        day.as_bytes(),
    );
    for part in [region, "s3", "aws4_request"] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    let signature = hex::encode(hmac_sha256(&key, text.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key
    );
    let mut headers = vec![
        ("x-amz-content-sha256", request.body_sha256.to_owned()),
        ("x-amz-date", moment.clone()),
        ("authorization", authorization),
    ];
    if let Some(token) = &credentials.session_token {
        headers.push(("x-amz-security-token", token.clone()));
    }
    headers
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text).as_ref().to_vec()
}

/// Escapes everything but what RFC 3986 calls unreserved; slashes stay where asked.
pub(super) fn escape(text: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keep_slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that Amazon publishes for signing the GET of an object; its values are facts of the protocol.
    #[test]
    fn the_published_example_comes_out() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
        );
        let empty = sha256(b"");
        let request = Signed {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: "",
            headers: &[("range", "bytes=0-9")],
            body_sha256: &empty,
        };
        let now = "2013-05-24T00:00:00Z".parse().expect("a time");
        let headers = headers(&request, &credentials, "us-east-1", now);
        let authorization = headers.iter().find(|(name, _)| *name == "authorization");
        let (_, authorization) = authorization.expect("signed");
        let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(authorization.ends_with(signature), "{authorization}");
        assert!(!format!("{credentials:?}").contains("wJalr"));
    }

    #[test]
    fn names_are_escaped_as_s3_does_it() {
        assert_eq!(escape("a b/ü~+", true), "a%20b/%C3%BC~%2B");
        assert_eq!(escape("a/b=", false), "a%2Fb%3D");
    }
}
