//! corten-store: a replicated key-value store that speaks etcd's v3 API. This crate is the shell around the pure core
//! in `corten-store-core`: consensus, files, sockets, services.
//! Knows keys, bytes and revisions, and no kind of Kubernetes.
//! Invariant: services know only the `Replica` trait, so that a member in memory and a member of a cluster answer alike.

mod config;
mod http;
pub mod memory;
mod metrics;
mod peer;
mod raft;
pub mod replica;
mod restore;
mod rocks;
mod server;
pub mod services;

pub use config::Config;
pub use corten_store_core::Refounding;
pub use restore::{RestoreError, Restored, restore};
pub use server::{Store, StoreError};
