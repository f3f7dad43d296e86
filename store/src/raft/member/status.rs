//! What a member says about itself.
//!
//! Reads openraft's metrics; changes nothing.

use std::sync::Arc;

use corten_base::shutdown::Shutdown;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, RaftMetrics};

use super::Member;
use crate::raft::types::{MemberId, TypeConfig};
use crate::replica::Status;

impl Member {
    /// The consensus state, for etcd's Status call.
    pub(crate) fn status(&self) -> Status {
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut errors = Vec::new();
        let leader = metrics
            .current_leader
            .filter(|_| !self.leads_nobody(&metrics));
        if leader.is_none() {
            errors.push("etcdserver: no leader".to_owned());
        }
        if let Err(fatal) = &metrics.running_state {
            errors.push(format!("corten: consensus stopped: {fatal}"));
        }
        errors.extend(self.unrepaired.lock().clone());
        Status {
            leader: leader.map_or(0, |id| id.0),
            term: metrics.current_term,
            committed_index: metrics.local_committed.map_or(0, |id| id.index),
            applied_index: self.parts.applied.get().unwrap_or(0),
            purged_index: metrics.purged.map_or(0, |id| id.index),
            is_learner: !metrics
                .membership_config
                .voter_ids()
                .any(|id| id == self.id()),
            errors,
            quota_bytes: self.parts.quota_bytes,
        }
    }

    /// Whether this member still takes itself for the leader, though no quorum has answered it for long: the others may have
    /// elected another, and whoever watches here with `hasleader` must look elsewhere.
    fn leads_nobody(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        let alone = metrics.membership_config.voter_ids().nth(1).is_none();
        if alone || metrics.current_leader != Some(self.id()) {
            return false;
        }
        let answered = metrics.last_quorum_acked.as_ref();
        answered.is_some_and(|at| at.elapsed() > self.parts.quorum_patience)
    }

    /// As leader: the other voter that lags least.
    pub(crate) fn best_successor(&self) -> Option<MemberId> {
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let voters = metrics
            .membership_config
            .voter_ids()
            .filter(|id| *id != self.id());
        voters
            .filter_map(|id| Some((replication.get(&id)?.as_ref()?.index, id)))
            .max()
            .map(|(_, id)| id)
    }
}

/// Counts the leaders that come. Runs until `shutdown`.
pub(crate) async fn count_leaders(member: Arc<Member>, shutdown: Shutdown) {
    let mut news = member.parts.raft.server_metrics();
    let mut last = None;
    loop {
        let leader = news.borrow_and_update().current_leader;
        if leader.is_some() && leader != last {
            last = leader;
            member.parts.metrics.leader_changes.inc();
        }
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            // Cancel-safe: only tells that there is something to look at.
            changed = news.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
