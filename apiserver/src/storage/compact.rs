//! Regular compaction: history older than five to ten minutes is forgotten.
//!
//! Several servers share the work through one key; the one whose guarded write succeeds compacts. Invariant: a revision is
//! compacted only a whole interval after it was current, so that watches and pages have that long to come back.

use std::time::Duration;

use corten_base::shutdown::Shutdown;

use super::{Committed, Error, ROOT, Revision, Store, Txn};

/// As upstream: paged lists and watches rely on it.
const EVERY: Duration = Duration::from_secs(300);

/// Compacts until shutdown.
pub async fn compact_regularly(store: Store, shutdown: Shutdown) {
    let key = format!("{ROOT}corten/compaction");
    let mut seen = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match round(&store, &key, seen).await {
            Ok(now) => seen = now,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "compaction failed; trying again later"
                );
            }
        }
    }
}

/// Answers with the key's revision as it is now, to be compared in the next round.
async fn round(
    store: &Store,
    key: &str,
    seen: Option<Revision>,
) -> Result<Option<Revision>, Error> {
    let present = store.get(key).await?;
    let current = store.current_revision().await?;
    let value = bytes::Bytes::from(current.to_string());
    let (txn, compactable) = match present {
        None => (Txn::create(key, value, None), None),
        Some(stored) if seen == Some(stored.mod_revision) => {
            let text = std::str::from_utf8(&stored.value).unwrap_or("");
            (
                Txn::update(key, value, stored.mod_revision, None),
                Revision::parse(text).ok(),
            )
        }
        // Another server did this round's work.
        Some(stored) => return Ok(Some(stored.mod_revision)),
    };
    let Committed::Applied(revision) = store.commit(&txn).await? else {
        return Ok(None);
    };
    if let Some(compactable) = compactable {
        store.compact(compactable).await?;
        tracing::debug!(revision = %compactable, "compacted the store");
    }
    Ok(Some(revision))
}
