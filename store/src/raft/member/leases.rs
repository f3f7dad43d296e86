//! Leases where they are counted: at the leader, in elapsed time, outside the log.
//!
//! Not what a lease is (`corten_store_core::lessor`). Invariant: only a leader whose lease on the leadership is valid
//! renews, and only a leader proposes revocations.

use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
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

impl Member {
    /// Renews at the leader; `None`: no such lease.
    pub(crate) async fn lease_keep_alive(&self, id: LeaseId) -> Result<Option<i64>, ProposeError> {
        let (leader, node) = self.leader().ok_or(ProposeError::NoLeader)?;
        if leader == self.id() {
            return self.keep_alive_here(id).await;
        }
        let mut client = self.parts.peers.client(leader, &node, Lane::Control);
        let answer = timeout(
            REQUEST_TIMEOUT,
            client.lease_keep_alive(pb::LeaseKeepAliveRequest { id: id.0 }),
        )
        .await;
        match answer {
            Ok(Ok(answer)) => Ok(Some(answer.into_inner().ttl).filter(|ttl| *ttl > 0)),
            Ok(Err(_)) => Err(ProposeError::LeaderChanged),
            Err(_) => Err(ProposeError::Timeout),
        }
    }

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

    pub(crate) async fn keep_alive_here(&self, id: LeaseId) -> Result<Option<i64>, ProposeError> {
        self.ensure_lessor().await?;
        Ok(self.engine().keep_alive(id))
    }

    pub(crate) async fn lease_ttl_here(
        &self,
        id: LeaseId,
    ) -> Result<Option<LeaseTtl>, ProposeError> {
        self.ensure_lessor().await?;
        Ok(self.engine().lease_ttl(id))
    }

    /// Leading, not deposed without knowing it, and counting leases.
    async fn ensure_lessor(&self) -> Result<(), ProposeError> {
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
        if self.engine().is_lessor() {
            Ok(())
        } else {
            Err(ProposeError::NotLeader)
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
            member.engine().demote();
            leading_term = None;
        }
        if term.is_some() && leading_term.is_none() {
            // Everything that earlier leaders committed must be applied before counting begins.
            let Ok(id) = member.confirm_leadership().await else {
                continue;
            };
            if member.applied().reached(id.index).await.is_err() {
                return;
            }
            member.engine().promote(grace);
            leading_term = term;
        }
        if leading_term.is_some() {
            revoke_expired(&member).await;
        }
    }
}

async fn revoke_expired(member: &Arc<Member>) {
    loop {
        let due = member.engine().expired();
        if due.is_empty() {
            return;
        }
        let ids = due.iter().map(|id| id.0).collect();
        let command = Command::LeaseRevoke(pb::LeaseRevoke { ids, expired: true });
        if let Err(error) = member.propose(&request(command)).await {
            // The lessor reports them again.
            tracing::debug!(%error, "cannot revoke expired leases now");
            return;
        }
    }
}

fn request(command: Command) -> pb::RaftRequest {
    pb::RaftRequest {
        level: 0,
        command: Some(command),
    }
}
