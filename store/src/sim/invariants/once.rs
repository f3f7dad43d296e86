//! A request takes effect at most once, whether or not it was answered.
//!
//! The store's own promise: a proposal whose fate is unknown is never sent a second time. etcd's client keeps to the same for
//! writes. Not about clients that repeat by themselves; those of the workload never do.

use std::collections::BTreeMap;

use super::Verdict;
use super::revisions::History;

/// Judges the history: the workload never writes a value twice.
pub(in crate::sim) fn judge(history: &History) -> Verdict {
    let mut written = BTreeMap::new();
    for (revision, _, value) in history.changes() {
        let Some(value) = value else { continue };
        if let Some(first) = written.insert(value, revision) {
            return Err(format!(
                "{value:?} was written at {first} and at {revision}"
            ));
        }
    }
    Ok(())
}
