//! What the store refuses, in etcd's words and gRPC codes: clients compare these texts.
//! Not here: failures of raft or of the network; those belong to the shell.
//! Invariant: every variant but `Backend` is the same on all members for the same state and command.

use crate::backend::BackendError;

/// A refusal by the store, or a failing backend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for is no longer kept.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for does not exist yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// A request without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction with more operations than allowed.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction that could change one key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that is not of the API.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The request is larger than a log entry may be.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The NOSPACE alarm is on.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The id of a grant is taken.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The time to live of a grant is beyond the limit.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The command was for a term that has passed.
    #[error("etcdserver: leader changed")]
    TermPassed,
    /// A command this version does not know. Level gating should have kept it out of the log.
    #[error("corten: command is empty or newer than this member")]
    UnknownCommand,
    /// The backend failed; the state on disk is unchanged.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// gRPC codes by number; the core does not depend on a gRPC library.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
}

impl Error {
    /// The gRPC code that goes with the text.
    pub const fn code(&self) -> i32 {
        match self {
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => code::OUT_OF_RANGE,
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSortOption
            | Self::RequestTooLarge => code::INVALID_ARGUMENT,
            Self::NoSpace => code::RESOURCE_EXHAUSTED,
            Self::LeaseNotFound => code::NOT_FOUND,
            Self::LeaseExists => code::FAILED_PRECONDITION,
            Self::TermPassed => code::UNAVAILABLE,
            Self::UnknownCommand => code::UNIMPLEMENTED,
            Self::Backend(_) => code::INTERNAL,
        }
    }
}
