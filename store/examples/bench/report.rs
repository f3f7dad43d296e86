//! Latencies and what is said of them.

use std::time::Duration;

/// The outcome of one load.
#[derive(Clone, Default)]
pub(crate) struct Outcome {
    /// Of every request that succeeded, in order of size once `sorted`.
    latencies: Vec<Duration>,
    pub(crate) failures: u64,
    pub(crate) took: Duration,
}

impl Outcome {
    pub(crate) fn new(mut latencies: Vec<Duration>, failures: u64, took: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            latencies,
            failures,
            took,
        }
    }

    /// Successes per second.
    pub(crate) fn rate(&self) -> f64 {
        count(self.latencies.len()) / self.took.as_secs_f64()
    }

    /// The latency that `per_mille` of the requests do not exceed, in milliseconds.
    pub(crate) fn millis(&self, per_mille: usize) -> f64 {
        let place = self.latencies.len() * per_mille / 1000;
        let last = self.latencies.len().saturating_sub(1);
        let at = self.latencies.get(place.min(last)).copied();
        at.unwrap_or_default().as_secs_f64() * 1e3
    }

    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }
}

/// Counts of a bench fit into 32 bits, which a float holds exactly.
pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The middle of several turns, so that a disturbed one does not count.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
