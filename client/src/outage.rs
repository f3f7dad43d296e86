//! How loudly a failing loop complains. A server that starts, or moves to another host, refuses for some seconds, and everything
//! that talks to it comes back by itself: that is no news. One that stays away is.
//!
//! It does not retry. Invariant: faults that time alone does not mend are told at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Longer than a server needs to start, or another to take over.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// Since when something fails.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// It worked again.
    pub(crate) fn over(&mut self) {
        self.since = None;
    }

    /// It failed; whether a person should hear of it.
    pub(crate) fn is_news(&mut self, error: &Error) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        !error.is_retryable() || since.elapsed() >= QUIET_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_short_outage_is_no_news_and_a_long_one_is() {
        let away = Error::Unavailable(Box::default());
        let mut outage = Outage::default();
        assert!(!outage.is_news(&away));
        tokio::time::advance(QUIET_FOR).await;
        assert!(outage.is_news(&away));
        outage.over();
        assert!(!outage.is_news(&away));
        assert!(outage.is_news(&Error::Forbidden(Box::default())));
    }
}
