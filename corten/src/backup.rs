//! Backups on a schedule: when the next one is due, what is told about each, and what an alert can be built on.
//!
//! Not how one is taken or kept (`corten_store::archive`). Invariant: a failed backup is tried again soon and shows as
//! failed until one succeeds; nothing is removed unless a good one was just made.

use std::time::Duration;

use anyhow::{Result, bail};
use corten_base::admin::AdminServer;
use corten_base::backoff::Backoff;
use corten_base::shutdown::Shutdown;
use corten_store::archive::{
    self, Manifest, Place, PlaceError, Retained, Source, TakeError, TakeOptions,
};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, sleep};

/// After a failure the next try comes within this.
const RETRY_MAX: Duration = Duration::from_secs(15 * 60);
/// And not before this.
const RETRY_MIN: Duration = Duration::from_secs(20);
/// Name of the readiness check that fails after a failed backup.
const CHECK: &str = "last-backup";

/// What to back up, to where, and how much of it to keep.
#[derive(Debug, Clone)]
pub struct Job {
    /// Members to take it from.
    pub source: Source,
    /// Where to.
    pub place: Place,
    /// How.
    pub options: TakeOptions,
    /// How many good backups of the cluster stay; none: all.
    pub keep: Option<usize>,
}

/// What one run has made.
#[derive(Debug)]
pub struct Made {
    /// The backup.
    pub manifest: Manifest,
    /// What became of older ones.
    pub retained: Retained,
}

/// Why a run has not done all that it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no new backup.
    #[error("no backup was made")]
    NotMade(#[from] TakeError),
    /// There is one, and too many others.
    #[error("the backup {} was made and is good, but older ones could not be removed", .0.file)]
    NotRetained(Box<Manifest>, #[source] PlaceError),
}

/// What is told about runs.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    succeeded: Counter,
    failed: Counter,
    not_retained: Counter,
    last_success: Gauge,
    seconds: Gauge,
    bytes: Gauge,
    revision: Gauge,
    good: Gauge,
}

impl Figures {
    /// Makes them visible.
    pub fn register(&self, admin: &AdminServer) {
        let gauges = [
            (
                "last_success_timestamp_seconds",
                "When the last good backup was begun",
                &self.last_success,
            ),
            (
                "duration_seconds",
                "How long the last backup took, with its verification",
                &self.seconds,
            ),
            ("stored_bytes", "Size of the last backup", &self.bytes),
            ("revision", "Revision of the last backup", &self.revision),
            (
                "good",
                "Good backups of this cluster in the place",
                &self.good,
            ),
        ];
        let counters = [
            ("succeeded", "Backups made and verified", &self.succeeded),
            ("failed", "Runs that made no backup", &self.failed),
            (
                "retention_failed",
                "Runs after which old backups could not be removed",
                &self.not_retained,
            ),
        ];
        admin.with_registry(|registry| {
            let registry = registry.sub_registry_with_prefix("corten_backup");
            for (name, help, gauge) in gauges {
                registry.register(name, help, gauge.clone());
            }
            for (name, help, counter) in counters {
                registry.register(name, help, counter.clone());
            }
        });
    }
}

/// Takes one backup, checks it, and then removes what is too many.
pub async fn once(job: &Job, figures: &Figures) -> Result<Made, Failure> {
    let began = Instant::now();
    let taken = match Box::pin(archive::take(&job.source, &job.place, &job.options)).await {
        Ok(taken) => taken,
        Err(error) => {
            figures.failed.inc();
            return Err(error.into());
        }
    };
    let manifest = taken.manifest;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    figures.succeeded.inc();
    figures.last_success.set(manifest.taken_at.as_second());
    figures.seconds.set(number(began.elapsed().as_secs()));
    figures.bytes.set(number(manifest.stored_bytes));
    figures.revision.set(manifest.revision);
    let keep = job.keep.unwrap_or(usize::MAX);
    match archive::retain(&job.place, keep, &manifest, Timestamp::now()).await {
        Ok(retained) => {
            figures.good.set(number(retained.good as u64));
            Ok(Made { manifest, retained })
        }
        Err(error) => {
            figures.not_retained.inc();
            Err(Failure::NotRetained(Box::new(manifest), error))
        }
    }
}

/// Takes a backup every `period` until `shutdown`. A restart takes none before it is due.
pub async fn every(
    job: &Job,
    period: Duration,
    figures: &Figures,
    admin: &AdminServer,
    shutdown: Shutdown,
) {
    let mut backoff = Backoff::new(RETRY_MIN.min(period), RETRY_MAX.min(period));
    let mut wait = until_due(job, period).await;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = sleep(wait) => {}
        }
        let outcome = tokio::select! {
            biased;
            // Dropped in the middle: what it has written is removed, here or by a later run.
            () = shutdown.wait() => return,
            outcome = Box::pin(once(job, figures)) => outcome,
        };
        wait = match outcome {
            Ok(made) => {
                let manifest = &made.manifest;
                tracing::info!(file = %manifest.file, revision = manifest.revision, bytes = manifest.stored_bytes,
                    removed = made.retained.removed.len(), "backup made and verified");
                admin.readiness().set(CHECK, Ok(()));
                backoff.reset();
                period
            }
            Err(failure) => {
                let delay = backoff.next_delay();
                let error = anyhow::Error::from(failure);
                tracing::error!(again_in = ?delay, "{error:#}");
                admin.readiness().set(CHECK, Err(format!("{error:#}")));
                delay
            }
        };
    }
}

/// How long the newest good backup is good enough. A place that cannot be asked is asked by taking one.
async fn until_due(job: &Job, period: Duration) -> Duration {
    let Ok(found) = archive::found(&job.place).await else {
        return Duration::ZERO;
    };
    let newest = found.iter().find(|kept| kept.good);
    newest.map_or(Duration::ZERO, |kept| {
        rest_of(period, kept.manifest.taken_at, Timestamp::now())
    })
}

fn rest_of(period: Duration, taken_at: Timestamp, now: Timestamp) -> Duration {
    match Duration::try_from(now.duration_since(taken_at)) {
        Ok(age) => period.saturating_sub(age),
        // From the future: the clock stepped back, and how old it is nobody knows.
        Err(_) => Duration::ZERO,
    }
}

/// A time as in `90s`, `30m`, `6h`, `7d` or `1h30m`.
pub fn parse_period(text: &str) -> Result<Duration> {
    let mut seconds: u64 = 0;
    let mut number = String::new();
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                number.push(character);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => bail!("{text:?} is not a time as in 90s, 30m, 6h or 7d"),
        };
        let count: u64 = std::mem::take(&mut number).parse()?;
        let sum = count
            .checked_mul(unit)
            .and_then(|more| seconds.checked_add(more));
        match sum {
            Some(sum) => seconds = sum,
            None => bail!("{text:?} is too long"),
        }
    }
    if !number.is_empty() || seconds == 0 {
        bail!("{text:?} is not a time as in 90s, 30m, 6h or 7d");
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_or_refused() {
        let seconds = |text| parse_period(text).ok().map(|period| period.as_secs());
        for (text, expected) in [
            ("6h", Some(6 * 3600)),
            ("1h30m", Some(5400)),
            ("7d", Some(7 * 86400)),
            ("45s", Some(45)),
            ("", None),
            ("0s", None),
            ("6", None),
            ("h", None),
            ("6w", None),
            ("99999999999999999999h", None),
            ("9999999999999999d", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_restart_takes_no_backup_before_it_is_due() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let hour = Duration::from_secs(3600);
        assert_eq!(rest_of(hour, at(1000), at(1600)).as_secs(), 3000);
        assert_eq!(rest_of(hour, at(1000), at(9000)), Duration::ZERO);
        assert_eq!(rest_of(hour, at(9000), at(1000)), Duration::ZERO);
    }
}
