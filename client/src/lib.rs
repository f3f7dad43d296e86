//! How Corten's components speak to the API server: typed calls, caches fed by watches, work queues, the reconciler
//! runner, leader election and events. No decision about any kind lives here. Invariant: nothing in this crate
//! buffers without a bound, and an object handed out by a cache is immutable.

#![warn(missing_docs)]

pub mod cache;
pub mod client;
pub mod config;
pub mod connect;
pub mod error;
pub mod events;
pub mod leader;
pub mod object;
mod outage;
pub mod queue;
pub mod raw;
pub mod runner;
pub mod watch;

#[cfg(test)]
mod testing;

pub use client::Client;
pub use config::ClientConfig;
pub use error::{Error, Result};
pub use object::{Object, ObjectName, PartialObject, Revision, Target};
