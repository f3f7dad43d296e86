//! The store's pure core: multi-version key-value state, transactions, compaction, leases and the watch hub.
//! Not here: tasks, sockets, files, clocks. Time comes in as an argument, persistence behind `backend::Backend`.
//! Invariant: applying the same commands in the same order gives the same bytes on every member.
//!
//! ```text
//!   RaftRequest ─▶ Writer::begin ─▶ Round::apply ... ─▶ Round::commit ─┬─▶ Backend::write (one batch)
//!                                                                      └─▶ Changes ─▶ Hub::publish, Lessor::observe
//!   RangeRequest ─▶ Store::range ─▶ Backend::snapshot
//! ```
#![warn(missing_docs)]

mod ids;
mod error;
pub mod backend;
pub mod memory;
mod overlay;
mod codec;
mod span;
mod read;
mod range;
pub mod check;
mod state;
mod writer;
mod apply;
mod txn;
mod lease_rows;
mod store;
mod history;
mod compaction;
mod hash;
pub mod lessor;
pub mod hub;
#[cfg(test)]
mod tests;

pub use apply::Round;
pub use compaction::Compaction;
pub use error::Error;
pub use hash::KvHash;
pub use history::RevisionEvents;
pub use ids::{LeaseId, Position, Revision};
pub use lease_rows::{LeaseChange, LeaseRecord};
pub use span::Span;
pub use store::Store;
pub use writer::{Changes, Writer};
