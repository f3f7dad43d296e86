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
    loop {
        tokio::select! {
            biased;
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
        if let Some(last) = page.items.last() {
            query.start = format!("{}\0", last.key);
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
                Some(value) => decode(cache, &change.key, &value, change.revision)
                    .map(|item| (key, Some(item), change.revision)),
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
            // One broken value must not hide all others; it stays in the store for a person to look at.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                key,
                "skipping a broken object"
            );
            None
        }
    }
}
