//! The one edge where faults of store and cache become the Status that a client sees.
//!
//! Invariant: the client learns what to do (try again, list again, send less); the cause goes to the log.

use corten_api::status::Status;

use crate::{cache, storage};

/// After this many seconds a store without quorum is worth another try.
const RETRY_AFTER: u32 = 1;

impl From<storage::Error> for Status {
    fn from(error: storage::Error) -> Self {
        use storage::Error as E;
        match error {
            E::Unavailable { .. } => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the store is unavailable"
                );
                Self::service_unavailable(
                    "the store is unavailable: no member answers, or there is no quorum",
                )
                .retry_after(RETRY_AFTER)
            }
            E::Compacted { revision } => Self::expired(format!(
                "The resourceVersion for the provided list is too old: {revision} has been compacted"
            )),
            E::FutureRevision { revision } => too_large(revision, revision),
            E::TooLarge => Self::request_too_large("the object is larger than the store allows"),
            E::NoSpace => Self::service_unavailable(
                "the store has no space left: delete objects, or raise its quota",
            ),
            E::Undecryptable { .. }
            | E::Unencryptable { .. }
            | E::Refused { .. }
            | E::Malformed { .. } => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store's answer cannot be used"
                );
                Self::internal(&error)
            }
        }
    }
}

impl From<cache::Error> for Status {
    fn from(error: cache::Error) -> Self {
        match error {
            cache::Error::Store(error) => error.into(),
            cache::Error::Behind { observed, wanted } => too_large(wanted, observed),
            cache::Error::TooOld { wanted, floor } => {
                Self::expired(format!("too old resource version: {wanted} ({floor})"))
            }
        }
    }
}

impl From<cache::DecodeError> for Status {
    fn from(error: cache::DecodeError) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "an object cannot be taken in"
        );
        Self::internal(&error)
    }
}

/// 504 for a revision that has not been reached; clients recognise the cause and try again.
fn too_large(wanted: storage::Revision, observed: storage::Revision) -> Status {
    Status::timeout(
        &format!("Too large resource version: {wanted}, current: {observed}"),
        RETRY_AFTER,
    )
    .cause("ResourceVersionTooLarge", "", "Too large resource version")
}
