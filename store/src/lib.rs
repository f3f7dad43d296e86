//! corten-store: a replicated key-value store that speaks etcd's v3 API. This crate is the shell around the pure core
//! in `corten-store-core`: consensus, files, sockets, services.
//! Knows keys, bytes and revisions, and no kind of Kubernetes.
//! Invariant: services know only the `Replica` trait, so that a member in memory and a member of a cluster answer alike.

pub mod archive;
mod config;
mod disk;
#[cfg(test)]
mod fuzz;
mod http;
pub mod memory;
mod metrics;
mod offload;
mod peer;
mod raft;
mod recover;
mod repair;
pub mod replica;
mod restore;
mod rocks;
mod server;
pub mod services;
#[cfg(test)]
mod sim;
mod trickle;

pub use config::{Config, Repair};
pub use corten_store_core::Refounding;
pub use recover::{RecoverError, Recovered, Recovery, Refusal, recover};
pub use repair::Refusal as RepairRefusal;
pub use restore::{RestoreError, Restored, check_empty, restore};
pub use server::{Store, StoreError};
