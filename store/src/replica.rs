//! What the etcd services need from a replica of the state, whoever keeps it: raft with RocksDB, or memory alone.
//! Not here: the services, and how a replica agrees with its peers.
//! Invariant: a proposal is answered after it is applied here and its events are with the watches of this member.

pub mod backup;
pub mod engine;
pub mod usage;
pub mod watches;

use async_trait::async_trait;
use corten_proto::{
    corten::store::v1::{RaftReply, RaftRequest},
    etcd::etcdserverpb::Member,
};
use corten_store_core::LeaseId;

pub use engine::Engine;

/// Who answers: goes into every response header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id, fixed when it was founded.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
}

/// The consensus side of the Status answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Member id of the leader; 0 when there is none.
    pub leader: u64,
    /// Present term.
    pub term: u64,
    /// Last index of the log that is committed here.
    pub committed_index: u64,
    /// Last index applied here.
    pub applied_index: u64,
    /// Newest entry that the log no longer holds; 0 when it holds all.
    pub purged_index: u64,
    /// Whether this member does not vote.
    pub is_learner: bool,
    /// What is wrong, in words; empty when all is well.
    pub errors: Vec<String>,
    /// Limit of the store's size in bytes; 0 means none.
    pub quota_bytes: u64,
}

/// Time to live of a lease, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTtl {
    /// What was granted.
    pub granted: i64,
    /// What is left; 0 when expiry is due but not yet applied.
    pub remaining: i64,
}

/// A change of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a member; its id is chosen by the replica.
    Add {
        /// Where other members reach it.
        peer_urls: Vec<String>,
        /// Whether it starts without a vote.
        learner: bool,
    },
    /// Removes a member.
    Remove(u64),
    /// Gives a learner its vote.
    Promote(u64),
    /// Replaces the peer addresses of a member.
    Update {
        /// Which member.
        id: u64,
        /// Its new addresses.
        peer_urls: Vec<String>,
    },
}

/// Why a request to the cluster did not succeed. Texts and codes are etcd's; clients decide by them whether to retry.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ProposeError {
    /// No leader is known; nothing was proposed.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The call must go to the leader.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The leader changed while the proposal was under way; the outcome is unknown.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// No answer in time; the outcome is unknown.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The member is going down.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The queue of proposals is full; nothing was proposed.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// Learners answer only some calls.
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,
    /// The cluster has not enough healthy members for the change.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// No member of that id.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// The id is taken.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// The peer address is taken.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// An address is not a URL.
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    /// Promotion of a member that votes already.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// Promotion of a learner that lags.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// One learner too many.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// The change would lose the quorum.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Leadership cannot go to that member.
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    /// This replica cannot do that, by its nature.
    #[error("corten: {0}")]
    Unsupported(&'static str),
    /// This member's data differs from the others'.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// The storage failed; the member is about to stop.
    #[error("etcdserver: corrupt cluster: {0}")]
    Storage(String),
}

impl From<ProposeError> for tonic::Status {
    fn from(error: ProposeError) -> Self {
        use ProposeError as E;
        let code = match &error {
            E::NoLeader
            | E::LeaderChanged
            | E::Timeout
            | E::Stopped
            | E::NotSupportedForLearner
            | E::Unhealthy => tonic::Code::Unavailable,
            E::TooManyRequests => tonic::Code::ResourceExhausted,
            E::MemberNotFound => tonic::Code::NotFound,
            E::BadUrls => tonic::Code::InvalidArgument,
            E::NotLeader
            | E::MemberExists
            | E::PeerUrlExists
            | E::NotLearner
            | E::LearnerNotReady
            | E::TooManyLearners
            | E::NotEnoughStarted
            | E::BadLeaderTransferee => tonic::Code::FailedPrecondition,
            E::Unsupported(_) => tonic::Code::Unimplemented,
            E::Corrupt | E::Storage(_) => tonic::Code::DataLoss,
        };
        Self::new(code, error.to_string())
    }
}

/// One replica of the store. Calls that only the leader can answer are forwarded by the replica itself.
#[async_trait]
pub trait Replica: Send + Sync + 'static {
    /// Who this is.
    fn identity(&self) -> Identity;

    /// The state machine of this member: reads, watches, lease times.
    fn engine(&self) -> &Engine;

    /// Agrees on a command and applies it. A refusal by the store is a reply, not an error.
    async fn propose(&self, request: RaftRequest) -> Result<RaftReply, ProposeError>;

    /// Returns once everything acknowledged before the call is applied here: a linearizable read follows.
    async fn read_barrier(&self) -> Result<(), ProposeError>;

    /// Renews a lease at the leader, outside the log. Gives the new time to live, or none for an unknown lease.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Option<i64>, ProposeError>;

    /// Asks the leader how long a lease has left; none for an unknown lease.
    async fn lease_ttl(&self, id: LeaseId) -> Result<Option<LeaseTtl>, ProposeError>;

    /// The consensus state.
    fn status(&self) -> Status;

    /// Limit of the store's size in bytes, which every put asks for; 0 means none.
    fn quota_bytes(&self) -> u64 {
        self.status().quota_bytes
    }

    /// Bytes that the disk has left beyond what is kept in reserve for deletes, compaction and the log.
    fn disk_room(&self) -> u64 {
        u64::MAX
    }

    /// The present term alone, which goes into every header.
    fn term(&self) -> u64 {
        self.status().term
    }

    /// Whether the others have found this replica's data to be wrong: it must not be shown to anybody.
    fn is_corrupt(&self) -> bool {
        false
    }

    /// The members as this replica knows them.
    fn members(&self) -> Vec<Member>;

    /// Changes the members. Gives the member concerned and all members after the change.
    async fn change_members(
        &self,
        change: MemberChange,
    ) -> Result<(Option<Member>, Vec<Member>), ProposeError>;

    /// Hands the leadership over.
    async fn move_leader(&self, target: u64) -> Result<(), ProposeError>;
}
