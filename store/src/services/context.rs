//! What all services share: the replica, headers, and how refusals become gRPC statuses.
//! No service logic.
//! Invariant: a header's revision is the one its answer was made at, never a later one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corten_base::clock::{Clock as _, SystemClock};
use corten_proto::corten::store::v1::{RaftReply, RaftRequest, raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmType, ResponseHeader, alarm_request::AlarmAction,
};
use corten_store_core::{Error, Revision, Store};
use prost::Message as _;
use tonic::{Code, Status};

use crate::replica::{ProposeError, Replica};

/// How often the size of the store is compared with its quota. Asking the engine for each put would cost too much, and
/// in this time a store cannot grow by more than its quota has slack for.
const QUOTA_CHECK: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    replica: Arc<dyn Replica>,
    origin: Instant,
    /// Milliseconds after `origin` at which the quota is looked at again.
    quota_check_at: AtomicU64,
}

impl Context {
    pub(super) fn new(replica: Arc<dyn Replica>) -> Self {
        let origin = SystemClock.now();
        Self {
            inner: Arc::new(Inner {
                replica,
                origin,
                quota_check_at: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn replica(&self) -> &dyn Replica {
        self.inner.replica.as_ref()
    }

    pub(super) fn store(&self) -> &Store {
        self.replica().engine().store()
    }

    /// A header for an answer made at a revision.
    pub(super) fn header(&self, revision: i64) -> Option<ResponseHeader> {
        let identity = self.replica().identity();
        Some(ResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            revision,
            raft_term: self.replica().term(),
        })
    }

    /// Completes a header that so far holds only its revision.
    pub(super) fn complete(&self, header: &Option<ResponseHeader>) -> Option<ResponseHeader> {
        self.header(header.as_ref().map_or(0, |header| header.revision))
    }

    /// A header for an answer that is not about keys.
    pub(super) fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.store().revision().get())
    }

    /// Proposes a command and turns a refusal into its status.
    pub(super) async fn propose(
        &self,
        command: Command,
    ) -> Result<(i64, raft_reply::Result), Status> {
        let request = RaftRequest {
            level: 0,
            command: Some(command),
        };
        if request.encoded_len() > corten_store_core::check::REQUEST_BYTES_MAX {
            return Err(refused(Error::RequestTooLarge));
        }
        let RaftReply { revision, result } = self.replica().propose(request).await?;
        match result {
            Some(raft_reply::Result::Refusal(refusal)) => {
                Err(Status::new(Code::from_i32(refusal.code), refusal.message))
            }
            Some(result) => Ok((revision, result)),
            None => Err(mismatch()),
        }
    }

    /// Waits until a read here is linearizable.
    pub(super) async fn read_barrier(&self) -> Result<(), Status> {
        Ok(self.replica().read_barrier().await?)
    }

    /// Refuses a write while the store is beyond its quota, and raises the alarm that makes all members refuse.
    pub(super) async fn check_quota(&self) -> Result<(), Status> {
        let elapsed = SystemClock
            .now()
            .saturating_duration_since(self.inner.origin)
            .as_millis();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let due = self.inner.quota_check_at.load(Ordering::Relaxed);
        let next = now + u64::try_from(QUOTA_CHECK.as_millis()).unwrap_or(u64::MAX);
        let at = &self.inner.quota_check_at;
        if now < due
            || at
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return Ok(());
        }
        let quota = self.replica().status().quota_bytes;
        if quota == 0 || self.store().size().in_use <= quota {
            return Ok(());
        }
        let member_id = self.replica().identity().member_id;
        let (action, alarm) = (AlarmAction::Activate as i32, AlarmType::Nospace as i32);
        tracing::error!(
            quota,
            "the store is beyond its quota: raising the NOSPACE alarm"
        );
        self.propose(Command::Alarm(AlarmRequest {
            action,
            member_id,
            alarm,
        }))
        .await?;
        Err(refused(Error::NoSpace))
    }

    /// Runs a read that may take long off the async threads.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store().clone();
        let joined = tokio::task::spawn_blocking(move || read(&store)).await;
        joined
            .map_err(|error| Status::internal(format!("corten: read failed: {error}")))?
            .map_err(refused)
    }

    /// Ends with an error while no leader is known: what clients ask for with the `hasleader` metadata.
    pub(super) fn require_leader(&self) -> Result<(), Status> {
        if self.replica().status().leader == 0 {
            Err(ProposeError::NoLeader.into())
        } else {
            Ok(())
        }
    }

    /// Newest revision that watches have seen.
    pub(super) fn revision(&self) -> Revision {
        self.store().revision()
    }
}

/// The status of a refusal by the core.
pub(super) fn refused(error: Error) -> Status {
    Status::new(Code::from_i32(error.code()), error.to_string())
}

/// A reply of another kind than the command: a bug, or a log written by a version that differs.
pub(super) fn mismatch() -> Status {
    Status::internal("corten: the reply does not belong to the command")
}
