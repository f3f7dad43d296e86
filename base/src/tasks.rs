//! The only place that spawns tasks, so that each has a name and a rule for what its panic means. A critical task that
//! panics takes the process down: half a component is worse than a restart.

use std::future::Future;

use futures::FutureExt;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// What a task is to its process, and so what its panic means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// The process cannot do its job without it: a panic stops the process (exit code 70).
    Critical,
    /// Useful work whose loss is logged and survived.
    Background,
    /// Serves one peer; a panic ends that peer's connection only.
    Connection,
}

/// Spawns `future` under `name`.
pub fn spawn<F>(name: &'static str, kind: TaskKind, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = match kind {
        TaskKind::Connection => tracing::Span::none(),
        TaskKind::Critical | TaskKind::Background => tracing::info_span!("task", task = name),
    };
    let guarded = async move {
        match std::panic::AssertUnwindSafe(future).catch_unwind().await {
            Ok(output) => output,
            Err(panic) => {
                tracing::error!(task = name, ?kind, "task panicked: {}", describe(&panic));
                if kind == TaskKind::Critical {
                    std::process::exit(EXIT_SOFTWARE);
                }
                std::panic::resume_unwind(panic)
            }
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that may spawn"
    )]
    tokio::spawn(guarded.instrument(span))
}

/// `EX_SOFTWARE` of sysexits.h: an internal fault.
const EXIT_SOFTWARE: i32 = 70;

fn describe(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_background_panic_is_returned_to_the_joiner() {
        let handle = spawn("test", TaskKind::Background, async { panic!("boom") });
        let error = handle.await.expect_err("it panicked");
        assert!(error.is_panic());
    }
}
