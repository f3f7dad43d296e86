//! Giving back the space of versions that the Compact command has put out of reach, in small steps.
//! Not the command: that only moves the compacted revision, and is what the log agrees on.
//! Invariant: a step never removes what a read at or above the compacted revision can see.

use std::sync::Arc;

use crate::{
    backend::{self, Backend, Batch, Keyspace},
    codec::{self, Record},
    ids::Revision,
};

/// A run over history up to a revision. Work is proportional to the changes since the last run.
pub struct Compaction {
    backend: Arc<dyn Backend>,
    target: Revision,
    /// The next row of history; rows before it are done.
    next: Vec<u8>,
    done: bool,
}

impl Compaction {
    pub(crate) fn new(backend: Arc<dyn Backend>, target: Revision) -> Self {
        Self {
            backend,
            target,
            next: Vec::new(),
            done: target == Revision::ZERO,
        }
    }

    /// The revision below which this run removes.
    pub fn target(&self) -> Revision {
        self.target
    }

    /// Handles up to `rows_max` rows of history as one batch. Gives whether the run is over.
    pub fn step(&mut self, rows_max: usize) -> backend::Result<bool> {
        if self.done {
            return Ok(true);
        }
        let mut batch = Batch::default();
        let end = codec::rev_row(self.target.next(), 0);
        {
            let snapshot = self.backend.snapshot();
            let mut cursor = snapshot.scan(Keyspace::Rev, &self.next, Some(&end))?;
            // What the rows of each key begin with.
            let mut keys = Vec::new();
            let mut rows = 0;
            while let Some(row) = cursor.key() {
                if rows == rows_max {
                    self.next = row.to_vec();
                    break;
                }
                rows += 1;
                let revision = codec::rev_row_revision(row)?;
                keys.push(codec::key_prefix(cursor.value()));
                // The revision at the boundary can still be watched from; its row goes with the next run.
                if revision < self.target {
                    batch.delete(Keyspace::Rev, cursor.key_bytes());
                }
                cursor.advance()?;
            }
            self.done = cursor.key().is_none();
            // A key that changed a thousand times is looked at once, and keys beside each other are read from one block.
            keys.sort_unstable();
            keys.dedup();
            drop_versions(snapshot.as_ref(), &mut batch, &keys, self.target)?;
        }
        if !batch.is_empty() {
            self.backend.write(batch)?;
        }
        Ok(self.done)
    }
}

/// Of the versions of each key up to the target, keeps the newest; not even that, if it is a deletion below the target. `keys`
/// are what their rows begin with, in order.
fn drop_versions(
    view: &dyn backend::Read,
    batch: &mut Batch,
    keys: &[Vec<u8>],
    target: Revision,
) -> backend::Result<()> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
        return Ok(());
    };
    let mut cursor = view.scan(Keyspace::Key, first, Some(&codec::prefix_end(last)))?;
    for key in keys {
        let mut from = key.clone();
        codec::push_revision(&mut from, target);
        cursor.seek(&from)?;
        let mut is_newest = true;
        while let Some(row) = cursor.key().filter(|row| row.starts_with(key)) {
            let (_, revision) = codec::split_key_row(row)?;
            let keep = is_newest && (!Record::is_tombstone(cursor.value()) || revision == target);
            if !keep {
                batch.delete(Keyspace::Key, cursor.key_bytes());
            }
            is_newest = false;
            cursor.advance()?;
        }
    }
    Ok(())
}
