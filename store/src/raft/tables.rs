//! What a member asks of its tables beyond reading and writing them: to be durable, sent away, and replaced.
//!
//! Not the rows (`corten_store_core::backend`). Invariant: after a crash the tables are those of one batch that was
//! written, whole, and not older than the last one that was flushed.

use std::path::PathBuf;

use corten_store_core::backend::{Backend, Result};

use super::snapshot::SnapshotDir;

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

    /// What was found damaged when something was read or written, if anything was.
    fn damage(&self) -> Option<String>;

    /// Closes the files as soon as the last reader under way has ended; nothing is read or written after.
    fn close(&self);
}
