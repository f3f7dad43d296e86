//! Counts how often values of each magnitude were seen: what openraft asks of the crate `base2histogram`, and no more.
//!
//! openraft counts the sizes of its batches with that crate, which makes tables for sixteen precisions when the first counter is
//! made, 25 MiB that stay in memory, and uses those of one, two KiB. That was half of what an idle member of the store had in memory
//! that is its own. Nothing of Corten shows these counts; this keeps openraft as it is and leaves out the tables. It goes when
//! they go upstream (docs/decisions/0009). Not for Corten's own metrics, which are Prometheus'. Invariant: a bucket's values
//! differ by at most a quarter.

use std::fmt;
use std::marker::PhantomData;

/// Values of each power of two fall into four buckets.
const PER_GROUP: u64 = 4;
/// Bits that tell the bucket within its power of two.
const GROUP_BITS: u32 = 2;
/// Below this each value has a bucket of its own; then one group for each further bit.
const BUCKETS: usize = ((u64::BITS - GROUP_BITS + 1) as usize) * 4;

/// How often values were seen. `T` is of no use here; the crate that this replaces has it.
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    _unused: PhantomData<fn() -> T>,
}

impl<T> Histogram<T> {
    /// One that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            _unused: PhantomData,
        }
    }

    /// A value was seen.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// A value was seen so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count = count.saturating_add(times);
        }
    }

    /// How many values, and below which so many of them are: the least value of the bucket.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples(),
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }

    fn samples(&self) -> u64 {
        let sum = self
            .counts
            .iter()
            .fold(0, |sum: u128, count| sum + u128::from(*count));
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// The value that so many of a thousand are not above.
    fn permille(&self, part: u64) -> u64 {
        let wanted = (u128::from(self.samples()) * u128::from(part))
            .div_ceil(1000)
            .max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= wanted
        });
        at.map_or(0, least)
    }
}

/// Where a value is counted.
fn bucket(value: u64) -> usize {
    if value < PER_GROUP {
        return usize::try_from(value).unwrap_or(0);
    }
    let shift = value.ilog2() - GROUP_BITS;
    let within = (value >> shift) % PER_GROUP;
    let index = PER_GROUP * u64::from(shift + 1) + within;
    usize::try_from(index).unwrap_or(BUCKETS)
}

/// The least value of a bucket.
fn least(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match (bucket / PER_GROUP).checked_sub(1) {
        None => bucket,
        Some(shift) => (PER_GROUP + bucket % PER_GROUP) << shift,
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Histogram<T> {
    fn clone(&self) -> Self {
        Self {
            counts: self.counts.clone(),
            _unused: PhantomData,
        }
    }
}

impl<T> PartialEq for Histogram<T> {
    fn eq(&self, other: &Self) -> bool {
        self.counts == other.counts
    }
}

impl<T> Eq for Histogram<T> {}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.percentile_stats(), f)
    }
}

/// Values that so many of a thousand are not above; zero where nothing was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Several histograms, a line each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// One without lines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The chart itself: it has no other form.
    #[must_use]
    pub fn detailed(&self) -> &Self {
        self
    }

    /// The same with one more line.
    #[must_use]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.0.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, stats) in &self.0 {
            writeln!(f, "{name}: {stats}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_whose_values_are_alike() {
        let edges = (0..64).flat_map(|bit| {
            let edge = 1_u64 << bit;
            [edge - 1, edge, edge + edge / 3, edge + edge / 2]
        });
        for value in edges.chain([u64::MAX, u64::MAX - 1, 5, 6, 7]) {
            let least = least(bucket(value));
            assert!(bucket(value) < BUCKETS, "{value}");
            assert!(
                least <= value && value - least <= least / 4,
                "{value}: {least}"
            );
        }
        let order: Vec<u64> = (0..BUCKETS).map(least).collect();
        assert!(order.is_sorted());
        assert!((0..BUCKETS).all(|at| bucket(least(at)) == at));
    }

    #[test]
    fn parts_of_what_was_seen() {
        let mut seen = Histogram::<()>::new();
        assert_eq!(seen.percentile_stats().p50, 0);
        seen.record_n(1, 90);
        seen.record_n(8, 9);
        seen.record(1024);
        let stats = seen.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p90), (100, 1, 1));
        assert_eq!((stats.p99, stats.p99_9), (8, 1024));
        let chart = AsciiChart::new().add("one", seen);
        assert!(chart.to_string().starts_with("one: "));
    }
}
