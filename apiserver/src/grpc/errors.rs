//! A Status as a gRPC error: the nearest code, and the Status itself as trailing metadata.
//!
//! Invariant: a client that reads `corten-status-bin` learns exactly what a REST client would.

use corten_api::status::Status;
use tonic::Code;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::chain::respond::grpc_code;

const KEY: &str = "corten-status-bin";

pub(super) fn to_grpc(status: Status) -> tonic::Status {
    let mut metadata = MetadataMap::new();
    let json = status.to_json().to_string();
    metadata.insert_bin(KEY, MetadataValue::from_bytes(json.as_bytes()));
    let code = Code::from_i32(i32::from(grpc_code(status.code())));
    tonic::Status::with_metadata(code, status.message, metadata)
}
