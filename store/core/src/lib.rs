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

mod apply;
pub mod auth;
pub mod backend;
pub mod check;
mod codec;
mod compaction;
pub mod compactor;
mod counts;
mod error;
mod hash;
mod heads;
mod history;
pub mod hub;
mod ids;
mod import;
mod inspect;
mod lease_rows;
pub mod lessor;
pub mod level;
pub mod memory;
mod overlay;
mod range;
mod read;
mod refound;
mod span;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod txn;
mod writer;

pub use apply::Round;
pub use compaction::Compaction;
pub use error::Error;
pub use hash::KvHash;
pub use history::RevisionEvents;
pub use ids::{LeaseId, Position, Revision};
pub use import::{Imported, Importer};
pub use inspect::{Facts, Inspector};
pub use lease_rows::{LeaseChange, LeaseRecord};
pub use refound::{FOUNDING, Refounding, refound};
pub use span::Span;
pub use store::{Store, StoreOptions};
pub use writer::{Changes, Writer};
