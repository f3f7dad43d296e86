//! The API server as a whole over an in-memory store, in one process: real sockets, real TLS, the gRPC service.
//!
//! Nothing imitates the API. Invariant: each test owns its server, its certificates and its folder.

mod etcd;
mod harness;
mod history;
mod kubectl;
mod outage;
mod overload;
mod resources;
