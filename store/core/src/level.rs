//! Cluster levels: which kinds of log entries and rows every member must understand before one is made.
//! Not the agreement on a level; the leader's shell raises it, through the log, once all members say that they know it.
//! Invariant: the agreed level never goes down, and no entry of a level above it has an effect.
//!
//! | level | since it |
//! |---|---|
//! | 0 | the founding set of commands |
//! | 1 | users and roles: `RaftRequest.auth`, `user`, `auth_revision`, and the rows `A`, `u` and `r` |

use corten_proto::corten::store::v1::raft_request::Command;

/// The highest level that this version knows.
pub const KNOWN: u32 = 1;
/// Users and roles.
pub const AUTH: u32 = 1;

/// The level that an entry with this command needs.
pub const fn of(command: &Command) -> u32 {
    match command {
        Command::Auth(_) => AUTH,
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compact(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseCheckpoint(_)
        | Command::Alarm(_)
        | Command::ClusterLevel(_)
        | Command::Noop(_) => 0,
    }
}

/// What a member says when the cluster is ahead of it.
pub fn beyond(level: u32, known: u32) -> String {
    format!(
        "the cluster has agreed on level {level} and this member knows levels up to {known}: start it with a newer version"
    )
}
