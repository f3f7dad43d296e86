//! Doubling delays between tries: 10 s to 5 min, as users of Kubernetes know them. Pure.

use std::time::Duration;

/// First delay.
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest delay.
pub const MAX: Duration = Duration::from_secs(300);
/// A calm this long forgets everything.
const FORGET: Duration = Duration::from_secs(600);

/// The delay of one container or image. The first failure costs nothing; the next 10 s, 20 s, ...
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    current: Option<(Duration, Duration)>,
}

impl Backoff {
    /// One that an earlier process had come to: the delay of the next failure, and when the last try began.
    pub fn resumed(delay: Duration, updated: Duration) -> Self {
        Self {
            current: Some((delay.min(MAX), updated)),
        }
    }

    /// What [`Backoff::resumed`] takes; None when there was no failure.
    pub fn state(&self) -> Option<(Duration, Duration)> {
        self.current
    }

    /// How long after `failed_at` the next try must wait.
    pub fn delay(&self, failed_at: Duration) -> Duration {
        match self.current {
            Some((delay, updated)) if failed_at.saturating_sub(updated) <= FORGET => delay,
            _ => Duration::ZERO,
        }
    }

    /// A try begins at `now`: the next failure waits longer.
    pub fn tried(&mut self, now: Duration) {
        let next = match self.delay(now) {
            Duration::ZERO => INITIAL,
            delay => (delay * 2).min(MAX),
        };
        self.current = Some((next, now));
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.current = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_five_minutes_and_forgets() {
        let mut backoff = Backoff::default();
        let mut now = Duration::from_secs(1);
        let mut delays = Vec::new();
        for _ in 0..8 {
            now += backoff.delay(now);
            delays.push(backoff.delay(now).as_secs());
            backoff.tried(now);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(
            backoff.delay(now + Duration::from_secs(601)),
            Duration::ZERO
        );
    }
}
