//! The thread that consensus has for itself.
//!
//! Agreeing on a write goes through a dozen tasks of one member: on threads shared with clients they wait behind clients'
//! requests, and on idle ones each step wakes another thread. On one thread they follow each other, and a heartbeat is as
//! good as on time however many clients ask. Not for serving clients. Invariant: whatever is spawned by what runs here
//! stays here.

use std::io;

use corten_base::tasks::{TaskKind, spawn};
use tokio::runtime::{Builder, Runtime};

use super::StoreError;

/// A runtime of one thread (and others for work that blocks), which ends with this.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("consensus")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs `work` there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let running = {
            let _here = self.0.as_ref().map(Runtime::enter);
            spawn(name, TaskKind::Critical, work)
        };
        let ended = running.await;
        ended.map_err(|error| StoreError::Consensus(error.to_string()))?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting is not allowed where this is dropped, and what matters has been stopped by then.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
