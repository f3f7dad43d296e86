//! Request bodies: limits, media types, and decoding into checked objects.
//!
//! Invariant: what leaves here has the kind of its path and only fields that the kind knows.

use bytes::{Bytes, BytesMut};
use corten_api::decode::{self, BODY_BYTES_MAX, Decoded, Encoding};
use corten_api::meta::GroupVersionKind;
use corten_api::status::Status;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::registry::FieldValidation;
use crate::request::Body;

/// How the body is written, from the request's head; nothing said means JSON.
pub(crate) fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Status> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    Encoding::of_media_type(given).ok_or_else(|| {
        let mut status = Status::unsupported_media_type(["application/json", "application/yaml"]);
        if given.contains("protobuf") {
            status.message.push_str(" (protobuf is not built yet)");
        }
        status
    })
}

/// Reads a whole body within the limit.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Status::bad_request(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            return Err(Status::request_too_large(&format!(
                "limit is {BODY_BYTES_MAX}"
            )));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// A body without a kind of its own, such as delete options, as a tree.
pub(crate) fn parse(bytes: &[u8], encoding: Encoding) -> Result<Value, Status> {
    decode::parse(bytes, encoding)
}

/// A body as an object of this kind, with what the client should be warned of.
pub(crate) fn decode(
    bytes: &[u8],
    encoding: Encoding,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    decode::decode(bytes, encoding, gvk, validation).map(parts)
}

/// A tree that a patch made, held to the same rules as a body.
pub(crate) fn check(
    object: Value,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    decode::check(object, gvk, validation).map(parts)
}

fn parts(decoded: Decoded) -> (Value, Vec<String>) {
    (decoded.object, decoded.warnings)
}
