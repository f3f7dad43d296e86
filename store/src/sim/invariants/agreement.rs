//! Members that have applied the same entries hold the same rows.
//!
//! State machine safety; what etcd's corruption check looks for in the field. Not about members that lag.

use std::collections::BTreeMap;

use super::Verdict;
use crate::sim::net::HostId;

/// Rows as hashed at a revision with a compacted one, by applied index.
#[derive(Default)]
pub(in crate::sim) struct Hashes(BTreeMap<u64, (HostId, i64, u32)>);

impl Hashes {
    /// `host` has applied `index` and is at `revision` with rows of this hash.
    pub(in crate::sim) fn see(
        &mut self,
        host: HostId,
        index: u64,
        revision: i64,
        hash: u32,
    ) -> Verdict {
        let first = *self.0.entry(index).or_insert((host, revision, hash));
        if (first.1, first.2) == (revision, hash) {
            return Ok(());
        }
        Err(format!(
            "at index {index}, host {host} is at revision {revision} with hash {hash:x}, unlike {first:?}"
        ))
    }
}
