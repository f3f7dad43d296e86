//! The Corten API server: Kubernetes' REST API and the gRPC `corten.api.v1.Resources` service over one pipeline.
//!
//! This crate is not a component's brain: it stores, validates, authorises and streams, and knows no reconciling.
//! Invariant: every write goes `chain` (who, may they) -> `rest` or `grpc` (wire) -> `registry` (verbs, admission,
//! validation) -> `storage` (etcd transactions), and every read is answered from `cache` or the store, never from elsewhere.
//!
//! ```text
//!  TLS ── server ── chain ── authn, authz, audit ──┬── rest ───┐
//!                                                  ├── grpc ───┼── registry ── admission, allocators ── storage ── etcd API
//!                                                  ├── discovery, openapi       └── cache ◀── one watch ────────┘
//!                                                  └── streaming (log, exec, attach, port-forward to the node agents)
//! ```

// The pipeline's outside.
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod chain;
pub mod discovery;
pub mod fairness;
pub mod openapi;
pub mod request;
pub mod reviews;
pub mod server;
pub mod streaming;
pub mod tokens;

// The verbs and what they stand on.
pub mod admission;
pub mod allocators;
pub mod app;
pub mod cache;
pub mod config;
pub mod crypt;
pub mod grpc;
pub mod registry;
pub mod rest;
pub mod storage;

pub use app::Server;
pub use config::Config;

#[cfg(test)]
mod testing;
