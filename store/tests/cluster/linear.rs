//! Single keys, ranges and transactions through all members, through kills and pauses: is there one order in which they all
//! make sense?
//!
//! The revisions are that order; so no search is needed. Invariant: whoever begins after another has ended gets no lower
//! revision, a change a higher one, at which the history has it alone and once; and whatever an operation saw is what the
//! history has at its revision, or, if it changed something, right before it.

mod clients;
mod judge;

use std::time::Instant;

use bytes::Bytes;
use rustix::process::Signal;

use super::harness::wait_for;
use super::history::{Change, Followers};
use super::process::Processes;
pub(crate) use clients::Clients;
pub(crate) use judge::judge;

/// An operation that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    begin: Instant,
    end: Instant,
    /// Of the store, at which it took place.
    revision: i64,
    did: Did,
}

/// What an operation did.
#[derive(Debug, Clone)]
enum Did {
    /// It saw this at its revision. A transaction also says what cannot have been there, since it did not do what it
    /// would have done then.
    Read {
        seen: Vec<Seen>,
        unlike: Option<Vec<Seen>>,
    },
    /// It made its revision of these changes, on top of what it saw.
    Changed {
        changes: Vec<Change>,
        before: Vec<Seen>,
    },
}

/// All that was there of a key, or of a range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    from: String,
    /// Empty: `from` alone.
    to: String,
    found: Vec<Found>,
}

/// A key with the revision that wrote it. A comparison knows no value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    key: String,
    written: i64,
    value: Option<Bytes>,
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_through_kills_and_pauses_are_linearizable() {
    let mut processes = Processes::start(3);
    processes.leader().await;
    let followers = Followers::start(&processes);
    let clients = Clients::start(&processes);
    clients.answers(200).await;
    for round in 0..3 {
        let leader = processes.leader().await;
        processes.kill(leader);
        clients.answers(100).await;
        processes.spawn(leader);
        let leader = processes.leader().await;
        processes.signal(leader, Signal::STOP);
        wait_for("another leader", async || {
            (processes.leader().await != leader).then_some(())
        })
        .await;
        clients.answers(100).await;
        processes.signal(leader, Signal::CONT);
        // All at once: a majority must come back before anything is answered.
        if round == 1 {
            for member in 0..3 {
                processes.kill(member);
            }
            for member in 0..3 {
                processes.spawn(member);
            }
        }
        clients.answers(200).await;
    }
    let operations = clients.finish().await;
    let history = followers.finish(&processes).await;
    judge(operations, &history);
}
