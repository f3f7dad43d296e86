//! Which images go when the disk fills: those that no container has, the longest unused first, until enough is free. The
//! choice is pure; the disk is asked again after each removal, since layers are shared and their sizes say little.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::shutdown::Shutdown;

use super::Images;
use crate::traits::ImageError;

/// The disk is looked at this often.
const CHECK: Duration = Duration::from_secs(60);

/// When images go. The defaults are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Percent of the disk in use at which collection begins; 100 turns it off.
    pub high: u8,
    /// Percent at which it ends.
    pub low: u8,
    /// An image that was used or found within this stays.
    pub age_min: Duration,
}

impl Thresholds {
    /// Refuses what cannot be meant.
    pub fn check(self) -> Result<Self, String> {
        if self.low < self.high && self.high <= 100 {
            return Ok(self);
        }
        Err(format!(
            "the low threshold ({}) must be below the high one ({}), and that at most 100",
            self.low, self.high
        ))
    }
}

/// Unused images in the order in which they should go.
pub(super) fn order(
    images: &[String],
    in_use: &HashSet<String>,
    last_used: &HashMap<String, Instant>,
    age_min: Duration,
    now: Instant,
) -> Vec<String> {
    let mut found: Vec<(Instant, &String)> = images
        .iter()
        .filter(|id| !in_use.contains(*id))
        .filter_map(|id| Some((*last_used.get(id)?, id)))
        .filter(|(used, _)| now.saturating_duration_since(*used) >= age_min)
        .collect();
    found.sort();
    found.into_iter().map(|(_, id)| id.clone()).collect()
}

/// What says which images containers on this host have, running or not.
pub type InUse = Box<dyn Fn() -> io::Result<HashSet<String>> + Send + Sync>;

/// The task that keeps room on the disk of the image store.
pub struct Collector {
    /// The store.
    pub images: Arc<Images>,
    /// Where the disk is asked about.
    pub root: PathBuf,
    /// Config ids of images that must stay.
    pub in_use: InUse,
    /// When to act.
    pub thresholds: Thresholds,
}

impl Collector {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: Shutdown) {
        let collector = Arc::new(self);
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(CHECK) => {}
            }
            let work = Arc::clone(&collector);
            match tokio::task::spawn_blocking(move || work.collect(Instant::now())).await {
                Ok(Ok(removed)) if removed.is_empty() => {}
                Ok(Ok(removed)) => tracing::info!(?removed, "unused images were removed"),
                Ok(Err(error)) => tracing::warn!(%error, "images could not be collected"),
                Err(error) => tracing::error!(%error, "the collection of images ended"),
            }
        }
    }

    fn collect(&self, now: Instant) -> Result<Vec<String>, ImageError> {
        let used = || used_percent(&self.root);
        self.images
            .collect(self.thresholds, &self.in_use, &used, now)
    }
}

impl Images {
    /// Removes unused images while the disk is too full; returns what went. Blocking. Does nothing while an image is being
    /// pulled or handed out: what that found on disk must still be there when it is used.
    pub(super) fn collect(
        &self,
        thresholds: Thresholds,
        in_use: &dyn Fn() -> io::Result<HashSet<String>>,
        used_percent: &dyn Fn() -> io::Result<u8>,
        now: Instant,
    ) -> Result<Vec<String>, ImageError> {
        let asked = |error: io::Error| ImageError::Store {
            cause: format!("cannot tell what may be removed: {error}"),
        };
        let Ok(_alone) = self.gate.try_write() else {
            return Ok(Vec::new());
        };
        let images: Vec<String> = self.store.list().into_iter().map(|r| r.id).collect();
        let last_used = self.note_all(&images, now);
        if thresholds.high >= 100 || used_percent().map_err(asked)? < thresholds.high {
            return Ok(Vec::new());
        }
        let in_use = in_use().map_err(asked)?;
        let mut removed = Vec::new();
        for id in order(&images, &in_use, &last_used, thresholds.age_min, now) {
            if used_percent().map_err(asked)? <= thresholds.low {
                break;
            }
            self.store.remove(&id)?;
            removed.push(id);
        }
        Ok(removed)
    }

    /// Takes note of images that are new to this process, and forgets those that are gone.
    fn note_all(&self, images: &[String], now: Instant) -> HashMap<String, Instant> {
        let mut used = self.last_used.lock();
        used.retain(|id, _| images.contains(id));
        for id in images {
            used.entry(id.clone()).or_insert(now);
        }
        used.clone()
    }

    /// Takes note that an image was asked for.
    pub(super) fn note(&self, id: &str) {
        self.last_used.lock().insert(id.to_owned(), Instant::now());
    }
}

/// How full the file system is for those who are not root, rounded up.
fn used_percent(root: &std::path::Path) -> io::Result<u8> {
    let stat = rustix::fs::statvfs(root)?;
    let free = stat.f_bavail.saturating_mul(100) / stat.f_blocks.max(1);
    Ok(100 - u8::try_from(free.min(100)).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_images_go_longest_unused_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let images: Vec<String> = ["old", "older", "used", "young", "unknown"]
            .map(str::to_owned)
            .into();
        let last_used = [("old", 20), ("older", 10), ("used", 0), ("young", 100)]
            .map(|(id, seconds)| (id.to_owned(), at(seconds)))
            .into();
        let in_use = HashSet::from(["used".to_owned()]);
        let age = Duration::from_secs(60);
        assert_eq!(
            order(&images, &in_use, &last_used, age, at(120)),
            ["older", "old"]
        );
    }

    #[test]
    fn thresholds_that_cannot_be_meant_are_refused() {
        let of = |low, high| Thresholds {
            high,
            low,
            age_min: Duration::ZERO,
        };
        assert!(of(80, 85).check().is_ok() && of(80, 100).check().is_ok());
        for (low, high) in [(85, 85), (90, 80), (80, 101)] {
            assert!(of(low, high).check().is_err(), "{low} {high}");
        }
        assert!(used_percent(std::path::Path::new("/")).expect("statvfs") <= 100);
    }
}
