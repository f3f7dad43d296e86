//! What a member asks of its tables beyond reading and writing them: to be durable, sent away, and replaced.
//!
//! Not the rows (`corten_store_core::backend`). Invariant: after a crash the tables are those of one batch that was
//! written, whole, and not older than the last one that was flushed.

use std::path::PathBuf;

use corten_store_core::backend::{Backend, Result};

use super::snapshot::SnapshotDir;

/// What the tables have taken and not yet put in order. The engine slows writes down, and in the end stops them, when it
/// grows faster than it is worked off.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Backlog {
    /// Table files that have come from memory and were not merged yet, of the keyspace that has most.
    pub(crate) unmerged: u64,
    /// Bytes to be rewritten until all is in order; an estimate.
    pub(crate) bytes: u64,
    /// Bytes a second to which writes are held down; 0: they are not.
    pub(crate) writes_held_to: u64,
    /// Whether writes wait altogether.
    pub(crate) writes_stopped: bool,
}

/// The tables of one member.
pub(crate) trait Tables: Backend {
    /// Makes everything written so far durable, all keyspaces as one.
    fn flush(&self) -> Result<()>;

    /// Writes the present state to the folder of `target`, sharing files where the file system can.
    fn checkpoint(&self, target: &SnapshotDir) -> Result<()>;

    /// Replaces the state by a received one. Readers that began before keep the old state until they end.
    fn install(&self, snapshot: &SnapshotDir) -> Result<()>;

    /// The same for tables that are damaged, which are moved to `aside` once nobody reads them any more.
    fn replace(&self, snapshot: &SnapshotDir, aside: PathBuf) -> Result<()>;

    /// How far the engine is behind.
    fn backlog(&self) -> Backlog;

    /// What was found damaged when something was read or written, if anything was.
    fn damage(&self) -> Option<String>;

    /// Closes the files as soon as the last reader under way has ended; nothing is read or written after.
    fn close(&self);
}
