//! The leader's part in another member's repair: whether it may begin, a new member in the place of one that lost its log,
//! and the state to repair it from.
//!
//! Not the damaged member's part (`crate::repair`, `mend`). Invariant: nobody is helped unless a quorum has just confirmed
//! this leader, and the voters that answer are a majority without the one that is helped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corten_proto::corten::store::v1 as pb;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout};
use tonic::Status;

use super::membership::LEARNERS_MAX;
use super::{Member, REQUEST_TIMEOUT};
use crate::raft::identity::replacement_id;
use crate::raft::snapshot::SnapshotDir;
use crate::raft::types::{MemberId, Node, TypeConfig, Vote};

/// A member that is being repaired and has not been heard of for so long does not keep others waiting.
const TURN: Duration = Duration::from_secs(10 * 60);

/// The leader's state for another member.
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>;

fn later(why: impl ToString) -> Status {
    Status::unavailable(why.to_string())
}

fn never(why: String) -> Status {
    Status::permission_denied(why)
}

impl Member {
    /// As leader: a member says that it is damaged. Gives the id with which it is to go on.
    pub(crate) async fn repair_here(&self, request: pb::RepairRequest) -> Result<MemberId, Status> {
        let id = MemberId(request.member);
        self.confirm_leadership().await.map_err(|error| {
            later(format!(
                "no quorum confirms that it leads ({error}); a repair needs the others to be a quorum without the damaged member"
            ))
        })?;
        let _turn = self.changes.lock().await;
        self.check_turn(id)?;
        tracing::error!(member = %id, what = request.what, "this member reports damage");
        if !request.log_lost {
            self.check_known(id)?;
            self.check_others(id)?;
            self.set_corrupt(id, true).await?;
            self.take_turn(id);
            return Ok(id);
        }
        let new = self.replace(id).await?;
        // The alarm goes along: it is off once the new member's keys agree.
        self.set_corrupt(new, true).await?;
        self.disarm_departed().await;
        self.take_turn(new);
        Ok(new)
    }

    /// As leader: everything that was acknowledged before the call, for a member that repairs itself.
    pub(crate) async fn snapshot_for(&self, id: MemberId) -> Result<(Vote, Snapshot), Status> {
        self.check_known(id)?;
        let index = self.confirm_leadership().await.map_err(later)?.index;
        let applied = timeout(REQUEST_TIMEOUT, self.applied().reached(index)).await;
        if !matches!(applied, Ok(Ok(()))) {
            return Err(later("the leader has not applied enough yet"));
        }
        self.check_turn(id)?;
        self.take_turn(id);
        self.vouch(id).await.map_err(later)?;
        if self.is_corrupt() || self.parts.jobs.tables().damage().is_some() {
            return Err(later("the leader is damaged itself"));
        }
        let snapshot = self.raft().get_snapshot().await.map_err(later)?;
        let snapshot = snapshot.ok_or_else(|| later("the leader has no state yet"))?;
        let vote = self.raft().metrics().borrow_watched().vote;
        tracing::warn!(member = %id, "sends the state that a member repairs itself from");
        Ok((vote, snapshot))
    }

    /// The alarm of a member was disarmed: the next one may be repaired.
    pub(super) fn repaired(&self, id: MemberId) {
        let mut helped = self.helped.lock();
        if helped.is_some_and(|(other, _)| other == id) {
            *helped = None;
        }
    }

    /// One at a time.
    fn check_turn(&self, id: MemberId) -> Result<(), Status> {
        if let Some((other, since)) = *self.helped.lock()
            && other != id
            // Asked for again: the answer that it has a successor was lost.
            && other != replacement_id(self.cluster_id(), id)
            && since.elapsed() < TURN
            && self.membership().get_node(&other).is_some()
        {
            return Err(later(format!("member {other} is being repaired")));
        }
        Ok(())
    }

    fn take_turn(&self, id: MemberId) {
        *self.helped.lock() = Some((id, Instant::now()));
    }

    fn check_known(&self, id: MemberId) -> Result<(), Status> {
        match self.membership().get_node(&id) {
            Some(_) => Ok(()),
            None => Err(gone(id)),
        }
    }

    /// Whether the others are a quorum without this one, and are there.
    fn check_others(&self, id: MemberId) -> Result<(), Status> {
        if id == self.id() {
            return Err(later("it leads: somebody else must, first"));
        }
        let membership = self.membership();
        let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
        if !voters.contains(&id) {
            return Ok(());
        }
        let alive = voters
            .iter()
            .filter(|voter| **voter != id)
            .filter(|voter| **voter == self.id() || self.is_alive(**voter))
            .count();
        let needed = voters.len() / 2 + 1;
        if alive >= needed {
            return Ok(());
        }
        Err(later(format!(
            "of the {} other voting members {alive} answer, and a repair needs {needed}",
            voters.len() - 1
        )))
    }

    /// Puts a new member, without a vote, in the place of one that lost its log. Asked again, it gives the same one.
    async fn replace(&self, id: MemberId) -> Result<MemberId, Status> {
        if self.is_unused(id) {
            return Ok(id);
        }
        let new = replacement_id(self.cluster_id(), id);
        let membership = self.membership();
        let Some(old) = membership.get_node(&id) else {
            return match self.is_unused(new) {
                true => Ok(new),
                false => Err(gone(id)),
            };
        };
        self.check_others(id)?;
        let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
        let votes = voters.contains(&id);
        let others = membership.nodes();
        // An earlier change of this kind may have come half way.
        let others = others.filter(|(other, _)| ![id, new].contains(other));
        if catching_up(others, &voters) >= LEARNERS_MAX {
            return Err(later("another member is catching up"));
        }
        let node = Node {
            peer_urls: old.peer_urls.clone(),
            stays_learner: old.stays_learner && !votes,
            ..Node::default()
        };
        let ids = BTreeSet::from([id]);
        let change = ChangeMembers::Batch(vec![
            match votes {
                true => ChangeMembers::RemoveVoters(ids),
                false => ChangeMembers::RemoveNodes(ids),
            },
            ChangeMembers::AddNodes(BTreeMap::from([(new, node)])),
        ]);
        self.write_membership(change).await?;
        tracing::warn!(old = %id, new = %new, "a new member is in the place of one that lost its log");
        Ok(new)
    }

    /// Whether a member was added and has never worked.
    fn is_unused(&self, id: MemberId) -> bool {
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let has_log = metrics
            .replication
            .as_ref()
            .is_some_and(|all| all.get(&id).is_some_and(Option::is_some));
        let membership = &metrics.membership_config;
        let node = membership.get_node(&id);
        node.is_some_and(|node| !node.started)
            && !has_log
            && !membership.voter_ids().any(|voter| voter == id)
    }
}

/// How many are on their way to a vote: not those that are to stay without one.
fn catching_up<'a>(
    members: impl Iterator<Item = (&'a MemberId, &'a Node)>,
    voters: &BTreeSet<MemberId>,
) -> usize {
    members
        .filter(|(id, node)| !voters.contains(id) && !node.stays_learner)
        .count()
}

fn gone(id: MemberId) -> Status {
    never(format!(
        "{id} is no member of the cluster any more: wipe its folder, and add it anew if it is to come back"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_stays_one_kept_a_log_from_its_repair() {
        let voters = BTreeSet::from([MemberId(1), MemberId(2)]);
        let stays = Node {
            stays_learner: true,
            ..Node::default()
        };
        let mut members: BTreeMap<MemberId, Node> =
            voters.iter().map(|id| (*id, Node::default())).collect();
        members.insert(MemberId(3), stays);
        assert_eq!(catching_up(members.iter(), &voters), 0);
        members.insert(MemberId(4), Node::default());
        assert_eq!(catching_up(members.iter(), &voters), 1);
    }
}
