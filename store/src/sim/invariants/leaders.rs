//! At most one member leads in a term.
//!
//! Raft's election safety (figure 3 of its paper). Not about how long it takes to find one.

use std::collections::BTreeMap;

use super::Verdict;
use crate::sim::net::HostId;

/// Who was seen to lead, by term.
#[derive(Default)]
pub(in crate::sim) struct Leaders(BTreeMap<u64, HostId>);

impl Leaders {
    /// `host` says that it leads in `term`.
    pub(in crate::sim) fn see(&mut self, term: u64, host: HostId) -> Verdict {
        let first = *self.0.entry(term).or_insert(host);
        if first == host {
            return Ok(());
        }
        Err(format!("hosts {first} and {host} both lead in term {term}"))
    }

    /// How many terms had a leader.
    pub(in crate::sim) fn count(&self) -> usize {
        self.0.len()
    }
}
