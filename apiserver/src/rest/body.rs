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
use corten_api::protobuf;

/// The type of a delete's body when its envelope does not say it.
const DELETE_OPTIONS: GroupVersionKind = GroupVersionKind::from_static("", "v1", "DeleteOptions");

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// JSON or YAML.
    Text(Encoding),
    /// Kubernetes' protobuf in its envelope.
    Protobuf,
}

impl MediaType {
    /// From the request's head; nothing said means JSON.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Status> {
        let given = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        if given.split(';').next().unwrap_or("").trim() == "application/vnd.kubernetes.protobuf" {
            return Ok(Self::Protobuf);
        }
        Encoding::of_media_type(given)
            .map(Self::Text)
            .ok_or_else(|| {
                Status::unsupported_media_type([
                    "application/json",
                    "application/yaml",
                    "application/vnd.kubernetes.protobuf",
                ])
            })
    }
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
pub(crate) fn parse(bytes: &[u8], media_type: MediaType) -> Result<Value, Status> {
    match media_type {
        MediaType::Text(encoding) => decode::parse(bytes, encoding),
        MediaType::Protobuf => protobuf::parse(bytes, &DELETE_OPTIONS),
    }
}

/// A body as an object of this kind, with what the client should be warned of.
pub(crate) fn decode(
    bytes: &[u8],
    media_type: MediaType,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    match media_type {
        MediaType::Text(encoding) => decode::decode(bytes, encoding, gvk, validation).map(parts),
        // What a body of this form may hold is fixed by its tags: there are no unknown fields to tell of.
        MediaType::Protobuf => check(protobuf::parse(bytes, gvk)?, gvk, FieldValidation::Ignore),
    }
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
