//! Linearizable reads without the log: ReadIndex, one confirmation round shared by all readers that wait for it.
//!
//! Does not read anything. Invariant: a reader is let through only by a round that began after the reader arrived, and
//! only when this member has applied what the round named.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::applied::AppliedIndex;
use super::rounds::{NotTaken, Rounds};

/// Why a read cannot be linearizable now.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReadError {
    /// No leader is known, or it lost its quorum.
    #[error("no leader")]
    NoLeader,
    /// The round or the catching up took too long.
    #[error("timed out")]
    Timeout,
    /// More readers wait than can be queued.
    #[error("too many requests")]
    Busy,
    /// The member is stopping.
    #[error("stopped")]
    Stopped,
}

/// Asks for the index that a read must see.
pub(crate) trait ReadIndex: Send + Sync + 'static {
    /// Confirms the leadership with a quorum, here or at the leader, and returns the leader's commit index.
    fn read_index(&self) -> impl Future<Output = Result<u64, ReadError>> + Send;
}

/// Gate for readers; cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadGate {
    rounds: Rounds<Reader>,
}

type Reader = oneshot::Sender<Result<(), ReadError>>;

impl ReadGate {
    /// Starts the gate. `applied` is the index this member has applied.
    pub(crate) fn start(source: impl ReadIndex, applied: AppliedIndex, timeout: Duration) -> Self {
        let source = Arc::new(source);
        let round = move |readers: Vec<Reader>, place| {
            let (source, applied) = (Arc::clone(&source), applied.clone());
            async move {
                let result = tokio::time::timeout(timeout, async {
                    let index = source.read_index().await?;
                    // The next round need not wait for this member to catch up.
                    drop(place);
                    let reached = applied.reached(index).await;
                    reached.map_err(|_| ReadError::Stopped)
                });
                let result = result.await.unwrap_or(Err(ReadError::Timeout));
                for reader in readers {
                    // A reader that gave up does not mind.
                    let _ = reader.send(result.clone());
                }
            }
        };
        Self {
            rounds: Rounds::start("read-gate", usize::MAX, round),
        }
    }

    /// Returns when a read of local state is linearizable.
    pub(crate) async fn pass(&self) -> Result<(), ReadError> {
        let (answer, answered) = oneshot::channel();
        self.rounds.enter(answer).map_err(|error| match error {
            NotTaken::Full => ReadError::Busy,
            NotTaken::Stopped => ReadError::Stopped,
        })?;
        answered.await.unwrap_or(Err(ReadError::Stopped))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use corten_base::tasks::{TaskKind, spawn};
    use tokio::sync::Semaphore;

    use super::*;

    struct Source {
        rounds: Arc<AtomicU64>,
        release: Arc<Semaphore>,
    }

    impl ReadIndex for Source {
        async fn read_index(&self) -> Result<u64, ReadError> {
            let round = self.rounds.fetch_add(1, Ordering::SeqCst);
            self.release.acquire().await.expect("open").forget();
            Ok(round)
        }
    }

    #[tokio::test]
    async fn waiting_readers_share_a_round_that_began_after_them() {
        let rounds = Arc::new(AtomicU64::new(0));
        let release = Arc::new(Semaphore::new(0));
        let seen = AppliedIndex::default();
        seen.advance(u64::MAX - 1);
        let source = Source {
            rounds: Arc::clone(&rounds),
            release: Arc::clone(&release),
        };
        let gate = ReadGate::start(source, seen, Duration::from_secs(60));
        let mut readers = Vec::new();
        for _ in 0..100 {
            let gate = gate.clone();
            readers.push(spawn("reader", TaskKind::Background, async move {
                gate.pass().await
            }));
        }
        release.add_permits(100);
        for reader in readers {
            reader.await.expect("joined").expect("passed");
        }
        assert!(rounds.load(Ordering::SeqCst) <= 100);
        let before = rounds.load(Ordering::SeqCst);
        gate.pass().await.expect("passed");
        assert_eq!(
            rounds.load(Ordering::SeqCst),
            before + 1,
            "a late reader gets a round of its own"
        );
    }

    #[tokio::test]
    async fn a_reader_waits_until_the_index_is_applied() {
        let applied = AppliedIndex::default();
        applied.advance(6);
        struct Seven;
        impl ReadIndex for Seven {
            async fn read_index(&self) -> Result<u64, ReadError> {
                Ok(7)
            }
        }
        let gate = ReadGate::start(Seven, applied.clone(), Duration::from_secs(60));
        let reader = spawn(
            "reader",
            TaskKind::Background,
            async move { gate.pass().await },
        );
        tokio::task::yield_now().await;
        assert!(!reader.is_finished());
        applied.advance(7);
        reader.await.expect("joined").expect("passed");
    }
}
