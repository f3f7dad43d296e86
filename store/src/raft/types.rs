//! The openraft type parameters of the store, and the aliases the rest of the shell uses.
//!
//! Not the wire or disk encoding of any of them: that is `codec`, so that an openraft update cannot change a format.
//! Invariant: a command travels as the bytes it was proposed with, encoded once and decoded only when applied.

use std::fmt;

use bytes::Bytes;
use openraft::alias;

/// Identity of a member within its cluster; never reused, not even by a member at the same address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct MemberId(pub(crate) u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{self}")
    }
}

/// What the membership log knows about a member besides its id.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Node {
    /// Human name; empty until a member that was added at run time has started.
    pub(crate) name: String,
    /// Where other members reach it.
    pub(crate) peer_urls: Vec<String>,
    /// Where clients reach it; published by the member itself after it started.
    pub(crate) client_urls: Vec<String>,
    /// Added to stay without a vote; others get theirs as soon as they have caught up.
    pub(crate) stays_learner: bool,
    /// Has worked in the cluster; published by the member itself. An empty folder under such an id is a lost one.
    pub(crate) started: bool,
    /// The highest cluster level that it understands; published by the member itself.
    pub(crate) max_level: u32,
}

/// A proposal: an encoded store command.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Result of applying one entry; `None` for entries that carry no command.
pub(crate) type Applied = Option<corten_proto::corten::store::v1::RaftReply>;

/// Hands the result of a proposal to whoever waits for it: a local caller or a follower's stream.
pub(crate) struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    /// Calls `f` once, from the apply thread or the raft task: it must not block.
    pub(crate) fn new(f: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(f))
    }
}

impl<T: openraft::OptionalSend + 'static> openraft::raft::responder::Responder<TypeConfig, T>
    for Callback<T>
{
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// Type parameters for openraft.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Command;
    type R = Applied;
    type NodeId = MemberId;
    type Node = Node;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, MemberId>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Command, MemberId, Node>;
    type Entry = openraft::Entry<
        <Self::LeaderId as openraft::vote::RaftLeaderId>::Committed,
        openraft::EntryPayload<Command, MemberId, Node>,
    >;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = Callback<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::AnyError;
}

pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
