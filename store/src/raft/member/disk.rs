//! Watches whether the disk with the log answers, and gives the leadership away when it does not.
//!
//! A leader needs its own disk least of all: the others' copies commit, and its heartbeats touch no file. So nobody would
//! notice a leader whose disk is dead, until its tables can take no more and every write hangs, with nobody standing for
//! election. Not for disks that fail: those end the member at once. Invariant: the leadership is only given to a voter
//! whose log holds what this member could not write, so that a storage that hangs for all moves nothing.

use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout};

use super::Member;
use crate::raft::tables::Backlog;
use crate::raft::types::MemberId;

/// Looks per election timeout.
const LOOKS: u32 = 4;
/// Election timeouts after which a leader whose disk does not answer is one no more. Handing over costs clients an answer or
/// two, and until the tables are full, a leader without a disk costs them nothing: so not at the first hiccup.
const ELECTIONS: u32 = 4;
/// A disk that is always slow is no reason: only one that takes this many times what it usually does.
const TIMES_USUAL: u32 = 4;

/// How long a leader waits for its disk.
fn patience(election: Duration, usual: Duration) -> Duration {
    (election * ELECTIONS).max(usual * TIMES_USUAL)
}

/// Runs until `shutdown`.
pub(crate) async fn watch_disk(member: Arc<Member>, election: Duration, shutdown: Shutdown) {
    let under_way = &member.parts.metrics.wal_under_way;
    let mut tick = tokio::time::interval(election / LOOKS);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        let lasts = under_way.lasts();
        let patience = patience(election, under_way.usual());
        if lasts < patience / 2 {
            if told {
                tracing::info!("the disk with the log answers again");
            }
            told = false;
            continue;
        }
        if !told {
            tracing::warn!(?lasts, "the disk with the log does not answer");
            told = true;
        }
        if lasts < patience || asked.is_some_and(|at| at.elapsed() < patience) {
            continue;
        }
        if let Some(to) = member.voter_ahead() {
            tracing::warn!(%to, ?lasts, "gives the leadership to a member whose disk answers");
            asked = Some(Instant::now());
            // Consensus may itself be waiting for the disk; then nobody hears from this leader any more, and that will do.
            let trigger = member.raft().trigger();
            let given = trigger.transfer_leader(to);
            if let Ok(Err(_)) = timeout(election, given).await {
                return;
            }
        }
    }
}

impl Member {
    /// How long the batch of the log that is being written has taken so far.
    pub(crate) fn log_waits(&self) -> Duration {
        self.parts.metrics.wal_under_way.lasts()
    }

    /// How far the tables are behind.
    pub(crate) fn backlog(&self) -> Backlog {
        self.parts.jobs.tables().backlog()
    }

    /// How long the disk with the log has not answered, if that is too long.
    pub(crate) fn disk_hangs(&self, election: Duration) -> Option<Duration> {
        let lasts = self.log_waits();
        let usual = self.parts.metrics.wal_under_way.usual();
        (lasts >= patience(election, usual) / 2).then_some(lasts)
    }

    /// As leader: the voter whose log goes furthest, if it goes further than what this member's disk has.
    fn voter_ahead(&self) -> Option<MemberId> {
        if !self.parts.raft.is_leader() {
            return None;
        }
        let best = self.best_successor()?;
        let metrics = self.parts.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let has = |id: &MemberId| replication.get(id).and_then(|at| Some(at.as_ref()?.index));
        (has(&best) > has(&self.id())).then_some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_a_disk_that_is_always_slow() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(seconds(1), Duration::ZERO), seconds(4));
        assert_eq!(patience(seconds(1), Duration::from_millis(300)), seconds(4));
        assert_eq!(patience(seconds(1), seconds(3)), seconds(12));
    }
}
