//! ReadIndex: the leader confirms that it still is one, and names the index that a linearizable read must see.
//!
//! Does not wait for that index to be applied (`read`). Invariant: the confirmation is younger than the question; nobody's
//! word counts that was given before a reader came.
//!
//! A follower that asks gives its own word with the question: "I follow you, in this term." Where it and the leader are a
//! quorum, as two of three are, the leader need not ask anybody else: one round trip instead of two. For a newer leader
//! to exist by then, one of the two must have voted for it: the follower before it spoke, or the leader before it
//! looked; and both would know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corten_proto::corten::store::v1 as pb;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::timeout;

use super::{Member, Raft, leader_may_change, leader_of};
use crate::peer::connect::{Lane, Peers};
use crate::raft::codec;
use crate::raft::read::{ReadError, ReadIndex};
use crate::raft::types::{LogId, MemberId, Vote};

/// A leader that does not answer for this long is asked again, or its successor is.
const READ_ATTEMPT: Duration = Duration::from_secs(1);

/// Whom a follower followed when it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) member: MemberId,
    pub(crate) vote: Vote,
}

/// What consensus knows at one moment.
#[derive(Debug)]
struct Standing {
    vote: Vote,
    committed: Option<LogId>,
    /// One set, or two while the membership changes.
    voters: Vec<BTreeSet<MemberId>>,
}

impl Standing {
    /// The index that a read must see, if `word` and this member's own make a quorum for its leadership.
    fn confirmed_by(&self, me: MemberId, word: &Word) -> Option<LogId> {
        let leads = self.vote.committed && self.vote.leader_id.voted_for == me;
        if !leads || word.vote != self.vote {
            return None;
        }
        let two = BTreeSet::from([me, word.member]);
        let is_quorum = |set: &BTreeSet<MemberId>| set.intersection(&two).count() * 2 > set.len();
        if !self.voters.iter().all(is_quorum) {
            return None;
        }
        // Until it has committed an entry of its own, a leader does not know what its predecessors had.
        let committed = self.committed?;
        (committed.committed_leader_id().term == self.vote.leader_id.term).then_some(committed)
    }
}

async fn standing(raft: &Raft) -> Result<Standing, ReadError> {
    let look = raft.with_raft_state(|state| Standing {
        vote: *state.vote_ref(),
        committed: state.local_committed().copied(),
        voters: state
            .membership_state
            .effective()
            .membership()
            .get_joint_config()
            .clone(),
    });
    look.await.map_err(|_| ReadError::Stopped)
}

impl Member {
    /// As leader: confirms the leadership with a quorum and names the index that a read must see.
    pub(crate) async fn confirm_leadership(&self) -> Result<LogId, ReadError> {
        confirm(&self.parts.raft).await
    }

    /// As `confirm_leadership`, with the word of the follower that asks.
    pub(crate) async fn confirm_leadership_with(&self, word: &Word) -> Result<LogId, ReadError> {
        let raft = &self.parts.raft;
        match standing(raft).await?.confirmed_by(self.id(), word) {
            Some(id) => Ok(id),
            None => confirm(raft).await,
        }
    }
}

async fn confirm(raft: &Raft) -> Result<LogId, ReadError> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(*linearizer.read_log_id().log_id()),
        Err(RaftError::APIError(
            LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
        )) => Err(ReadError::NoLeader),
        Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
    }
}

/// Finds read indexes, here or at the leader.
pub(super) struct ReadSource {
    raft: Raft,
    peers: Arc<Peers>,
    me: MemberId,
}

impl ReadSource {
    pub(super) fn new(raft: Raft, peers: Arc<Peers>, me: MemberId) -> Self {
        Self { raft, peers, me }
    }

    async fn ask(&self) -> Result<u64, ReadError> {
        let (leader, node) = leader_of(&self.raft).ok_or(ReadError::NoLeader)?;
        if leader == self.me {
            return confirm(&self.raft).await.map(|id| id.index);
        }
        let question = pb::ReadIndexRequest {
            member: self.me.0,
            vote: Some(codec::vote_to_pb(&standing(&self.raft).await?.vote)),
        };
        let mut client = self.peers.client(leader, &node, Lane::Control);
        let answer = client
            .read_index(question)
            .await
            .map_err(|_| ReadError::NoLeader)?;
        answer
            .into_inner()
            .log_id
            .map(|id| id.index)
            .ok_or(ReadError::NoLeader)
    }
}

impl ReadIndex for ReadSource {
    /// Asks until a leader answers; the gate sets the deadline. Asking twice harms nobody.
    async fn read_index(&self) -> Result<u64, ReadError> {
        loop {
            match timeout(READ_ATTEMPT, self.ask()).await {
                Ok(Err(ReadError::NoLeader)) => leader_may_change(&self.raft).await,
                Ok(result) => return result,
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);

    fn vote(term: u64, of: MemberId) -> Vote {
        Vote::new_committed(term, of)
    }

    fn standing(voters: &[&[u64]]) -> Standing {
        let set = |ids: &&[u64]| ids.iter().copied().map(MemberId).collect();
        Standing {
            vote: vote(5, ME),
            committed: Some(LogId::new_term_index(5, 70)),
            voters: voters.iter().map(set).collect(),
        }
    }

    fn word(term: u64) -> Word {
        Word {
            member: OTHER,
            vote: vote(term, ME),
        }
    }

    #[test]
    fn two_of_three_are_enough_and_two_of_five_are_not() {
        let confirmed = |voters: &[&[u64]]| standing(voters).confirmed_by(ME, &word(5));
        let index = Some(LogId::new_term_index(5, 70));
        assert_eq!(confirmed(&[&[1, 2, 3]]), index);
        assert_eq!(confirmed(&[&[1, 2]]), index);
        assert_eq!(confirmed(&[&[1, 2, 3, 4]]), None, "two of four");
        assert_eq!(confirmed(&[&[1, 2, 3, 4, 5]]), None, "two of five");
        assert_eq!(confirmed(&[&[1, 3, 4]]), None, "who asks has no vote");
        assert_eq!(
            confirmed(&[&[1, 2, 3], &[1, 3, 4]]),
            None,
            "both sets count"
        );
        assert_eq!(confirmed(&[&[1, 2, 3], &[1, 2, 4]]), index);
    }

    #[test]
    fn a_word_about_another_term_or_leader_counts_for_nothing() {
        let three = standing(&[&[1, 2, 3]]);
        assert_eq!(three.confirmed_by(ME, &word(4)), None);
        assert_eq!(three.confirmed_by(ME, &word(6)), None);
        let elsewhere = Word {
            member: OTHER,
            vote: vote(5, OTHER),
        };
        assert_eq!(three.confirmed_by(ME, &elsewhere), None);
        assert_eq!(
            three.confirmed_by(OTHER, &word(5)),
            None,
            "it does not lead"
        );
        let own = Word {
            member: ME,
            vote: vote(5, ME),
        };
        assert_eq!(three.confirmed_by(ME, &own), None, "its own word twice");
    }

    #[test]
    fn a_leader_that_has_not_committed_in_its_term_asks_everybody() {
        let mut new = standing(&[&[1, 2, 3]]);
        new.committed = Some(LogId::new_term_index(4, 69));
        assert_eq!(new.confirmed_by(ME, &word(5)), None);
        new.committed = None;
        assert_eq!(new.confirmed_by(ME, &word(5)), None);
        new = standing(&[&[1, 2, 3]]);
        new.vote.committed = false;
        let asked = Word {
            vote: new.vote,
            ..word(5)
        };
        assert_eq!(new.confirmed_by(ME, &asked), None, "a candidate");
    }
}
