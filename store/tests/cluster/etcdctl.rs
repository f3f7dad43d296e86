//! Unmodified etcdctl, each version that the set-up has, against three members: every command that has a meaning here.
//!
//! Not a test of etcdctl, nor of the API's fine points (those run on the memory replica). Invariant: an etcdctl that is
//! missing fails the test; `xtask/setup/packages.sh test` and `xtask/setup/etcdctl.sh` provide them.

mod command;
mod keys;
mod leases;
mod members;
mod operation;
mod users;

use super::process::Processes;

/// Long enough that a busy machine causes no election in the middle of a command, which would fail as it should.
const ELECTION: &str = "--election-timeout=3000";

/// Three members that have a leader.
async fn start() -> Processes {
    let processes = Processes::start_with(3, &[ELECTION]);
    processes.leader().await;
    processes
}
