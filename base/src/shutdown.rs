//! One way to stop: a token that signals, admin calls and tests all pull. Components stop accepting, drain with a deadline,
//! then cut; nothing here kills by itself.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A cheap handle; all clones of one shutdown fire together, children fire with their parent.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A new, untriggered shutdown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds this token to stop. Idempotent.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether stopping has been asked for.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when stopping has been asked for. Cancel-safe.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// A token that fires with this one, but can also be fired alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Triggers on SIGTERM or SIGINT. Call it once, from `main`, inside the runtime.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        crate::tasks::spawn("signals", crate::tasks::TaskKind::Background, async move {
            tokio::select! {
                biased;
                _ = term.recv() => tracing::info!("SIGTERM received, stopping"),
                _ = int.recv() => tracing::info!("SIGINT received, stopping"),
            }
            shutdown.trigger();
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn child_fires_with_parent_but_not_the_other_way() {
        let parent = Shutdown::new();
        let child = parent.child();
        let other = parent.child();
        other.trigger();
        assert!(other.is_triggered() && !parent.is_triggered() && !child.is_triggered());
        parent.trigger();
        child.wait().await;
        assert!(child.is_triggered());
    }
}
