//! The time seam: cores get `now` as an argument, shells read it here, tests and simulation replace it.

use std::time::Instant;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time, for durations and deadlines.
    fn now(&self) -> Instant;
    /// Wall time, for what people and the API read; never for deciding how long something took.
    fn wall(&self) -> jiff::Timestamp;
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}
