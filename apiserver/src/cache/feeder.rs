//! The task that keeps all caches current: load everything at one revision, follow the watch, and start over when the
//! store has compacted what was missed.
//!
//! It answers no reads. Invariant: the observed revision is published only after every cache has applied it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::backoff::Backoff;
use corten_base::shutdown::Shutdown;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{Caches, Item, ResourceCache};
use crate::storage::{Batch, Change, Error, ROOT, RangeQuery, Revision};

/// How often watchers hear how far they are, so that they can resume without missing anything.
const BOOKMARK_EVERY: Duration = Duration::from_secs(20);
/// Resources that are loaded at the same time.
const LOADS_MAX: usize = 4;
/// How often the watch is compared with the store's current revision.
const STALL_CHECK: Duration = Duration::from_secs(5);
/// How many times the patience of a reader passes before a watch that does not move is given up.
const STALL_WAITS: usize = 2;
/// Objects in one answer of the store.
const PAGE: i64 = 500;

/// The key of an object behind its resource's prefix.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

pub(super) async fn run(caches: Arc<Caches>, shutdown: Shutdown) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        let followed = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            followed = follow(&caches, &mut backoff) => followed,
        };
        if let Err(error) = &followed {
            caches.log.failed(Timestamp::now(), error.to_string());
        }
        match followed {
            Err(Error::Compacted { revision }) => {
                tracing::warn!(%revision, "the store has compacted unread history; loading everything again");
                caches.observed.send_replace(Revision::default());
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "lost the store's watch"
                );
            }
            Ok(()) => {}
        }
        let wait = backoff.next_delay();
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Loads if nothing is loaded, then follows until the watch breaks.
async fn follow(caches: &Arc<Caches>, backoff: &mut Backoff) -> Result<(), Error> {
    if caches.observed() == Revision::default() {
        let revision = load(caches).await?;
        caches.observed.send_replace(revision);
    }
    let from = Revision::new(caches.observed().get() + 1);
    let mut watcher = caches.store.watch(ROOT, from).await?;
    caches
        .progress
        .store(Some(Arc::new(watcher.progress_requests())));
    let mut bookmarks = tokio::time::interval(BOOKMARK_EVERY);
    let stalled = stalled(caches);
    tokio::pin!(stalled);
    loop {
        tokio::select! {
            biased;
            error = &mut stalled => return Err(error),
            batch = watcher.next() => {
                backoff.reset();
                match batch? {
                    Batch::Changes(changes) => apply(caches, changes),
                    Batch::Progress(revision) => advance(caches, revision),
                }
            }
            _ = bookmarks.tick() => {
                let observed = caches.observed();
                for cache in caches.by_prefix.values() {
                    cache.progress(observed);
                }
                // Encodings are made after their events were counted.
                caches.trim();
            }
        }
    }
}

/// Returns when the watch delivers nothing although the store has moved on: its member is cut off from the others, or
/// stuck, and the next one must be asked.
async fn stalled(caches: &Caches) -> Error {
    loop {
        tokio::time::sleep(STALL_CHECK).await;
        let before = caches.observed();
        // When no member answers, another watch would tell no more.
        let Ok(current) = caches.store.current_revision().await else {
            continue;
        };
        for _ in 0..STALL_WAITS {
            if caches.wait_for(current).await.is_ok() {
                break;
            }
        }
        if is_stalled(before, caches.observed(), current) {
            return Error::Unavailable {
                source: tonic::Status::unavailable("the watch has fallen silent"),
            };
        }
    }
}

/// A watch that is behind but moves is busy, and would lose time by starting again.
fn is_stalled(before: Revision, now: Revision, current: Revision) -> bool {
    now == before && now < current
}

async fn load(caches: &Caches) -> Result<Revision, Error> {
    let started = Instant::now();
    let revision = caches.store.current_revision().await?;
    let loads: Vec<BoxFuture<'_, _>> = caches
        .by_prefix
        .values()
        .map(|cache| Box::pin(load_one(caches, cache, revision)) as BoxFuture<'_, _>)
        .collect();
    let counts: Vec<usize> = futures::stream::iter(loads)
        .buffer_unordered(LOADS_MAX)
        .try_collect()
        .await?;
    let objects: usize = counts.iter().sum();
    tracing::info!(%revision, objects, elapsed = ?started.elapsed(), "loaded the watch caches");
    Ok(revision)
}

async fn load_one(
    caches: &Caches,
    cache: &Arc<ResourceCache>,
    revision: Revision,
) -> Result<usize, Error> {
    let mut items = Vec::new();
    let mut query = RangeQuery::prefix(cache.prefix());
    query.revision = Some(revision);
    query.limit = PAGE;
    loop {
        let page = caches.store.range(&query).await?;
        if let Some(last) = &page.last_key {
            query.start = format!("{last}\0");
        }
        for unreadable in &page.unreadable {
            skip(&unreadable.key, &unreadable.source);
        }
        for stored in page.items {
            items.extend(decode(
                cache,
                &stored.key,
                &stored.value,
                stored.mod_revision,
            ));
        }
        if !page.more {
            break;
        }
    }
    let count = items.len();
    cache.replace(items, revision);
    Ok(count)
}

fn apply(caches: &Caches, changes: Vec<Change>) {
    let Some(last) = changes.last().map(|change| change.revision) else {
        return;
    };
    let now = Instant::now();
    let mut changes = changes.into_iter().peekable();
    while let Some(change) = changes.next() {
        let Some(cache) = caches.by_key(&change.key) else {
            continue;
        };
        let mut run = vec![change];
        while let Some(next) = changes.next_if(|next| next.key.starts_with(cache.prefix())) {
            run.push(next);
        }
        let run = run.into_iter().filter_map(|change| {
            let key = change.key[cache.prefix().len()..].to_owned();
            match change.value {
                None => Some((key, None, change.revision)),
                Some(Ok(value)) => decode(cache, &change.key, &value, change.revision)
                    .map(|item| (key, Some(item), change.revision)),
                Some(Err(error)) => {
                    skip(&change.key, &error);
                    None
                }
            }
        });
        cache.apply(run.collect(), now);
    }
    caches.trim();
    caches.log.succeeded(Timestamp::now());
    advance(caches, last);
}

fn advance(caches: &Caches, revision: Revision) {
    caches.observed.send_if_modified(|observed| {
        let further = revision > *observed;
        if further {
            *observed = revision;
        }
        further
    });
}

fn decode(cache: &ResourceCache, key: &str, value: &[u8], revision: Revision) -> Option<Item> {
    let short = &key[cache.prefix().len()..];
    match Item::decode(cache.descriptor, short, value, revision) {
        Ok(item) => Some(item),
        Err(error) => {
            skip(key, &error);
            None
        }
    }
}

/// One broken value must not hide all others; it stays in the store for a person to look at.
fn skip(key: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::error!(error, key, "skipping a broken object");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_on_a_member_that_was_cut_off_fell_silent_for_ever() {
        let at = Revision::new;
        for (before, now, current, expected) in [
            (5, 5, 9, true),
            (5, 6, 9, false),
            (5, 5, 5, false),
            (5, 9, 9, false),
        ] {
            assert_eq!(is_stalled(at(before), at(now), at(current)), expected);
        }
    }
}
