//! Since when the log's writer has been waiting for the disk: a call that does not return is in no histogram.
//!
//! Decides nothing. Invariant: what is told is the age of the one batch that is being written now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::clock::{Clock as _, SystemClock};
use parking_lot::Mutex;

/// How slowly the usual time follows what is seen.
const INERTIA: u32 = 8;

/// Shared by the writer and those who watch it.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    usual: Duration,
}

impl UnderWay {
    pub(super) fn begin(&self) {
        self.0.lock().since = Some(SystemClock.now());
    }

    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        if let Some(since) = state.since.take() {
            let took = SystemClock.now().saturating_duration_since(since);
            state.usual = (state.usual * (INERTIA - 1) + took) / INERTIA;
        }
    }

    /// How long the batch that is being written has taken so far.
    pub(crate) fn lasts(&self) -> Duration {
        let since = self.0.lock().since;
        since.map_or(Duration::ZERO, |since| {
            SystemClock.now().saturating_duration_since(since)
        })
    }

    /// What a batch takes on this disk.
    pub(crate) fn usual(&self) -> Duration {
        self.0.lock().usual
    }
}
