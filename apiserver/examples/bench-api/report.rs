//! Latencies and what is said of them.

use std::time::Duration;

/// What one task of a load saw.
#[derive(Default)]
pub(crate) struct Tally {
    /// Of each request that succeeded. Four bytes each, as there are millions of events.
    pub(crate) micros: Vec<u32>,
    pub(crate) failures: u64,
    /// What the first failure was: one is enough to find the cause.
    pub(crate) first: Option<String>,
}

impl Tally {
    pub(crate) fn note<T>(&mut self, took: Duration, result: &anyhow::Result<T>) {
        match result {
            Ok(_) => self.micros.push(micros(took)),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    pub(crate) fn fail(&mut self, why: String) {
        self.failures += 1;
        self.first.get_or_insert(why);
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.micros.extend(other.micros);
        self.failures += other.failures;
        self.first = self.first.take().or(other.first);
    }

    pub(crate) fn done(mut self, took: Duration) -> Outcome {
        self.micros.sort_unstable();
        Outcome { tally: self, took }
    }
}

/// The outcome of one load, its latencies in order of size.
pub(crate) struct Outcome {
    tally: Tally,
    took: Duration,
}

impl Outcome {
    /// Successes per second.
    pub(crate) fn rate(&self) -> f64 {
        count(self.requests()) / self.took.as_secs_f64()
    }

    /// The latency that `per_mille` of the requests do not exceed, in milliseconds.
    pub(crate) fn millis(&self, per_mille: usize) -> f64 {
        let sorted = &self.tally.micros;
        let place = sorted.len() * per_mille / 1000;
        let at = sorted.get(place.min(sorted.len().saturating_sub(1)));
        at.copied().map_or(0.0, f64::from) / 1e3
    }

    pub(crate) fn requests(&self) -> usize {
        self.tally.micros.len()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.tally.failures
    }

    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.tally.first.as_deref()
    }
}

pub(crate) fn micros(took: Duration) -> u32 {
    u32::try_from(took.as_micros()).unwrap_or(u32::MAX)
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

#[expect(clippy::print_stdout, reason = "the result of the command")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
