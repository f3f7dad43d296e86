//! Keep-alives on their way to the leader, together: one call, and one look whether this member still leads, for all
//! that wait.
//!
//! Does not count time (`leases`). Invariant: a renewal is answered by a leader that was one after the renewal was asked for.

use std::collections::BTreeMap;
use std::sync::Weak;

use corten_proto::corten::store::v1 as pb;
use corten_store_core::LeaseId;
use corten_store_core::lessor::KeepAlive;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Member, REQUEST_TIMEOUT};
use crate::peer::connect::Lane;
use crate::raft::rounds::{NotTaken, Rounds};
use crate::replica::ProposeError;

/// Leases of one call to the leader, as peer.proto says.
pub(crate) const TOGETHER_MAX: usize = 1024;
/// A keep-alive that finds a checkpoint has it forgotten and tries again; a second time only if another one is made at
/// that very moment.
const ATTEMPTS: usize = 3;

/// Seconds to live by lease; those that are not there do not live.
type Renewed = BTreeMap<LeaseId, i64>;

/// Who waits for the renewal of what.
pub(super) struct Waiting {
    id: LeaseId,
    answer: oneshot::Sender<Result<Option<i64>, ProposeError>>,
}

/// Makes the rounds of a member's keep-alives.
pub(super) fn start(member: Weak<Member>) -> Rounds<Waiting> {
    Rounds::start("renewals", TOGETHER_MAX, move |waiting, place| {
        let member = member.clone();
        async move {
            let ids: Vec<LeaseId> = waiting.iter().map(|waiting: &Waiting| waiting.id).collect();
            let result = match member.upgrade() {
                Some(member) => member.renew(&ids).await,
                None => Err(ProposeError::Stopped),
            };
            drop(place);
            for Waiting { id, answer } in waiting {
                let own = result.as_ref().map(|renewed| renewed.get(&id).copied());
                // Who gave up does not mind.
                let _ = answer.send(own.map_err(Clone::clone));
            }
        }
    })
}

impl Member {
    /// Renews at the leader; `None`: no such lease.
    pub(crate) async fn lease_keep_alive(&self, id: LeaseId) -> Result<Option<i64>, ProposeError> {
        let (answer, answered) = oneshot::channel();
        let entered = self.renewals.enter(Waiting { id, answer });
        entered.map_err(|error| match error {
            NotTaken::Full => ProposeError::TooManyRequests,
            NotTaken::Stopped => ProposeError::Stopped,
        })?;
        answered.await.unwrap_or(Err(ProposeError::Stopped))
    }

    async fn renew(&self, ids: &[LeaseId]) -> Result<Renewed, ProposeError> {
        let (leader, _) = self.leader().ok_or(ProposeError::NoLeader)?;
        if leader == self.id() {
            return self.renew_here(ids).await;
        }
        let mut renewed = Renewed::new();
        let mut rest = ids;
        while !rest.is_empty() {
            let answered = self.renew_there(rest, &mut renewed).await?;
            rest = rest.get(answered..).unwrap_or_default();
        }
        Ok(renewed)
    }

    /// One call to the leader. Gives how many leases it answered for, which is at least one.
    async fn renew_there(
        &self,
        ids: &[LeaseId],
        renewed: &mut Renewed,
    ) -> Result<usize, ProposeError> {
        let (leader, node) = self.leader().ok_or(ProposeError::NoLeader)?;
        let mut client = self.parts.peers.client(leader, &node, Lane::Control);
        let request = pb::LeaseKeepAliveRequest {
            id: ids.first().map_or(0, |id| id.0),
            more: ids.iter().skip(1).map(|id| id.0).collect(),
        };
        let answer = match timeout(REQUEST_TIMEOUT, client.lease_keep_alive(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(_)) => return Err(ProposeError::LeaderChanged),
            Err(_) => return Err(ProposeError::Timeout),
        };
        let answered = 1 + answer.more_ttls.len();
        let ttls = std::iter::once(answer.ttl).chain(answer.more_ttls);
        renewed.extend(ids.iter().copied().zip(ttls).filter(|(_, ttl)| *ttl > 0));
        Ok(answered)
    }

    /// Renews as the leader.
    pub(crate) async fn renew_here(&self, ids: &[LeaseId]) -> Result<Renewed, ProposeError> {
        let mut renewed = Renewed::new();
        let mut left = ids.to_vec();
        for _ in 0..ATTEMPTS {
            let term = self.ensure_lessor().await?;
            let mut checkpointed = Vec::new();
            for id in left {
                match self.engine().keep_alive(id) {
                    KeepAlive::Unknown => {}
                    KeepAlive::Renewed(ttl) => {
                        renewed.insert(id, ttl);
                    }
                    KeepAlive::Checkpointed => checkpointed.push((id, 0)),
                }
            }
            if checkpointed.is_empty() {
                return Ok(renewed);
            }
            let _turn = self.counting.checkpoints.lock().await;
            self.checkpoint(&checkpointed, term).await?;
            left = checkpointed.into_iter().map(|(id, _)| id).collect();
        }
        Err(ProposeError::LeaderChanged)
    }
}
