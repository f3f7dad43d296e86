//! Repairing a member's own damaged files from the other members.
//!
//! ```text
//!   at a start:      damaged log ────▶ log    ─▶ a new identity, which joins as a learner
//!                    damaged tables ─▶ tables ─▶ the leader's state, under the log that is whole
//!   while it runs:   raft::member::mend swaps the tables without a restart
//! ```
//!
//! Not the finding (checksums, `raft::member::corruption`) and not the leader's part (`raft::member::repair`). Invariant:
//! a member whose log was damaged never takes part under its old id; one whose tables were damaged never applies,
//! leads or answers with tables that do not belong to its log. Each step may be repeated after a kill.

pub(crate) mod ask;
pub(crate) mod fetch;
pub(crate) mod ledger;
pub(crate) mod log;
pub(crate) mod mark;
pub(crate) mod peers;
pub(crate) mod tables;

use std::path::PathBuf;

use tonic::{Code, Status};

/// Why a damaged member is not repaired, now or at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The operator said so.
    #[error("--repair=off: replace this member, or start it with --repair=auto")]
    Off,
    /// There are no others.
    #[error(
        "no other member is known to repair it from: restore a backup; or name the others in --initial-cluster, if there are any"
    )]
    Alone,
    /// It would go on for ever.
    #[error(
        "it was repaired {0} min ago, and is not repaired twice within an hour: look at the memory and the disk of this host"
    )]
    TooSoon(i64),
    /// The disk would fill up.
    #[error(
        "{0} sets of damaged files lie in its folder (*.corrupt-N): look for the cause, and remove them"
    )]
    TooMany(usize),
    /// A repair needs a quorum of the others.
    #[error(
        "no leader answers: a repair needs the others to be a quorum without this member; start them, or recover from a survivor"
    )]
    NoLeader,
    /// The leader says no.
    #[error("the leader refuses: {0}")]
    Leader(String),
    /// The leader cannot now.
    #[error("the leader cannot help now: {0}")]
    Later(String),
    /// The leader does not know these calls.
    #[error("the leader runs a version that repairs nobody: upgrade it first")]
    OldLeader,
    /// What the leader sent is damaged, or does not fit.
    #[error("what the leader sent cannot be used: {0}")]
    Unusable(String),
    /// The disk does not take it.
    #[error("{0}: {1}")]
    Disk(PathBuf, String),
}

impl Refusal {
    /// Whether asking again soon is of no use.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::NoLeader | Self::Later(_) | Self::Unusable(_))
    }

    /// What a leader's answer means.
    pub(crate) fn from_leader(status: &Status) -> Self {
        match status.code() {
            Code::Unimplemented => Self::OldLeader,
            Code::PermissionDenied => Self::Leader(status.message().to_owned()),
            _ => Self::Later(status.message().to_owned()),
        }
    }

    pub(crate) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Disk(path, error.to_string())
    }
}
