//! Asking the leader for help, from a member that does not take part.
//!
//! Decides nothing. Invariant: what is asked may be asked twice.

use std::sync::Arc;
use std::time::Duration;

use corten_base::backoff::Backoff;
use corten_proto::corten::store::v1 as pb;
use tokio::time::{Instant, sleep, timeout};

use super::{Refusal, ledger, peers};
use crate::config::Settings;
use crate::peer::connect::{self, Client};
use crate::raft::identity::{Identity, inquiry};
use crate::raft::types::MemberId;

/// A cluster that can help elects a leader well within this; one that cannot will not for longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A change of the membership, and an alarm.
const ANSWER: Duration = Duration::from_secs(10);

/// What the leader has agreed to.
pub(super) struct Help {
    /// The id to go on with.
    pub(super) member: MemberId,
    pub(super) leader: Client,
}

/// Whether there is anybody to ask, and this member may.
pub(super) fn possible(settings: &Settings) -> Result<(), Refusal> {
    if settings.cluster.len() < 2 && peers::known(&settings.config.data_dir).is_empty() {
        return Err(Refusal::Alone);
    }
    ledger::allow(settings)
}

/// Asks until the leader agrees, or says that it never will, or nobody has for a while.
pub(super) async fn for_help(
    settings: &Settings,
    identity: Identity,
    what: &str,
    log_lost: bool,
) -> Result<Help, Refusal> {
    let give_up = Instant::now() + PATIENCE;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
    loop {
        let request = pb::RepairRequest {
            member: identity.member.0,
            what: what.to_owned(),
            log_lost,
        };
        match once(settings, identity, request).await {
            Err(refusal) if !refusal.is_final() && Instant::now() < give_up => {
                tracing::warn!(%refusal, "waits for help");
            }
            answer => return answer,
        }
        sleep(backoff.next_delay()).await;
    }
}

async fn once(
    settings: &Settings,
    identity: Identity,
    request: pb::RepairRequest,
) -> Result<Help, Refusal> {
    let found = inquiry::leader(settings, identity).await;
    let (id, node) = found.ok_or(Refusal::NoLeader)?;
    let dialer = inquiry::dialer(settings);
    let mut leader = connect::client(identity.cluster, id, &node.peer_urls, Arc::clone(&dialer));
    match timeout(ANSWER, leader.repair(request)).await {
        Ok(Ok(answer)) => Ok(Help {
            member: MemberId(answer.into_inner().member),
            leader,
        }),
        Ok(Err(status)) => Err(Refusal::from_leader(&status)),
        Err(_) => Err(Refusal::NoLeader),
    }
}
