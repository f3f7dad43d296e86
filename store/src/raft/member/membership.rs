//! Changing who is a member: always decided by the leader, one change at a time.
//!
//! Not the identity of members (`identity`). Invariant: a new member gets a vote only after it has caught up, so adding
//! one never costs the quorum, however long it takes to start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1 as pb;
use corten_proto::etcd::etcdserverpb;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant};
use pb::change_member_request::Change;
use tokio::time::timeout;

use super::{Member, REQUEST_TIMEOUT, leader_may_change};
use crate::peer::connect::{Lane, PeerUrl};
use crate::raft::codec;
use crate::raft::identity::added_member_id;
use crate::raft::types::{MemberId, Node, StoredMembership, TypeConfig};
use crate::replica::{MemberChange, ProposeError};

/// A learner this close to the leader's log may vote.
const PROMOTE_LAG_MAX: u64 = 1_000;
/// How often the leader looks for learners that have caught up.
const PROMOTE_EVERY: Duration = Duration::from_millis(500);
/// As in etcd: more learners than this only burden the leader.
pub(super) const LEARNERS_MAX: usize = 1;

impl Member {
    /// The membership in effect. The consensus task tells of it at the end of its turn, and by then a change may have been
    /// agreed on, applied and answered: what is applied here counts if it is newer.
    pub(crate) fn membership(&self) -> Arc<StoredMembership> {
        let metrics = self.parts.raft.server_metrics();
        let told = Arc::clone(&metrics.borrow_watched().membership_config);
        let applied = self.applied().membership();
        if applied.log_id() > told.log_id() {
            applied
        } else {
            told
        }
    }

    /// The members as etcd's API shows them: as this member has applied them, so that whoever is listed with a vote has one
    /// for good. While a change is under way, and until it is committed, the old voters must agree to everything too.
    pub(crate) fn members(&self) -> Vec<etcdserverpb::Member> {
        let mut stored = self.applied().membership();
        if stored.log_id().is_none() {
            stored = self.membership();
        }
        let membership = stored.membership();
        let configs = membership.get_joint_config();
        let member = |(id, node): (&MemberId, &Node)| etcdserverpb::Member {
            id: id.0,
            name: node.name.clone(),
            peer_ur_ls: node.peer_urls.clone(),
            client_ur_ls: node.client_urls.clone(),
            is_learner: !configs.iter().all(|voters| voters.contains(id)),
        };
        membership.nodes().map(member).collect()
    }

    /// The membership as members tell each other.
    pub(crate) fn members_message(&self) -> pb::MembersResponse {
        let leader = self.leader().map_or(0, |(id, _)| id.0);
        let membership = Some(codec::stored_membership_to_pb(&self.membership()));
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.iter().flatten();
        let have_log = replication.filter(|(_, at)| at.is_some());
        pb::MembersResponse {
            cluster_id: self.cluster_id(),
            membership,
            leader,
            have_log: have_log.map(|(id, _)| id.0).collect(),
            leads: leader == self.id().0,
            level: self.engine().store().level(),
        }
    }

    /// Changes the members, here or at the leader.
    pub(crate) async fn change_members(
        &self,
        change: MemberChange,
    ) -> Result<(Option<etcdserverpb::Member>, Vec<etcdserverpb::Member>), ProposeError> {
        let mut concerned = None;
        let change = match change {
            MemberChange::Add { peer_urls, learner } => Change::Add(pb::MemberNode {
                peer_urls,
                stays_learner: learner,
                ..Default::default()
            }),
            MemberChange::Remove(id) => Change::Remove(id),
            MemberChange::Promote(id) => {
                concerned = Some(id);
                Change::Promote(id)
            }
            MemberChange::Update { id, peer_urls } => {
                concerned = Some(id);
                Change::SetPeerUrls(pb::MemberNode {
                    id,
                    peer_urls,
                    ..Default::default()
                })
            }
        };
        let answer = self.change(change).await?;
        let members = members_of(&answer);
        let id = if answer.added == 0 {
            concerned
        } else {
            Some(answer.added)
        };
        let member = id.and_then(|id| members.iter().find(|member| member.id == id).cloned());
        Ok((member, members))
    }

    /// Hands the leadership to `target`.
    pub(crate) async fn move_leader(&self, target: u64) -> Result<(), ProposeError> {
        self.change(Change::MoveLeaderTo(target)).await?;
        let moved = async {
            while self.leader().is_none_or(|(leader, _)| leader.0 != target) {
                leader_may_change(&self.parts.raft).await;
            }
        };
        timeout(REQUEST_TIMEOUT, moved)
            .await
            .map_err(|_| ProposeError::Timeout)
    }

    /// Runs a change at the leader.
    pub(super) async fn change(
        &self,
        change: Change,
    ) -> Result<pb::ChangeMemberResponse, ProposeError> {
        let (leader, node) = self.leader().ok_or(ProposeError::NoLeader)?;
        if leader == self.id() {
            return self.change_member_here(change).await;
        }
        let mut client = self.parts.peers.client(leader, &node, Lane::Control);
        let request = pb::ChangeMemberRequest {
            change: Some(change),
        };
        match timeout(REQUEST_TIMEOUT, client.change_member(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(known_error(&status)),
            Err(_) => Err(ProposeError::Timeout),
        }
    }

    /// Runs a change as leader.
    pub(crate) async fn change_member_here(
        &self,
        change: Change,
    ) -> Result<pb::ChangeMemberResponse, ProposeError> {
        let _turn = self.changes.lock().await;
        let mut added = 0;
        match change {
            Change::Add(node) => added = self.add(node).await?.0,
            Change::Promote(id) => self.promote(MemberId(id)).await?,
            Change::Remove(id) => self.remove(MemberId(id)).await?,
            Change::SetPeerUrls(node) => {
                check_urls(&node.peer_urls)?;
                self.set_node(MemberId(node.id), |known| known.peer_urls = node.peer_urls)
                    .await?;
            }
            Change::Publish(node) => {
                self.set_node(MemberId(node.id), |known| {
                    known.name = node.name;
                    known.client_urls = node.client_urls;
                    known.started = true;
                    known.max_level = node.max_level;
                })
                .await?;
            }
            Change::MoveLeaderTo(id) => self.transfer(MemberId(id)).await?,
        }
        let membership = Some(codec::stored_membership_to_pb(&self.membership()));
        Ok(pb::ChangeMemberResponse { membership, added })
    }

    async fn add(&self, node: pb::MemberNode) -> Result<MemberId, ProposeError> {
        check_urls(&node.peer_urls)?;
        let membership = self.membership();
        let taken = |known: &Node| {
            known
                .peer_urls
                .iter()
                .any(|url| node.peer_urls.contains(url))
        };
        if membership.nodes().any(|(_, known)| taken(known)) {
            return Err(ProposeError::PeerUrlExists);
        }
        let learners =
            membership.nodes().count() - membership.voter_ids().collect::<BTreeSet<_>>().len();
        if learners >= LEARNERS_MAX {
            return Err(ProposeError::TooManyLearners);
        }
        // The time makes an address that comes back a new member; nothing else depends on it.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let salt = u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap_or(0);
        let id = added_member_id(self.cluster_id(), &node.peer_urls, salt);
        let (_, mut value) = codec::node(&node);
        value.name = String::new();
        self.write_membership(ChangeMembers::AddNodes(BTreeMap::from([(id, value)])))
            .await?;
        Ok(id)
    }

    async fn promote(&self, id: MemberId) -> Result<(), ProposeError> {
        let membership = self.membership();
        if membership.get_node(&id).is_none() {
            return Err(ProposeError::MemberNotFound);
        }
        if membership.voter_ids().any(|voter| voter == id) {
            return Err(ProposeError::NotLearner);
        }
        if !self.has_caught_up(id) {
            return Err(ProposeError::LearnerNotReady);
        }
        self.write_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id])))
            .await
    }

    async fn remove(&self, id: MemberId) -> Result<(), ProposeError> {
        let membership = self.membership();
        if membership.get_node(&id).is_none() {
            return Err(ProposeError::MemberNotFound);
        }
        let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
        if !voters.contains(&id) {
            return self
                .write_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id])))
                .await;
        }
        if voters.len() == 1 {
            return Err(ProposeError::NotEnoughStarted);
        }
        let left = voters.iter().filter(|voter| **voter != id);
        let alive = left
            .clone()
            .filter(|voter| **voter == self.id() || self.is_alive(**voter))
            .count();
        if alive <= left.count() / 2 {
            return Err(ProposeError::NotEnoughStarted);
        }
        self.write_membership(ChangeMembers::RemoveVoters(BTreeSet::from([id])))
            .await
    }

    /// Whether two sets of voters must agree to everything, as between the two entries of a change.
    fn is_between(&self) -> bool {
        self.membership().membership().get_joint_config().len() > 1
    }

    /// Ends a change whose leader was lost between its two entries: nobody else would, and both sets of voters would have to
    /// agree until the next change.
    async fn finish_change(&self) -> Result<(), ProposeError> {
        let _turn = self.changes.lock().await;
        // It may have been this leader's own, which is over now.
        if self.is_between() {
            // Nothing added to the newer set leaves that set alone.
            let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
            self.write_membership(nothing).await?;
            tracing::info!("a change of the members that another leader began has come to its end");
        }
        Ok(())
    }

    async fn set_node(
        &self,
        id: MemberId,
        set: impl FnOnce(&mut Node),
    ) -> Result<(), ProposeError> {
        let mut node = self
            .membership()
            .get_node(&id)
            .cloned()
            .ok_or(ProposeError::MemberNotFound)?;
        let before = node.clone();
        set(&mut node);
        if node == before {
            return Ok(());
        }
        self.write_membership(ChangeMembers::SetNodes(BTreeMap::from([(id, node)])))
            .await
    }

    async fn transfer(&self, to: MemberId) -> Result<(), ProposeError> {
        if !self.membership().voter_ids().any(|voter| voter == to) {
            return Err(ProposeError::BadLeaderTransferee);
        }
        self.parts
            .raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|_| ProposeError::Stopped)
    }

    pub(super) async fn write_membership(
        &self,
        change: ChangeMembers<MemberId, Node>,
    ) -> Result<(), ProposeError> {
        // Two entries, of which the first alone leaves two sets of voters: a caller that goes away must not end it there.
        let raft = self.parts.raft.clone();
        let changing = spawn("change-members", TaskKind::Background, async move {
            Box::pin(raft.change_membership(change, false)).await
        });
        match timeout(REQUEST_TIMEOUT, changing).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(error))) => Err(change_error(&error)),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Timeout),
        }
    }

    fn has_caught_up(&self, id: MemberId) -> bool {
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics
            .replication
            .as_ref()
            .and_then(|all| all.get(&id)?.as_ref().map(|at| at.index));
        match (matched, metrics.last_log_index) {
            (Some(matched), Some(last)) => last.saturating_sub(matched) <= PROMOTE_LAG_MAX,
            _ => false,
        }
    }

    /// Whether a member answered a heartbeat lately.
    pub(super) fn is_alive(&self, id: MemberId) -> bool {
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics
            .heartbeat
            .as_ref()
            .and_then(|all| all.get(&id).cloned().flatten());
        heard.is_some_and(|at| at.elapsed() < ALIVE_WITHIN)
    }
}

/// Longer than several heartbeats at any sensible setting.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// As leader: gives their vote to added members that have caught up, and ends what an earlier leader has begun. Runs until
/// `shutdown`.
pub(crate) async fn promote_learners(member: Arc<Member>, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(PROMOTE_EVERY);
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        if !member.raft().is_leader() {
            continue;
        }
        if member.is_between() {
            if let Err(error) = Box::pin(member.finish_change()).await {
                tracing::debug!(%error, "a change of the members waits");
            }
            continue;
        }
        let membership = member.membership();
        let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
        let ready = |(id, node): &(&MemberId, &Node)| {
            !voters.contains(id) && !node.stays_learner && member.has_caught_up(**id)
        };
        let Some(id) = membership.nodes().find(ready).map(|(id, _)| *id) else {
            continue;
        };
        match Box::pin(member.change_member_here(Change::Promote(id.0))).await {
            Ok(_) => tracing::info!(member = %id, "the member has caught up and votes now"),
            Err(error) => tracing::debug!(member = %id, %error, "not promoted yet"),
        }
    }
}

fn members_of(answer: &pb::ChangeMemberResponse) -> Vec<etcdserverpb::Member> {
    let Some(membership) = answer
        .membership
        .as_ref()
        .and_then(|stored| stored.membership.as_ref())
    else {
        return Vec::new();
    };
    let votes = |id: u64| membership.configs.iter().all(|set| set.ids.contains(&id));
    let member = |node: &pb::MemberNode| etcdserverpb::Member {
        id: node.id,
        name: node.name.clone(),
        peer_ur_ls: node.peer_urls.clone(),
        client_ur_ls: node.client_urls.clone(),
        is_learner: !votes(node.id),
    };
    membership.nodes.iter().map(member).collect()
}

fn check_urls(urls: &[String]) -> Result<(), ProposeError> {
    if urls.is_empty() || urls.iter().any(|url| PeerUrl::parse(url).is_err()) {
        return Err(ProposeError::BadUrls);
    }
    Ok(())
}

fn change_error(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ProposeError {
    match error {
        RaftError::Fatal(_) => ProposeError::Stopped,
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ProposeError::NotLeader,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(change)) => match change {
            ChangeMembershipError::LearnerNotFound(_) => ProposeError::MemberNotFound,
            ChangeMembershipError::EmptyMembership(_) => ProposeError::NotEnoughStarted,
            _ => ProposeError::Unhealthy,
        },
        RaftError::APIError(_) => ProposeError::LeaderChanged,
    }
}

/// A leader's refusal, back as the error it was: the texts are unique.
fn known_error(status: &tonic::Status) -> ProposeError {
    use ProposeError as E;
    let known = [
        E::NoLeader,
        E::NotLeader,
        E::LeaderChanged,
        E::Timeout,
        E::Stopped,
        E::Unhealthy,
        E::MemberNotFound,
        E::MemberExists,
        E::PeerUrlExists,
        E::BadUrls,
        E::NotLearner,
        E::LearnerNotReady,
        E::TooManyLearners,
        E::NotEnoughStarted,
        E::BadLeaderTransferee,
    ];
    known
        .into_iter()
        .find(|error| error.to_string() == status.message())
        .unwrap_or(E::LeaderChanged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_survive_the_way_from_the_leader() {
        for error in [
            ProposeError::LearnerNotReady,
            ProposeError::PeerUrlExists,
            ProposeError::NotEnoughStarted,
        ] {
            let status = tonic::Status::from(error.clone());
            assert_eq!(known_error(&status), error);
        }
        assert_eq!(
            known_error(&tonic::Status::unavailable("broken pipe")),
            ProposeError::LeaderChanged
        );
    }
}
