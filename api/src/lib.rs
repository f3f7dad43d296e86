//! What Kubernetes objects are: names, metadata, quantities, selectors, schemas, codecs, patches, errors and kinds.
//! It is not a client or a server: nothing here does IO, reads a clock or spawns a task.
//! Invariant: objects are `serde_json::Value`s that passed `decode`, so every other module may rely on their shape.
#![warn(missing_docs)]

pub mod cron;
pub mod decode;
pub mod field;
#[cfg(test)]
mod garbled;
pub mod intstr;
pub mod kinds;
pub mod limits;
pub mod managed;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod quote;
pub mod schema;
pub mod selector;
pub mod status;
