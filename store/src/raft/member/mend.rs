//! A running member that is damaged repairs itself: the leader's tables in the place of its own, at the same position.
//!
//! It goes on voting and appending meanwhile, for which it needs its log alone, and answers no client while the CORRUPT
//! alarm is on for it. Invariant: the new tables hold exactly the entries that the old ones had applied, and what applies
//! next follows on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
use tokio::time::{Instant, timeout};

use super::{Member, REQUEST_TIMEOUT};
use crate::config::{Repair, Settings};
use crate::metrics::Metrics;
use crate::offload::offload;
use crate::peer::connect::{Client, Lane};
use crate::raft::snapshot::SnapshotDir;
use crate::raft::tables::Tables as _;
use crate::raft::types::LogId;
use crate::raft::wal::Wal;
use crate::recover::replay;
use crate::repair::fetch::{self, Fetched};
use crate::repair::{Refusal, ledger};
use crate::rocks::{Rocks, RocksOptions};

/// Between two looks at whether anything is wrong; they cost two loads.
const LOOK: Duration = Duration::from_millis(500);
/// Before a repair that could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// The same when nothing is likely to have changed soon.
const AGAIN_FINAL: Duration = Duration::from_secs(5 * 60);
/// An attempt that took long is not repeated for so many times as long.
const PAUSE: u32 = 10;
/// A comparison reads all keys of all members.
const COMPARED: Duration = Duration::from_secs(10 * 60);

/// What a repair needs besides the member.
pub(crate) struct Mender {
    settings: Settings,
    wal: Arc<Wal>,
    metrics: Metrics,
}

impl Mender {
    pub(crate) fn new(settings: Settings, wal: Arc<Wal>, metrics: Metrics) -> Self {
        Self {
            settings,
            wal,
            metrics,
        }
    }
}

/// Repairs this member whenever it is damaged. Runs until `shutdown`.
pub(crate) async fn run_repairs(member: Arc<Member>, mender: Mender, shutdown: Shutdown) {
    let mut again = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let damage = member.parts.jobs.tables().damage();
        if damage.is_none() && !member.is_corrupt() {
            *member.unrepaired.lock() = None;
            continue;
        }
        if Instant::now() < again {
            continue;
        }
        let began = Instant::now();
        let turn = member.mend(&mender, damage);
        let done = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            done = Box::pin(turn) => done,
        };
        if let Err(refusal) = done {
            member.tell(&mender.metrics, &refusal);
            again = Instant::now()
                + match refusal.is_final() {
                    true => AGAIN_FINAL,
                    // Comparing reads all keys of all members: not without a pause.
                    false => AGAIN.max(began.elapsed() * PAUSE),
                };
        }
    }
}

impl Member {
    /// Says why there is no repair: once for each reason.
    fn tell(&self, metrics: &Metrics, refusal: &Refusal) {
        let text = match refusal.is_final() {
            true => format!("corten: this member is damaged and not repaired: {refusal}"),
            false => format!("corten: this member is damaged, and its repair waits: {refusal}"),
        };
        let mut last = self.unrepaired.lock();
        if last.as_ref() == Some(&text) {
            return;
        }
        if refusal.is_final() {
            tracing::error!("{text}");
            metrics.repairs_refused.inc();
        } else {
            tracing::warn!("{text}");
        }
        *last = Some(text);
    }

    async fn mend(&self, mender: &Mender, damage: Option<String>) -> Result<(), Refusal> {
        if self.membership().nodes().count() < 2 {
            return Err(Refusal::Alone);
        }
        if !self.is_corrupt() {
            // Found here and by nobody else yet: from now on no client is answered.
            let raised = self.set_corrupt(self.id(), true).await;
            raised.map_err(|error| Refusal::Later(error.to_string()))?;
        }
        if mender.settings.config.repair == Repair::Off {
            return Err(Refusal::Off);
        }
        // One that is catching up is compared when it has.
        if !self.has_place() {
            return Ok(());
        }
        if self.leading_term().is_some() {
            if let Some(successor) = self.best_successor() {
                // The answer is seen in who leads next.
                let _ = timeout(REQUEST_TIMEOUT, self.move_leader(successor.0)).await;
            }
            return Err(Refusal::Later("this member leads".to_owned()));
        }
        // It may have been repaired, or an operator has raised the alarm.
        if damage.is_none() && self.agrees().await? {
            return Ok(());
        }
        ledger::allow(&mender.settings)?;
        let what = damage.unwrap_or_else(|| "its keys differ from the others'".to_owned());
        tracing::warn!(what, "this member repairs itself from the leader's tables");
        let request = pb::RepairRequest {
            member: self.id().0,
            what,
            log_lost: false,
        };
        let answer = timeout(
            REQUEST_TIMEOUT,
            self.to_leader(Lane::Control)?.repair(request),
        )
        .await;
        let answer = answer.map_err(|_| Refusal::NoLeader)?;
        answer.map_err(|status| Refusal::from_leader(&status))?;
        self.swap(mender).await?;
        mender.metrics.repaired("tables");
        tracing::warn!("this member's tables were replaced by the leader's");
        // Without an answer it is asked again, while the alarm is on.
        if let Ok(false) = self.agrees().await {
            tracing::error!("this member's keys still differ from the others'");
        }
        Ok(())
    }

    /// Whether this member has come as far as it is to come.
    fn has_place(&self) -> bool {
        let membership = self.membership();
        let stays = membership
            .get_node(&self.id())
            .is_some_and(|node| node.stays_learner);
        stays || membership.voter_ids().any(|id| id == self.id())
    }

    /// Fetches the leader's tables and puts them in the place of this member's.
    async fn swap(&self, mender: &Mender) -> Result<(), Refusal> {
        let dir = &mender.settings.config.data_dir;
        // What the leader has by now, and what comes after, must be in the log until the end.
        let held = mender.wal.hold();
        let fetched = fetch::fetch(self.to_leader(Lane::Bulk)?, self.id(), dir).await?;
        let reached = timeout(REQUEST_TIMEOUT, self.applied().reached(fetched.at.index)).await;
        if !matches!(reached, Ok(Ok(()))) {
            return Err(Refusal::Later("this member lags behind".to_owned()));
        }
        let aside = ledger::aside(dir, ledger::TABLES).map_err(Refusal::disk(dir))?;
        let wal = Arc::clone(&mender.wal);
        let swapped = self
            .parts
            .jobs
            .run(move |machine| machine.replace(aside, |at| bring_to(at, &fetched, &wal)));
        let swapped = swapped.await.and_then(|swapped| swapped);
        drop(held);
        swapped.map_err(|error| Refusal::Unusable(error.to_string()))?;
        let own = dir.clone();
        let noted = offload(move || ledger::note(&own)).await;
        noted
            .map_err(|error| Refusal::Later(error.to_string()))?
            .map_err(Refusal::disk(dir))?;
        fetch::clear(dir).await
    }

    /// Asks the leader to compare this member with the others, and to disarm its alarm if it agrees.
    async fn agrees(&self) -> Result<bool, Refusal> {
        let request = pb::CompareMemberRequest {
            member: self.id().0,
        };
        let mut leader = self.to_leader(Lane::Control)?;
        let answer = timeout(COMPARED, leader.compare_member(request)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner().agrees),
            Ok(Err(status)) => Err(Refusal::from_leader(&status)),
            Err(_) => Err(Refusal::NoLeader),
        }
    }

    fn to_leader(&self, lane: Lane) -> Result<Client, Refusal> {
        let (leader, node) = self.leader().ok_or(Refusal::NoLeader)?;
        Ok(self.parts.peers.client(leader, &node, lane))
    }
}

/// Applies to fetched tables what this member's own log has up to a position.
fn bring_to(at: LogId, fetched: &Fetched, wal: &Wal) -> std::io::Result<SnapshotDir> {
    let failed = |error: String| std::io::Error::other(error);
    let apply = |tables: &Path| {
        let rocks = Arc::new(
            Rocks::open(tables, RocksOptions::default()).map_err(|error| error.to_string())?,
        );
        let applied = || {
            let count = replay::replay(wal, &rocks, at.index).map_err(|error| error.to_string())?;
            rocks.flush().map_err(|error| error.to_string())?;
            let backend = Arc::clone(&rocks) as Arc<dyn corten_store_core::backend::Backend>;
            let (_, writer) =
                corten_store_core::Store::open(backend).map_err(|error| error.to_string())?;
            let stands = writer.applied().map(|at| (at.term, at.index));
            match stands == Some((at.leader_id.term, at.index)) {
                true => Ok(count),
                false => Err(format!("it stands at {stands:?}, and this member at {at}")),
            }
        };
        let result = applied();
        rocks.close();
        result
    };
    let count = apply(&fetched.tables).map_err(failed)?;
    tracing::info!(
        entries = count,
        index = at.index,
        "the fetched tables are where this member is"
    );
    Rocks::snapshot_of(&fetched.tables)
}
