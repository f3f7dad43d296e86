//! Kubernetes' protobuf: objects in an envelope that says their kind, watch events in frames.
//!
//! Trees in the form of JSON are what everything else works on; here they become bytes by the schema's tags, and bytes become
//! trees. Not here: what a field may hold. Facts: the envelope is `runtime.Unknown` behind four bytes, a frame is a
//! `metav1.WatchEvent` behind its length in four bytes.

mod pointers;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use read::parse;
pub use write::{ListWriter, envelope, event_frame, message, metadata_message};

/// The media type of objects and lists.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch's frames.
pub const STREAM_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// In front of every object.
const MAGIC: &[u8] = b"k8s\0";
/// The type of a schema of custom resources.
const SCHEMA_PROPS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
