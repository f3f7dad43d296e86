//! Work that blocks, kept off the threads that run tasks.
//!
//! Not for work that waits for other tasks: on a runtime with one thread that would wait for itself. Invariant: the caller
//! goes on when the work is done, whoever did it.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Runs `work` on the runtime's threads for that; or here, on a runtime that was given one thread alone.
pub(crate) async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await,
    }
}
