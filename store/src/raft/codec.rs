//! Between openraft's types and the protobuf messages that go to disk and over the wire.
//!
//! Not responsible for framing. Invariant: both directions are written out by hand, so neither a derive nor an
//! openraft update can change what is stored.

use std::collections::{BTreeMap, BTreeSet};

use corten_proto::corten::store::v1 as pb;
use openraft::{EntryPayload, Membership};

use super::types::{
    Command, Entry, LogId, MemberId, Node, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};

/// A message that no correct member would have sent or stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// A field that is always set is absent.
    #[error("message lacks {0}")]
    Missing(&'static str),
    /// Voters and nodes disagree.
    #[error("membership is not coherent: {0}")]
    Membership(String),
}

pub(crate) fn log_id_to_pb(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn log_id(id: &pb::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(crate) fn vote_to_pb(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for.0,
        committed: vote.committed,
    }
}

pub(crate) fn vote(vote: &pb::Vote) -> Vote {
    let voted_for = MemberId(vote.voted_for);
    if vote.committed {
        Vote::new_committed(vote.term, voted_for)
    } else {
        Vote::new(vote.term, voted_for)
    }
}

pub(crate) fn required_vote(vote_pb: Option<&pb::Vote>) -> Result<Vote, CodecError> {
    vote_pb.map(vote).ok_or(CodecError::Missing("vote"))
}

pub(crate) fn node_to_pb(id: MemberId, node: &Node) -> pb::MemberNode {
    pb::MemberNode {
        id: id.0,
        name: node.name.clone(),
        peer_urls: node.peer_urls.clone(),
        client_urls: node.client_urls.clone(),
        stays_learner: node.stays_learner,
        started: node.started,
        max_level: node.max_level,
    }
}

pub(crate) fn node(node: &pb::MemberNode) -> (MemberId, Node) {
    let value = Node {
        name: node.name.clone(),
        peer_urls: node.peer_urls.clone(),
        client_urls: node.client_urls.clone(),
        stays_learner: node.stays_learner,
        started: node.started,
        max_level: node.max_level,
    };
    (MemberId(node.id), value)
}

fn membership_to_pb(membership: &Membership<MemberId, Node>) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    pb::Membership {
        configs: configs
            .map(|set| pb::VoterSet {
                ids: set.iter().map(|id| id.0).collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, node)| node_to_pb(*id, node))
            .collect(),
    }
}

fn membership(message: &pb::Membership) -> Result<Membership<MemberId, Node>, CodecError> {
    let configs: Vec<BTreeSet<MemberId>> = message
        .configs
        .iter()
        .map(|set| set.ids.iter().copied().map(MemberId).collect())
        .collect();
    let nodes: BTreeMap<MemberId, Node> = message.nodes.iter().map(node).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| CodecError::Membership(error.to_string()))
}

pub(crate) fn stored_membership_to_pb(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(stored.membership())),
    }
}

pub(crate) fn stored_membership(
    message: &pb::StoredMembership,
) -> Result<StoredMembership, CodecError> {
    let inner = message
        .membership
        .as_ref()
        .ok_or(CodecError::Missing("membership"))?;
    Ok(StoredMembership::new(
        message.log_id.as_ref().map(log_id),
        membership(inner)?,
    ))
}

pub(crate) fn entry_to_pb(entry: &Entry) -> pb::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(command) => Some(pb::log_entry::Payload::Command(command.0.clone())),
        EntryPayload::Membership(value) => {
            Some(pb::log_entry::Payload::Membership(membership_to_pb(value)))
        }
    };
    pb::LogEntry {
        log_id: Some(log_id_to_pb(&entry.log_id)),
        payload,
    }
}

pub(crate) fn entry(message: pb::LogEntry) -> Result<Entry, CodecError> {
    let id = message
        .log_id
        .as_ref()
        .ok_or(CodecError::Missing("log id of an entry"))?;
    let payload = match message.payload {
        None => EntryPayload::Blank,
        Some(pb::log_entry::Payload::Command(bytes)) => EntryPayload::Normal(Command(bytes)),
        Some(pb::log_entry::Payload::Membership(value)) => {
            EntryPayload::Membership(membership(&value)?)
        }
    };
    Ok(Entry {
        log_id: log_id(id),
        payload,
    })
}

pub(crate) fn snapshot_meta_to_pb(meta: &SnapshotMeta) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last_log_id: meta.last_log_id.as_ref().map(log_id_to_pb),
        membership: Some(stored_membership_to_pb(&meta.last_membership)),
    }
}

pub(crate) fn snapshot_meta(message: &pb::SnapshotMeta) -> Result<SnapshotMeta, CodecError> {
    let stored = message
        .membership
        .as_ref()
        .ok_or(CodecError::Missing("membership of a snapshot"))?;
    Ok(SnapshotMeta {
        last_log_id: message.last_log_id.as_ref().map(log_id),
        last_membership: stored_membership(stored)?,
    })
}

pub(crate) fn append_request_to_pb(
    request: &openraft::raft::AppendEntriesRequest<TypeConfig>,
) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote_to_pb(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_to_pb),
        entries: request.entries.iter().map(entry_to_pb).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_to_pb),
    }
}

pub(crate) fn append_request(
    message: pb::AppendRequest,
) -> Result<openraft::raft::AppendEntriesRequest<TypeConfig>, CodecError> {
    Ok(openraft::raft::AppendEntriesRequest {
        vote: required_vote(message.vote.as_ref())?,
        prev_log_id: message.prev.as_ref().map(log_id),
        entries: message
            .entries
            .into_iter()
            .map(entry)
            .collect::<Result<_, _>>()?,
        leader_commit: message.leader_commit.as_ref().map(log_id),
    })
}

pub(crate) fn append_result_to_pb(
    result: &openraft::raft::StreamAppendResult<TypeConfig>,
) -> pb::AppendResponse {
    use openraft::raft::StreamAppendError;
    use pb::append_response::Outcome;
    let outcome = match result {
        Ok(matched) => Outcome::Matched(pb::Matched {
            log_id: matched.as_ref().map(log_id_to_pb),
        }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(log_id_to_pb(at)),
        Err(StreamAppendError::HigherVote(higher)) => Outcome::HigherVote(vote_to_pb(higher)),
    };
    pb::AppendResponse {
        outcome: Some(outcome),
    }
}

pub(crate) fn append_result(
    message: &pb::AppendResponse,
) -> Result<openraft::raft::StreamAppendResult<TypeConfig>, CodecError> {
    use openraft::raft::StreamAppendError;
    use pb::append_response::Outcome;
    Ok(
        match message
            .outcome
            .as_ref()
            .ok_or(CodecError::Missing("outcome of an append"))?
        {
            Outcome::Matched(matched) => Ok(matched.log_id.as_ref().map(log_id)),
            Outcome::Conflict(at) => Err(StreamAppendError::Conflict(log_id(at))),
            Outcome::HigherVote(higher) => Err(StreamAppendError::HigherVote(vote(higher))),
        },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    proptest! {
        #[test]
        fn messages_of_any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let bytes = bytes::Bytes::from(bytes);
            if let Ok(message) = pb::AppendRequest::decode(bytes.clone()) {
                let _ = append_request(message);
            }
            if let Ok(message) = pb::AppendResponse::decode(bytes.clone()) {
                let _ = append_result(&message);
            }
            if let Ok(message) = pb::LogEntry::decode(bytes.clone()) {
                let _ = entry(message);
            }
            if let Ok(message) = pb::StoredMembership::decode(bytes.clone()) {
                let _ = stored_membership(&message);
            }
            if let Ok(message) = pb::SnapshotMeta::decode(bytes) {
                let _ = snapshot_meta(&message);
            }
        }
    }
}
