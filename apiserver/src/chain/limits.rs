//! How many requests are worked on at once where priority and fairness is switched off: reads and writes apart, so that
//! neither starves the other.
//!
//! Long-running requests are not counted, nor are the administrators' and health checks, which must work when everything
//! else is stuck. Invariant: memory for waiting requests is bounded; whoever does not fit is told when to come back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_api::status::Status;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::metrics::Metrics;

/// How many requests are worked on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Requests that only read; 0: no limit.
    pub reads: usize,
    /// Requests that change something; 0: no limit.
    pub writes: usize,
}

impl Default for InFlight {
    /// Upstream's numbers.
    fn default() -> Self {
        Self {
            reads: 400,
            writes: 200,
        }
    }
}

/// A short burst waits, a long overload is told so.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Waiting requests for each one that is worked on.
const WAITING_PER_SLOT: usize = 4;
const RETRY_AFTER_SECONDS: u32 = 1;

/// Two pools.
pub(super) struct Limits {
    reads: Pool,
    writes: Pool,
    metrics: Metrics,
}

struct Pool {
    name: &'static str,
    slots: Semaphore,
    waiting: AtomicUsize,
    waiting_max: usize,
    inflight: Gauge,
}

/// Held while the request is worked on.
pub(super) struct Slot<'a> {
    inflight: &'a Gauge,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.inflight.dec();
    }
}

impl Limits {
    pub(super) fn new(sizes: InFlight, metrics: &Metrics) -> Self {
        let pool = |name, slots: usize| {
            let slots = match slots {
                0 => Semaphore::MAX_PERMITS,
                slots => slots.min(Semaphore::MAX_PERMITS),
            };
            Pool {
                name,
                slots: Semaphore::new(slots),
                waiting: AtomicUsize::new(0),
                waiting_max: slots.saturating_mul(WAITING_PER_SLOT),
                inflight: metrics.inflight(name),
            }
        };
        Self {
            reads: pool("readOnly", sizes.reads),
            writes: pool("mutating", sizes.writes),
            metrics: metrics.clone(),
        }
    }

    /// Waits for a slot, or refuses.
    pub(super) async fn enter(&self, read_only: bool) -> Result<Slot<'_>, Status> {
        let pool = if read_only { &self.reads } else { &self.writes };
        let permit = match pool.slots.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => pool.wait().await,
        };
        let Some(permit) = permit else {
            self.metrics.rejected(pool.name);
            let message =
                "the server is currently handling too many requests, please try again later";
            return Err(Status::too_many_requests(message, RETRY_AFTER_SECONDS));
        };
        pool.inflight.inc();
        Ok(Slot {
            inflight: &pool.inflight,
            _permit: permit,
        })
    }
}

impl Pool {
    async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        /// Counts down even when the client goes away in between.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            return None;
        }
        tokio::time::timeout(WAIT_MAX, self.slots.acquire())
            .await
            .ok()?
            .ok()
    }
}
