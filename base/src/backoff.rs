//! Exponential back-off with full jitter, bounded above. State only; whoever waits does the waiting.

use std::time::Duration;

use rand::Rng;

/// Delays that double from `min` to `max`; each is drawn from the upper half so that herds spread out.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off from `min` to `max`. `min` must not be zero.
    pub fn new(min: Duration, max: Duration) -> Self {
        debug_assert!(!min.is_zero() && min <= max);
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// The next delay: `min * 2^failures` capped at `max`, times a random factor in [0.5, 1].
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self
            .min
            .checked_mul(1 << self.failures.min(20))
            .unwrap_or(self.max)
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many delays were handed out since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_ceiling_and_resets() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(min, max);
        for expected in [100, 200, 400, 800, 1600, 2000, 2000] {
            let ceiling = Duration::from_millis(expected);
            let delay = backoff.next_delay();
            assert!(
                delay <= ceiling && delay >= ceiling / 2,
                "{delay:?} for {ceiling:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= min);
    }
}
