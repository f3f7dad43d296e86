//! Opening a member's log and tables, with the repair of those that are damaged.
//!
//! Not the repair itself (`crate::repair`). Invariant: a log that is damaged or gone is never opened under the old
//! identity, and tables that end before the log begins are never used.

use std::sync::Arc;

use corten_store_core::backend::BackendError;

use super::State;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::raft::identity::{Identity, IdentityError, inquiry};
use crate::raft::tables::Tables;
use crate::raft::wal::{Wal, WalError, WalOptions};
use crate::repair::mark::Damaged;
use crate::repair::{self, Refusal};
use crate::rocks::{Rocks, RocksOptions};
use crate::server::StoreError;

/// Opens the log; a damaged one is repaired, and with it the member becomes another one.
pub(super) async fn log(
    settings: &Settings,
    mut identity: Identity,
    known: bool,
    metrics: &Metrics,
) -> Result<(Identity, Arc<Wal>), StoreError> {
    let dir = settings.config.data_dir.join(repair::log::WAL);
    let mut options = WalOptions::new(&dir);
    options.sync_seconds = metrics.wal_fsync.clone();
    options.under_way = metrics.wal_under_way.clone();
    let mut damage = repair::mark::get(&dir);
    if damage.is_none() && known {
        damage = lost_log(settings, identity).await?;
    }
    loop {
        if let Some(what) = &damage {
            let repaired = repair::log::repair(settings, identity, what, metrics).await;
            identity = repaired.map_err(|refusal| damaged(metrics, what, refusal))?;
        }
        match Wal::open(options.clone()) {
            Ok(wal) => {
                let dir = &settings.config.data_dir;
                repair::log::note_made(dir, identity)?;
                if repair::ledger::under_way(dir).as_deref() == Some(repair::ledger::LOG) {
                    // It was killed after its last step but this one.
                    repair::ledger::note(dir)?;
                }
                return Ok((identity, Arc::new(wal)));
            }
            // A log that was just made is not made once more.
            Err(error @ WalError::Corrupt { .. }) if damage.is_none() => {
                damage = Some(error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is known of a log that is not there, although the member has worked.
async fn lost_log(settings: &Settings, identity: Identity) -> Result<Option<String>, StoreError> {
    let dir = &settings.config.data_dir;
    if repair::log::is_there(dir) {
        return Ok(None);
    }
    // The log is always made first.
    let has_tables = dir.join(repair::tables::STATE).join("CURRENT").exists();
    let lost = has_tables
        || repair::log::was_made(dir, identity)
        || match Box::pin(inquiry::refuse_if_known(settings, identity)).await {
            Ok(()) => false,
            Err(IdentityError::DataLost(_)) => true,
            Err(error) => return Err(error.into()),
        };
    Ok(lost.then(|| "the log is gone".to_owned()))
}

fn damaged(metrics: &Metrics, what: &str, refusal: Refusal) -> StoreError {
    metrics.repairs_refused.inc();
    StoreError::Damaged {
        what: what.to_owned(),
        refusal,
    }
}

/// Opens the tables; damaged ones are repaired.
pub(super) async fn state(
    settings: &Settings,
    identity: Identity,
    wal: &Arc<Wal>,
    metrics: &Metrics,
) -> Result<State, StoreError> {
    let dir = settings.config.data_dir.join(repair::tables::STATE);
    // Found in an earlier life, perhaps in a row that opening does not read.
    let marked = Rocks::marked(&dir);
    let under_way = repair::ledger::under_way(&settings.config.data_dir);
    let half_done = (!dir.exists() && under_way.as_deref() == Some(repair::ledger::TABLES))
        .then(|| "a repair of the tables was ended half way".to_owned());
    let what = match marked.as_ref().or(half_done.as_ref()) {
        Some(what) => what.clone(),
        None => match tables(settings, wal, metrics) {
            Err(error) => damage_of(&error).ok_or(error)?,
            opened => return opened,
        },
    };
    let repaired = repair::tables::repair(settings, identity, wal, &what, metrics);
    let refusal = match Box::pin(repaired).await {
        Ok(()) => return tables(settings, wal, metrics),
        Err(refusal) => refusal,
    };
    // What opens can be saved from, and may be repaired later on.
    match marked.is_some().then(|| tables(settings, wal, metrics)) {
        Some(Ok(state)) => {
            metrics.repairs_refused.inc();
            tracing::error!(what, %refusal, "starts with damaged tables");
            Ok(state)
        }
        _ => Err(damaged(metrics, &what, refusal)),
    }
}

fn damage_of(error: &StoreError) -> Option<String> {
    match error {
        StoreError::State(error) => repair::mark::of(error),
        StoreError::Io(error) => {
            let inner = error.get_ref()?.downcast_ref::<BackendError>()?;
            repair::mark::of(inner)
        }
        _ => None,
    }
}

/// Opens the tables, which must reach to where the log begins.
fn tables(settings: &Settings, wal: &Wal, metrics: &Metrics) -> Result<State, StoreError> {
    let options = RocksOptions {
        cache_bytes: settings.config.block_cache_bytes,
        memtable_bytes: settings.config.memtable_bytes,
    };
    let dir = settings.config.data_dir.join(repair::tables::STATE);
    let rocks = Arc::new(Rocks::open(&dir, options)?);
    let state = State::open(settings, Arc::clone(&rocks) as Arc<dyn Tables>, metrics);
    let checked = state.and_then(|state| match (wal.bounds().0, state.applied()) {
        (Some(purged), applied) if applied.is_none_or(|applied| applied < purged.index) => {
            let what = format!(
                "the tables end at {applied:?}, and the log begins after {}",
                purged.index
            );
            Err(BackendError::new("open the tables", Damaged(what)).into())
        }
        _ => Ok(state),
    });
    if checked.is_err() {
        rocks.close();
    }
    checked
}
