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
    /// The cluster has not agreed on the level that the command needs.
    #[error(
        "corten: this needs cluster level {needed} and the cluster is at {level}: it rises by itself once every member, \
         learners included, runs a version that knows it and no --max-level holds it back"
    )]
    LevelTooLow {
        /// What the command needs.
        needed: u32,
        /// What was agreed on.
        level: u32,
    },
    /// Auth cannot be enabled without the user root.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// Nor without its role.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// A user of that name is there.
    #[error("etcdserver: user name already exists")]
    UserExists,
    /// A user without a name, or a caller that has not said who it is.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// No such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role of that name is there.
    #[error("etcdserver: role name already exists")]
    RoleExists,
    /// No such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// A role without a name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// Wrong name or password.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// A password for a user that has none.
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// A grant of nothing.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// The user may not do that.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// Revoking a role that the user does not have.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// Revoking a permission that the role does not have.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// Tokens are given out only while auth is enabled.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    /// The token is none of ours, too old, or void.
    #[error("etcdserver: invalid auth token")]
    InvalidAuthToken,
    /// A change that would lock everybody out, or a permission for no key.
    #[error("etcdserver: invalid auth management")]
    InvalidAuthMgmt,
    /// Users or roles have changed since it was found out who asks.
    #[error("etcdserver: revision of auth store is old")]
    AuthOldRevision,
    /// A command this version does not know. Level gating should have kept it out of the log.
    #[error("corten: command is empty or newer than this member")]
    UnknownCommand,
    /// The backend failed; the state on disk is unchanged.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// gRPC codes by number; the core does not depend on a gRPC library.
mod code {
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
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
            | Self::RequestTooLarge
            | Self::UserEmpty
            | Self::RoleEmpty
            | Self::AuthFailed
            | Self::PermissionNotGiven
            | Self::InvalidAuthMgmt
            | Self::AuthOldRevision => code::INVALID_ARGUMENT,
            Self::NoSpace => code::RESOURCE_EXHAUSTED,
            Self::LeaseNotFound => code::NOT_FOUND,
            Self::LeaseExists
            | Self::LevelTooLow { .. }
            | Self::RootUserNotExist
            | Self::RootRoleNotExist
            | Self::UserExists
            | Self::UserNotFound
            | Self::RoleExists
            | Self::RoleNotFound
            | Self::RoleNotGranted
            | Self::PermissionNotGranted
            | Self::AuthNotEnabled => code::FAILED_PRECONDITION,
            Self::NoPasswordUser => code::UNKNOWN,
            Self::PermissionDenied => code::PERMISSION_DENIED,
            Self::InvalidAuthToken => code::UNAUTHENTICATED,
            Self::TermPassed => code::UNAVAILABLE,
            Self::UnknownCommand => code::UNIMPLEMENTED,
            Self::Backend(_) => code::INTERNAL,
        }
    }
}
