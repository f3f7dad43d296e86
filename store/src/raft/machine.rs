//! The state machine proper: log entries in, store rounds out. Owned by one thread.
//!
//! Not responsible for what commands mean (`corten_store_core`) or for openraft's interface (`state_machine`).
//! Invariant: the applied position and the membership go into the same batch as the rows; replies are given after the
//! batch is visible and its events are with the watches.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use corten_base::clock::{Clock as _, SystemClock};
use corten_proto::corten::store::v1 as pb;
use corten_store_core::backend::BackendError;
use corten_store_core::{Position, Writer};
use openraft::EntryPayload;
use openraft::storage::EntryResponder;
use prometheus_client::metrics::histogram::Histogram;
use prost::Message;

use super::applied::AppliedIndex;
use super::codec;
use super::snapshot::SnapshotDir;
use super::tables::Tables;
use super::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::replica::Engine;

/// The one writer of a member's state.
pub(crate) struct Machine {
    tables: Arc<dyn Tables>,
    writer: Writer,
    engine: Engine,
    applied: AppliedIndex,
    membership: StoredMembership,
    /// Where checkpoints for other members are made.
    outgoing: PathBuf,
    /// Gets the seconds of each write.
    commit_seconds: Histogram,
}

impl Machine {
    pub(crate) fn new(
        tables: Arc<dyn Tables>,
        writer: Writer,
        engine: Engine,
        applied: AppliedIndex,
        outgoing: PathBuf,
        commit_seconds: Histogram,
    ) -> io::Result<Self> {
        let membership = read_membership(&writer)?;
        applied.set_membership(membership.clone());
        if let Some(position) = writer.applied() {
            applied.advance(position.index);
        }
        Ok(Self {
            tables,
            writer,
            engine,
            applied,
            membership,
            outgoing,
            commit_seconds,
        })
    }

    /// The applied position and the membership as of it.
    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.position(),
            last_membership: self.membership.clone(),
        }
    }

    fn set_membership(&mut self, membership: StoredMembership) {
        self.applied.set_membership(membership.clone());
        self.membership = membership;
    }

    fn position(&self) -> Option<LogId> {
        self.writer
            .applied()
            .map(|at| LogId::new_term_index(at.term, at.index))
    }

    /// Applies entries that follow the applied position, as one batch.
    pub(crate) fn apply(&mut self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let Some(last) = entries.last().map(|(entry, _)| entry.log_id.index) else {
            return Ok(());
        };
        let mut replies = Vec::with_capacity(entries.len());
        let mut membership = None;
        let mut round = self.writer.begin();
        for (entry, responder) in entries {
            let at = Position {
                term: entry.log_id.leader_id.term,
                index: entry.log_id.index,
            };
            let reply = match entry.payload {
                EntryPayload::Blank => {
                    round.skip(at);
                    None
                }
                EntryPayload::Normal(command) => {
                    // What was acknowledged must be readable: an entry that is not is a corrupt log, never skipped.
                    let request = pb::RaftRequest::decode(command.0).map_err(io::Error::other)?;
                    Some(round.apply(at, &request).map_err(backend)?)
                }
                EntryPayload::Membership(value) => {
                    let stored = StoredMembership::new(Some(entry.log_id), value);
                    let row = codec::stored_membership_to_pb(&stored).encode_to_vec();
                    round.set_membership(at, Bytes::from(row));
                    membership = Some(stored);
                    None
                }
            };
            if let Some(responder) = responder {
                replies.push((responder, reply));
            }
        }
        let began = SystemClock.now();
        let changes = round.commit().map_err(backend)?;
        let took = SystemClock.now().saturating_duration_since(began);
        self.commit_seconds.observe(took.as_secs_f64());
        if let Some(membership) = membership {
            self.set_membership(membership);
        }
        self.engine.publish(changes);
        self.applied.advance(last);
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    /// A checkpoint of the present state; `None` before anything was applied.
    pub(crate) fn checkpoint(&mut self) -> io::Result<Option<(SnapshotMeta, SnapshotDir)>> {
        let meta = self.meta();
        if meta.last_log_id.is_none() {
            return Ok(None);
        }
        let dir = SnapshotDir::fresh(&self.outgoing)?;
        self.tables.checkpoint(&dir).map_err(backend)?;
        Ok(Some((meta, dir)))
    }

    /// Replaces damaged tables, or wrong ones, by others that `make` brings to the same position.
    pub(crate) fn replace(
        &mut self,
        aside: PathBuf,
        make: impl FnOnce(LogId) -> io::Result<SnapshotDir>,
    ) -> io::Result<()> {
        let at = self
            .position()
            .ok_or_else(|| io::Error::other("nothing was applied yet"))?;
        let dir = make(at)?;
        self.tables.replace(&dir, aside).map_err(backend)?;
        self.writer.reload().map_err(backend)?;
        // `make` has checked it: what applies next would not follow.
        assert_eq!(self.position(), Some(at), "the new tables stand elsewhere");
        self.set_membership(read_membership(&self.writer)?);
        self.engine.reset().map_err(backend)
    }

    /// Replaces the state by a received snapshot.
    pub(crate) fn install(&mut self, meta: &SnapshotMeta, dir: &SnapshotDir) -> io::Result<()> {
        self.tables.install(dir).map_err(backend)?;
        self.writer.reload().map_err(backend)?;
        if self.position() != meta.last_log_id {
            let (got, said) = (self.position(), meta.last_log_id);
            return Err(io::Error::other(format!(
                "snapshot of {said:?} holds the state of {got:?}"
            )));
        }
        self.set_membership(read_membership(&self.writer)?);
        self.engine.reset().map_err(backend)?;
        if let Some(id) = meta.last_log_id {
            self.applied.advance(id.index);
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.applied.close();
        // Not needed for safety, the log has everything: it only spares the next start from replaying.
        if let Err(error) = self.tables.flush() {
            tracing::warn!(%error, "cannot flush the state at the end");
        }
        // Readers may still hold the engine; the files must be free for a successor all the same.
        self.tables.close();
    }
}

fn read_membership(writer: &Writer) -> io::Result<StoredMembership> {
    match writer.membership() {
        None => Ok(StoredMembership::default()),
        Some(row) => {
            let message = pb::StoredMembership::decode(row.clone()).map_err(io::Error::other)?;
            codec::stored_membership(&message).map_err(io::Error::other)
        }
    }
}

fn backend(error: BackendError) -> io::Error {
    io::Error::other(error)
}
