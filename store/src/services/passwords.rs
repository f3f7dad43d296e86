//! Passwords and their hashes: bcrypt, as etcd has it.
//!
//! Knows no users. Invariant: hashing is slow on purpose, so it runs off the async threads, and only so much at once that
//! logins cannot take the machine.

use corten_store_core::Error;
use tokio::sync::Semaphore;
use tonic::Status;

use super::context::refused;

/// Hashes under way at once; more wait.
const AT_ONCE: usize = 2;

/// Makes and compares hashes.
pub(super) struct Passwords {
    cost: u32,
    turns: Semaphore,
}

impl Passwords {
    pub(super) fn new(cost: u32) -> Self {
        let turns = Semaphore::new(AT_ONCE);
        Self { cost, turns }
    }

    /// The hash to keep. bcrypt looks at 72 bytes; what is longer is refused rather than cut.
    pub(super) async fn hash(&self, password: String) -> Result<String, Status> {
        let cost = self.cost;
        let hashed = self.slow(move || bcrypt::non_truncating_hash(password, cost));
        hashed.await?.map_err(|error| match error {
            bcrypt::BcryptError::Truncation(_) => {
                Status::unknown("bcrypt: password length exceeds 72 bytes")
            }
            error => Status::internal(format!("corten: cannot hash the password: {error}")),
        })
    }

    /// Passes the password that the hash was made of.
    pub(super) async fn verify(&self, password: String, hash: String) -> Result<(), Status> {
        let same = self.slow(move || bcrypt::non_truncating_verify(password, &hash));
        match same.await? {
            Ok(true) => Ok(()),
            // A hash that cannot be read is nobody's.
            Ok(false) | Err(_) => Err(refused(Error::AuthFailed)),
        }
    }

    async fn slow<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let stopped = |_| Status::unavailable("etcdserver: server stopped");
        let _turn = self.turns.acquire().await.map_err(stopped)?;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Status::internal(format!("corten: hashing failed: {error}")))
    }
}
