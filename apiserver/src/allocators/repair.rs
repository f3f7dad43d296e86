//! A net under the allocations: keys without a Service are given back, Services without their keys get them.
//!
//! Normal operation needs neither; restored backups and Services written by other programs do. Invariant: a key is removed
//! only when the store itself, not the cache, shows no Service that holds it, and only if the key is as old as that look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use jiff::Timestamp;
use serde_json::Value;

use super::addresses::{IP_PREFIX, is_ours};
use super::{PORT_PREFIX, keys_of, value_of};
use crate::storage::{Committed, Error, Store, Txn};

/// As often as upstream repairs its bitmaps.
const EVERY: Duration = Duration::from_secs(180);
const SERVICES: &str = "/registry/services/specs/";

/// Repairs now and then until shutdown.
pub async fn repair(store: Store, shutdown: Shutdown) {
    loop {
        if let Err(error) = repair_once(&store).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not check the Services' allocations"
            );
        }
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn repair_once(store: &Store) -> Result<(), Error> {
    // Allocations first: what is taken while we read is then missing from this list, and left alone.
    let mut present = BTreeMap::new();
    for prefix in [IP_PREFIX, PORT_PREFIX] {
        for stored in store.range_all(prefix).await?.items {
            let ours = prefix != IP_PREFIX || is_ours(&stored.value);
            present.insert(stored.key, (stored.mod_revision, ours));
        }
    }
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let services = store.range_all(SERVICES).await?;
    if let Some(unreadable) = services.unreadable.into_iter().next() {
        // It may hold numbers that look free: better none are given back than those.
        return Err(unreadable.into());
    }
    for stored in services.items {
        let Ok(service) = serde_json::from_slice::<Value>(&stored.value) else {
            continue;
        };
        for key in keys_of(&service) {
            if let Some(other) = wanted.insert(key.clone(), stored.key.clone()) {
                tracing::error!(
                    key,
                    service = stored.key,
                    other,
                    "two Services hold the same number"
                );
            }
        }
    }
    let names: BTreeSet<&String> = wanted.keys().collect();
    let unheld = present.iter().filter(|(key, _)| !names.contains(key));
    for (key, (revision, _)) in unheld.filter(|(_, (_, ours))| *ours) {
        if let Committed::Applied(_) = store.commit(&Txn::delete(key, *revision)).await? {
            tracing::warn!(key, "gave back a number that no Service holds");
        }
    }
    for (key, service) in wanted.iter().filter(|(key, _)| !present.contains_key(*key)) {
        let value = value_of(
            key,
            service.strip_prefix(SERVICES).unwrap_or(service),
            Timestamp::now(),
        );
        if let Committed::Applied(_) = store.commit(&Txn::create(key, value, None)).await? {
            tracing::warn!(key, service, "recorded a number that a Service holds");
        }
    }
    Ok(())
}
