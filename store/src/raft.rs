//! Consensus: openraft between our own log, state machine and network.
//!
//! ```text
//!   proposal ─▶ member ─▶ openraft ─┬─▶ log_store ─▶ wal (one fdatasync per batch)
//!      ▲           │                └─▶ network ─▶ other members' peer::service
//!      │           └─ forward ─▶ the leader's peer::service
//!      └───────────────────────── state_machine ◀─ committed entries
//!                                      └─▶ machine (one thread) ─▶ store core ─▶ rocks
//! ```
//!
//! Not here: what commands mean. Invariant: what was acknowledged is in the logs of a quorum, synced to disk, before
//! anyone hears of it; the state machine's tables may lag behind the log on disk, never the other way round past a
//! purge.

pub(crate) mod applied;
pub(crate) mod codec;
pub(crate) mod forward;
pub(crate) mod identity;
pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod member;
pub(crate) mod network;
pub(crate) mod read;
pub(crate) mod replica;
pub(crate) mod rounds;
pub(crate) mod silence;
pub(crate) mod snapshot;
pub(crate) mod state_machine;
pub(crate) mod tables;
pub(crate) mod types;
pub(crate) mod wal;
