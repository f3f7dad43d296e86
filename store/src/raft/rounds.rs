//! Requests that wait are served together: a few rounds at a time, each with everything that came before it began.
//!
//! Knows nothing of what is asked. Invariant: a request is in exactly one round, which begins after the request came.

use std::sync::Arc;

use corten_base::tasks::{TaskKind, spawn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Requests waiting to be taken into a round.
const QUEUE: usize = 16 * 1024;
/// Rounds under way at once: while one waits for an answer the next can start, so that a request waits for at most one
/// round trip and a bit; more would only send more messages.
const ROUNDS: usize = 2;

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// More wait than can be queued.
    Full,
    /// No rounds are made any more.
    Stopped,
}

/// Where requests wait; cheap to clone.
pub(crate) struct Rounds<T> {
    queue: mpsc::Sender<T>,
}

impl<T> Clone for Rounds<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<T: Send + 'static> Rounds<T> {
    /// Starts making rounds of at most `most` requests. A round may give its place up before it is over.
    pub(crate) fn start<R>(
        name: &'static str,
        most: usize,
        round: impl Fn(Vec<T>, OwnedSemaphorePermit) -> R + Send + 'static,
    ) -> Self
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let slots = Arc::new(Semaphore::new(ROUNDS));
        spawn(name, TaskKind::Critical, async move {
            while let Some(first) = waiting.recv().await {
                let Ok(place) = Arc::clone(&slots).acquire_owned().await else {
                    return;
                };
                let mut together = vec![first];
                while together.len() < most
                    && let Ok(next) = waiting.try_recv()
                {
                    together.push(next);
                }
                spawn("round", TaskKind::Background, round(together, place));
            }
        });
        Self { queue }
    }

    /// Joins those who wait.
    pub(crate) fn enter(&self, request: T) -> Result<(), NotTaken> {
        self.queue.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_goes_together_within_the_bound() {
        let (sizes, mut seen) = mpsc::channel(100);
        let rounds = Rounds::start("test", 40, move |together: Vec<u32>, place| {
            let sizes = sizes.clone();
            async move {
                // All others come while the first two rounds are under way.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                drop(place);
                sizes.send(together).await.expect("the test listens");
            }
        });
        for number in 0..100 {
            rounds.enter(number).expect("there is room");
            if number < 2 {
                tokio::task::yield_now().await;
            }
        }
        let mut all = Vec::new();
        let mut count = 0;
        while all.len() < 100 {
            let together = seen.recv().await.expect("rounds go on");
            assert!(together.len() <= 40);
            all.extend(together);
            count += 1;
        }
        assert!(count <= 6, "{count} rounds");
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
