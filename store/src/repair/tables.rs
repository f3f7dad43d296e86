//! A member whose tables are damaged, at its start: it gets the leader's, under its own log and vote.
//!
//! It does not take part meanwhile. Invariant: the log that is left is one that a follower may have that received the
//! same state as a snapshot; the vote stays as it is.

use std::path::Path;

use super::{Refusal, ask, fetch, ledger};
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::offload::offload;
use crate::raft::identity::Identity;
use crate::raft::snapshot::sync_dir;
use crate::raft::types::LogId;
use crate::raft::wal::Wal;
use crate::rocks::Rocks;

/// Folder of the tables.
pub(crate) const STATE: &str = "state";

/// Transfers begun before it is given up until the next start.
const ATTEMPTS: u32 = 3;

/// Puts the leader's state in the place of a damaged one.
pub(crate) async fn repair(
    settings: &Settings,
    identity: Identity,
    wal: &std::sync::Arc<Wal>,
    what: &str,
    metrics: &Metrics,
) -> Result<(), Refusal> {
    let dir = &settings.config.data_dir;
    tracing::error!(what, "this member's tables are damaged");
    ask::possible(settings)?;
    let state = dir.join(STATE);
    if state.is_dir() {
        Rocks::mark(&state, what).map_err(Refusal::disk(&state))?;
    }
    let fetched = fetched(settings, identity, what).await?;
    let (log, at) = (std::sync::Arc::clone(wal), fetched.at);
    offload(move || fit(&log, at))
        .await
        .map_err(|error| Refusal::Later(error.to_string()))??;
    ledger::begin(dir, ledger::TABLES).map_err(Refusal::disk(dir))?;
    ledger::set_aside(dir, STATE, ledger::TABLES)?;
    std::fs::rename(&fetched.tables, &state).map_err(Refusal::disk(&state))?;
    sync_dir(dir).map_err(Refusal::disk(dir))?;
    fetch::clear(dir).await?;
    ledger::note(dir).map_err(Refusal::disk(dir))?;
    metrics.repaired("tables");
    tracing::warn!(
        index = at.index,
        "this member's tables were repaired from the leader's"
    );
    Ok(())
}

/// The leader's tables; leaders may change meanwhile.
async fn fetched(
    settings: &Settings,
    identity: Identity,
    what: &str,
) -> Result<fetch::Fetched, Refusal> {
    let mut attempt = 1;
    loop {
        let help = ask::for_help(settings, identity, what, false).await?;
        let dir = &settings.config.data_dir;
        match fetch::fetch(help.leader, identity.member, dir).await {
            Err(refusal) if !refusal.is_final() && attempt < ATTEMPTS => {
                tracing::warn!(%refusal, "fetches the leader's tables again");
                attempt += 1;
            }
            fetched => return fetched,
        }
    }
}

/// Makes the log follow on tables at `at`, which is committed: what is covered goes, and so does an end that contradicts it.
fn fit(wal: &Wal, at: LogId) -> Result<(), Refusal> {
    let failed =
        |error: std::io::Error| Refusal::Disk(Path::new("wal").to_owned(), error.to_string());
    let (purged, last) = wal.bounds();
    if purged.is_some_and(|purged| purged.index > at.index) {
        return Err(Refusal::Unusable(format!(
            "it ends at {}, before what this member's log begins with",
            at.index
        )));
    }
    if purged == Some(at) {
        return Ok(());
    }
    let own = wal.read(at.index..at.index + 1, 1).map_err(failed)?;
    let own = own.first().map(|entry| entry.log_id);
    if own == Some(at) {
        return Ok(());
    }
    if own.is_some() {
        let before = wal.read(at.index.saturating_sub(1)..at.index, 1);
        let before = before.map_err(failed)?.first().map(|entry| entry.log_id);
        wal.truncate_after(before.or(purged)).map_err(failed)?;
    }
    wal.purge(at).map_err(failed)?;
    tracing::info!(
        ?last,
        to = at.index,
        "the log was fitted to the received state"
    );
    let (done, synced) = std::sync::mpsc::sync_channel(1);
    // The receiver waits below.
    wal.append([], Box::new(move |result| drop(done.send(result))))
        .map_err(failed)?;
    synced
        .recv()
        .map_err(|error| failed(std::io::Error::other(error)))?
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Command, Entry};
    use crate::raft::wal::WalOptions;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new_term_index(term, index)
    }

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            log_id: id(term, index),
            payload: openraft::EntryPayload::Normal(Command(bytes::Bytes::from_static(b"x"))),
        }
    }

    /// A log with one entry of a term at each index from 0 on, fitted; as it is after a restart.
    fn fitted(terms: &[u64], at: LogId) -> (Option<LogId>, Option<LogId>) {
        let dir = tempfile::tempdir().expect("temp dir");
        let wal = Wal::open(WalOptions::new(dir.path())).expect("opened");
        let entries = terms
            .iter()
            .zip(0..)
            .map(|(term, index)| entry(*term, index));
        wal.append(entries, Box::new(|_| {})).expect("appended");
        fit(&wal, at).expect("fitted");
        wal.close();
        drop(wal);
        let wal = Wal::open(WalOptions::new(dir.path())).expect("opened again");
        wal.bounds()
    }

    #[test]
    fn a_log_that_agrees_is_kept() {
        let bounds = fitted(&[1, 1, 1, 1], id(1, 2));
        assert_eq!(bounds, (None, Some(id(1, 3))));
    }

    #[test]
    fn a_log_that_ends_before_the_state_begins_behind_it() {
        assert_eq!(fitted(&[1, 1], id(2, 9)), (Some(id(2, 9)), Some(id(2, 9))));
    }

    #[test]
    fn an_end_that_contradicts_the_state_goes() {
        let bounds = fitted(&[1, 1, 1, 1], id(2, 2));
        assert_eq!(bounds, (Some(id(2, 2)), Some(id(2, 2))));
    }
}
