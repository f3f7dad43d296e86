//! Leases where they are counted: at the leader, in elapsed time, outside the log.
//!
//! Not what a lease is (`corten_store_core::lessor`). Invariant: only a leader whose lease on the leadership is valid
//! renews; and what a leader decides by its count (revocations, checkpoints) is proposed for its own term, so that it has
//! no effect once another has counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
use corten_proto::etcd::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use corten_store_core::LeaseId;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use pb::raft_request::Command;
use tokio::time::timeout;

use super::{Member, REQUEST_TIMEOUT};
use crate::peer::connect::Lane;
use crate::replica::{LeaseTtl, ProposeError};

/// How late an expired lease may be noticed; etcd looks as often.
const TICK: Duration = Duration::from_millis(500);
/// What a member knows of its own counting.
#[derive(Default)]
pub(super) struct Counting {
    /// The term in which this member counts leases; 0 when it does not.
    term: AtomicU64,
    /// Held while checkpoints are on their way into the log: what makes the log forget one must come after it.
    pub(super) checkpoints: tokio::sync::Mutex<()>,
}

impl Member {
    /// Asks the leader what a lease has left.
    pub(crate) async fn lease_ttl(&self, id: LeaseId) -> Result<Option<LeaseTtl>, ProposeError> {
        let (leader, node) = self.leader().ok_or(ProposeError::NoLeader)?;
        if leader == self.id() {
            return self.lease_ttl_here(id).await;
        }
        let mut client = self.parts.peers.client(leader, &node, Lane::Control);
        let answer = timeout(
            REQUEST_TIMEOUT,
            client.lease_remaining(pb::LeaseRemainingRequest { id: id.0 }),
        )
        .await;
        match answer {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let ttl = LeaseTtl {
                    granted: answer.granted_ttl,
                    remaining: answer.remaining_ttl,
                };
                Ok(answer.found.then_some(ttl))
            }
            Ok(Err(_)) => Err(ProposeError::LeaderChanged),
            Err(_) => Err(ProposeError::Timeout),
        }
    }

    /// Puts checkpoints into the log and waits until they are applied.
    pub(super) async fn checkpoint(
        &self,
        left: &[(LeaseId, i64)],
        term: u64,
    ) -> Result<(), ProposeError> {
        let checkpoints = left.iter().map(|(id, left)| LeaseCheckpoint {
            id: id.0,
            remaining_ttl: *left,
        });
        let checkpoints = checkpoints.collect();
        let command = Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
        let reply = self.propose(&request(command, term)).await?;
        match reply.result {
            Some(pb::raft_reply::Result::LeaseCheckpoint(_)) => Ok(()),
            // The term has passed: somebody else counts.
            _ => Err(ProposeError::LeaderChanged),
        }
    }

    pub(crate) async fn lease_ttl_here(
        &self,
        id: LeaseId,
    ) -> Result<Option<LeaseTtl>, ProposeError> {
        self.ensure_lessor().await?;
        Ok(self.engine().lease_ttl(id))
    }

    /// Leading, not deposed without knowing it, and counting leases. Gives the term.
    pub(super) async fn ensure_lessor(&self) -> Result<u64, ProposeError> {
        let linearizer = self
            .parts
            .raft
            .get_read_linearizer(ReadPolicy::LeaseRead)
            .await;
        let linearizer = linearizer.map_err(|_| ProposeError::NotLeader)?;
        // A lease granted just now by another member's client must be known here.
        let index = linearizer.read_log_id().index();
        self.parts
            .applied
            .reached(index)
            .await
            .map_err(|_| ProposeError::Stopped)?;
        let counting = self.counting.term.load(Ordering::Acquire);
        match self.leading_term() {
            Some(term) if term == counting => Ok(term),
            _ => Err(ProposeError::NotLeader),
        }
    }
}

/// Counts leases down while this member leads. Runs until `shutdown`.
pub(crate) async fn run_lessor(member: Arc<Member>, grace: Duration, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut leading_term = None;
    let mut news = member.raft().server_metrics();
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
            changed = news.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let term = member.leading_term();
        if term != leading_term {
            member.counting.term.store(0, Ordering::Release);
            member.engine().demote();
            leading_term = None;
        }
        if let (Some(now), None) = (term, leading_term) {
            // Everything that earlier leaders committed must be applied before counting begins.
            let Ok(id) = member.confirm_leadership().await else {
                continue;
            };
            if member.applied().reached(id.index).await.is_err() {
                return;
            }
            member.engine().promote(grace);
            member.counting.term.store(now, Ordering::Release);
            leading_term = term;
        }
        if let Some(term) = leading_term {
            revoke_expired(&member, term).await;
            make_checkpoints(&member, term).await;
        }
    }
}

async fn revoke_expired(member: &Arc<Member>, term: u64) {
    loop {
        let due = member.engine().expired();
        if due.is_empty() {
            return;
        }
        let ids = due.iter().map(|id| id.0).collect();
        let command = Command::LeaseRevoke(pb::LeaseRevoke { ids, expired: true });
        if let Err(error) = member.propose(&request(command, term)).await {
            // The lessor reports them again.
            tracing::debug!(%error, "cannot revoke expired leases now");
            return;
        }
    }
}

async fn make_checkpoints(member: &Arc<Member>, term: u64) {
    loop {
        let _turn = member.counting.checkpoints.lock().await;
        let due = member.engine().due_checkpoints();
        if due.is_empty() {
            return;
        }
        if let Err(error) = member.checkpoint(&due, term).await {
            // The next round has them again; until then a keep-alive of theirs goes through the log once.
            tracing::debug!(%error, "cannot checkpoint leases now");
            return;
        }
    }
}

fn request(command: Command, term: u64) -> pb::RaftRequest {
    pb::RaftRequest {
        term,
        command: Some(command),
        ..Default::default()
    }
}
