//! Which backups go: all but the newest few good ones of a cluster.
//!
//! Not when backups are made. Invariant: the newest good backup and the one just made stay, whatever the clocks, the names
//! and the number asked for say; and what is not recognised as ours is never touched.

use jiff::{SignedDuration, Timestamp};

use super::manifest::{self, Manifest};
use super::place::{Item, Place, PlaceError};

/// What an interrupted run left is cleared after this long: no run takes as long.
const LEFT_OVER: SignedDuration = SignedDuration::from_hours(24);

/// A backup that was found in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Whether its file is there in the right size. Reading all of it is `verify`.
    pub good: bool,
}

/// What `retain` has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Backups removed.
    pub removed: Vec<String>,
    /// Left-overs of interrupted runs removed.
    pub cleared: Vec<String>,
    /// Good backups of the cluster that are there now.
    pub good: usize,
}

/// All backups of a place, newest first: by when they were taken, never by name.
pub async fn found(place: &Place) -> Result<Vec<Kept>, PlaceError> {
    let items = place.list().await?;
    let mut kept = Vec::new();
    for item in &items {
        let Some(file) = manifest::file_of(&item.name) else {
            continue;
        };
        let bytes = place.get(&item.name, manifest::BYTES_MAX).await?;
        match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.file == file => {
                let is_it = |item: &&Item| item.name == file && item.bytes == manifest.stored_bytes;
                let good = items.iter().any(|item| is_it(&item));
                kept.push(Kept { manifest, good });
            }
            Ok(_) => tracing::warn!(name = %item.name, "a manifest of another file is ignored"),
            Err(error) => tracing::warn!(name = %item.name, %error, "a manifest is ignored"),
        }
    }
    kept.sort_by(|a, b| newer(&b.manifest, &a.manifest));
    Ok(kept)
}

/// Removes all but the newest `keep` good backups of the cluster that `newest`, just made, is of.
pub async fn retain(
    place: &Place,
    keep: usize,
    newest: &Manifest,
    now: Timestamp,
) -> Result<Retained, PlaceError> {
    let kept = found(place).await?;
    let removed = superfluous(&kept, keep, newest);
    for name in &removed {
        // First what makes it a backup: a run that ends here leaves a file without manifest, cleared below in time.
        place.remove(&manifest::name_of(name)).await?;
        place.remove(name).await?;
    }
    let items = place.list().await?;
    let cleared = left_over(&items, now);
    for name in &cleared {
        place.remove(name).await?;
    }
    let ours = |kept: &&Kept| {
        kept.good
            && kept.manifest.cluster_id == newest.cluster_id
            && !removed.contains(&kept.manifest.file)
    };
    Ok(Retained {
        good: kept.iter().filter(ours).count(),
        removed,
        cleared,
    })
}

fn newer(a: &Manifest, b: &Manifest) -> std::cmp::Ordering {
    (a.taken_at, a.revision, &a.file).cmp(&(b.taken_at, b.revision, &b.file))
}

fn superfluous(kept: &[Kept], keep: usize, newest: &Manifest) -> Vec<String> {
    let mut good: Vec<&Manifest> = kept
        .iter()
        .filter(|kept| kept.good && kept.manifest.cluster_id == newest.cluster_id)
        .map(|kept| &kept.manifest)
        .collect();
    good.sort_by(|a, b| newer(b, a));
    // A clock that stepped back makes the one just made an old one; it is the only one known to be good by reading.
    let just_made = |manifest: &&Manifest| manifest.file == newest.file;
    let others = good.iter().filter(|manifest| !just_made(manifest));
    let keep_others = if good.iter().any(&just_made) {
        keep.saturating_sub(1)
    } else {
        keep
    };
    let newest_stays = usize::from(good.first().is_some_and(|first| !just_made(first)));
    let keep_others = keep_others.max(newest_stays);
    others
        .skip(keep_others)
        .map(|manifest| manifest.file.clone())
        .collect()
}

/// Files of ours without a manifest, and temporary ones, that nobody works on any more.
fn left_over(items: &[Item], now: Timestamp) -> Vec<String> {
    let old = |item: &&Item| {
        item.modified
            .is_some_and(|at| now.duration_since(at) > LEFT_OVER)
    };
    let orphan = |item: &&Item| {
        let name = manifest::name_of(&item.name);
        manifest::is_backup(&item.name) && !items.iter().any(|item| item.name == name)
    };
    let temporary = |item: &&Item| {
        let ours = item.name.strip_prefix('.');
        ours.is_some_and(|name| name.starts_with(manifest::FILE_PREFIX))
            && (item.name.ends_with(super::take::PARTIAL) || item.name.ends_with(".new"))
    };
    items
        .iter()
        .filter(|item| old(item) && (orphan(item) || temporary(item)))
        .map(|item| item.name.clone())
        .collect()
}

#[cfg(test)]
mod tests;
