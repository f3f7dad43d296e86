//! A leader that no quorum answers sends nothing for a while, so that members which still hear it elect another.
//!
//! openraft does so with heartbeats (`quorum_loss_probe_interval`) and goes on to send the log; but each entry that a follower
//! takes puts its next election off as a heartbeat does, and each new connection to one that is not heard brings it one.
//! Does not decide who leads. Invariant: silence lasts longer than a follower waits before it stands for election.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::member::Member;

/// Looks per election timeout.
const LOOKS: u32 = 8;
/// Election timeouts that one phase lasts: a follower stands for election after at most two, and has one more to win.
const PHASE: u32 = 3;

/// How long a leader without a quorum says nothing, and then how long it tries again.
pub(crate) fn phase(election: Duration) -> Duration {
    election * PHASE
}

/// Whether nothing is to be sent to followers.
#[derive(Clone, Default)]
pub(crate) struct Silence(Arc<AtomicBool>);

impl Silence {
    pub(crate) fn is_kept(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether it is time for silence, `unheard` after a quorum has answered last. The phases are those of openraft's heartbeats.
fn is_due(unheard: Duration, election: Duration) -> bool {
    let Some(beyond) = unheard.checked_sub(election) else {
        return false;
    };
    (beyond.as_nanos() / phase(election).as_nanos().max(1)).is_multiple_of(2)
}

/// Runs until `shutdown`.
pub(crate) async fn keep(
    member: Arc<Member>,
    silence: Silence,
    election: Duration,
    shutdown: Shutdown,
) {
    let mut tick = tokio::time::interval(election / LOOKS);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // For a leader that no quorum has ever answered.
    let mut leads_since = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        let due = match member.unheard() {
            None => {
                leads_since = None;
                false
            }
            Some(answered) => {
                let since = *leads_since.get_or_insert_with(Instant::now);
                is_due(answered.unwrap_or_else(|| since.elapsed()), election)
            }
        };
        match (silence.0.swap(due, Ordering::Relaxed), due) {
            (false, true) => tracing::warn!(
                "no quorum answers this leader: it is silent for a while, for the others to elect another"
            ),
            (true, false) => tracing::info!("this leader speaks again"),
            _ => {}
        }
    }
}

impl Member {
    /// As one of several voters that takes itself for the leader: how long ago a quorum has answered last, if one ever did.
    fn unheard(&self) -> Option<Option<Duration>> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let alone = metrics.membership_config.voter_ids().nth(1).is_none();
        if alone || metrics.current_leader != Some(self.id()) {
            return None;
        }
        Some(metrics.last_quorum_acked.as_ref().map(|at| at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_trials_take_turns_once_nobody_answers() {
        let millis = Duration::from_millis;
        let election = millis(1000);
        let cases = [
            (0, false),
            (999, false),
            (1000, true),
            (3999, true),
            (4000, false),
            (6999, false),
            (7000, true),
        ];
        for (unheard, silent) in cases {
            assert_eq!(is_due(millis(unheard), election), silent, "{unheard} ms");
        }
    }
}
