//! Whole answers as bytes: JSON, for people indented, YAML and protobuf.
//!
//! Invariant: the same tree, only laid out differently.

use bytes::Bytes;
use corten_api::status::Status;
use serde_json::Value;

use super::binary;
use super::negotiate::Format;

/// Lays a tree out.
pub(super) fn write(value: &Value, format: Format, pretty: bool) -> Result<Bytes, Status> {
    let bytes = match (format, pretty) {
        (Format::Json, false) => serde_json::to_vec(value).map_err(Status::internal)?,
        (Format::Json, true) => {
            let mut bytes = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
            bytes.push(b'\n');
            bytes
        }
        (Format::Yaml, _) => serde_saphyr::to_string(value)
            .map_err(Status::internal)?
            .into_bytes(),
        (Format::Protobuf, _) => return Ok(binary::object(value)),
    };
    Ok(bytes.into())
}
