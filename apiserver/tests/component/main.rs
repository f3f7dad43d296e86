//! The API server as a whole over an in-memory store, in one process: real sockets, real TLS, the gRPC service.
//!
//! Nothing imitates the API, and no kubectl is needed (`tests/kubectl.rs` has that). Invariant: each test owns its server, its
//! certificates and its folder.

mod harness;
mod history;
mod leaks;
mod outage;
mod overload;
mod resources;
