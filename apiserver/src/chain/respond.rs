//! Responses that the edge makes itself: a Status for REST and for gRPC, JSON documents, plain text.
//!
//! Objects and lists are encoded by `rest`. Invariant: whatever goes wrong, a REST client reads a Status in JSON and a gRPC
//! client a gRPC status, never an empty connection.

use base64::Engine;
use bytes::Bytes;
use corten_api::status::Status;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use crate::request::{Body, empty, full};

/// Media type of everything in JSON; clients compare it whole, so no charset.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A Status as REST's answer.
pub fn status(status: &Status) -> Response<Body> {
    let mut response = json_bytes(status.to_json().to_string().into());
    *response.status_mut() =
        StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = status.retry_after_seconds() {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A document in JSON.
pub fn json(value: &Value) -> Response<Body> {
    json_bytes(value.to_string().into())
}

/// A document that is JSON already.
pub fn json_bytes(bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// A Status as gRPC's answer without messages.
pub fn grpc_status(status: &Status) -> Response<Body> {
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from(grpc_code(status.code())),
    );
    if let Ok(message) = HeaderValue::from_str(&percent_encode(&status.message)) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    let encoded =
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.to_json().to_string());
    if let Ok(value) = HeaderValue::from_str(&encoded) {
        headers.insert(HeaderName::from_static("corten-status-bin"), value);
    }
    response
}

/// The nearest gRPC code.
pub fn grpc_code(http: u16) -> u16 {
    const INVALID: u16 = 3;
    const NOT_FOUND: u16 = 5;
    const ALREADY_EXISTS: u16 = 6;
    match http {
        400 | 413 | 415 | 422 => INVALID,
        401 => 16,
        403 => 7,
        404 => NOT_FOUND,
        405 | 406 | 501 => 12,
        409 => ALREADY_EXISTS,
        410 => 11,
        429 => 8,
        503 => 14,
        504 => 4,
        _ => 13,
    }
}

/// The code for audit and metrics: gRPC hides refusals behind a 200.
pub fn code_of(response: &Response<Body>) -> u16 {
    let refused = response
        .headers()
        .get("grpc-status")
        .and_then(|code| code.to_str().ok());
    match refused.unwrap_or("0") {
        "0" => response.status().as_u16(),
        "3" => 422,
        "4" => 504,
        "5" => 404,
        "6" | "9" | "10" => 409,
        "7" => 403,
        "8" => 429,
        "11" => 410,
        "12" => 501,
        "14" => 503,
        "16" => 401,
        _ => 500,
    }
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}
