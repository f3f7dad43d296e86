//! How many seats a level has wanted, over time.

use std::time::Duration;

/// How slowly a wish is forgotten that has passed: half of it in five minutes, at one look in ten seconds.
const MEMORY: f64 = 0.977;

/// The seats that a level wants at a time, summed up since the last look.
#[derive(Debug)]
pub(super) struct Demand {
    wanted: u32,
    since: Duration,
    seconds: f64,
    sum: f64,
    sum_of_squares: f64,
    highest: u32,
    smoothed: f64,
}

/// What a level has wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wish {
    /// The most at any time since the last look.
    pub(super) highest: u32,
    /// What it usually wants: up at once, down slowly.
    pub(super) usual: f64,
}

impl Demand {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            wanted: 0,
            since: now,
            seconds: 0.0,
            sum: 0.0,
            sum_of_squares: 0.0,
            highest: 0,
            smoothed: 0.0,
        }
    }

    /// From now on it wants so many.
    pub(super) fn set(&mut self, wanted: u32, now: Duration) {
        self.advance(now);
        self.wanted = wanted;
        self.highest = self.highest.max(wanted);
    }

    /// Looks, and begins anew.
    pub(super) fn take(&mut self, now: Duration) -> Wish {
        self.advance(now);
        if self.seconds > 0.0 {
            let average = self.sum / self.seconds;
            // Rounding may push what is nearly constant below zero.
            let variance = (self.sum_of_squares / self.seconds - average * average).max(0.0);
            let envelope = average + variance.sqrt();
            let remembered = MEMORY * self.smoothed + (1.0 - MEMORY) * envelope;
            self.smoothed = envelope.max(remembered);
        }
        let wish = Wish {
            highest: self.highest,
            usual: self.smoothed,
        };
        *self = Self {
            wanted: self.wanted,
            smoothed: self.smoothed,
            highest: self.wanted,
            ..Self::new(self.since)
        };
        wish
    }

    fn advance(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.since).as_secs_f64();
        let wanted = f64::from(self.wanted);
        self.seconds += seconds;
        self.sum += wanted * seconds;
        self.sum_of_squares += wanted * wanted * seconds;
        self.since = self.since.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_rise_at_once_and_fall_slowly() {
        let at = Duration::from_secs;
        let mut demand = Demand::new(at(0));
        demand.set(10, at(0));
        demand.set(30, at(5));
        let wish = demand.take(at(10));
        assert_eq!(wish.highest, 30);
        assert!((wish.usual - 30.0).abs() < 1e-9, "20 and a deviation of 10");
        demand.set(0, at(10));
        let wish = demand.take(at(20));
        assert_eq!(wish.highest, 30, "it still wanted them when the time began");
        assert!((wish.usual - 30.0 * MEMORY).abs() < 1e-9);
        let wish = demand.take(at(30));
        assert_eq!(wish.highest, 0);
    }
}
