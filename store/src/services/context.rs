//! What all services share: the replica, headers, and how refusals become gRPC statuses.
//! No service logic.
//! Invariant: a header's revision is the one its answer was made at, never a later one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::clock::{Clock as _, SystemClock};
use corten_proto::corten::store::v1::{RaftReply, RaftRequest, raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmType, PutRequest, ResponseHeader, TxnRequest, alarm_request::AlarmAction,
};
use corten_store_core::{Error, Revision, Store, level};
use parking_lot::Mutex;
use prost::Message as _;
use tonic::{Code, Status};

use super::access::Options;
use super::passwords::Passwords;
use super::quota::Quota;
use crate::offload::offload;
use crate::replica::usage::{OverQuota, Reservation};
use crate::replica::{ProposeError, Replica};

#[derive(Clone)]
pub(super) struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    replica: Arc<dyn Replica>,
    quota: Quota,
    options: Options,
    passwords: Passwords,
}

impl Context {
    pub(super) fn new(replica: Arc<dyn Replica>, options: Options) -> Self {
        let inner = Inner {
            replica,
            quota: Quota::default(),
            options,
            passwords: Passwords::new(options.bcrypt_cost),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(super) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.inner.passwords
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

    /// Proposes a command on nobody's behalf and turns a refusal into its status.
    pub(super) async fn propose(
        &self,
        command: Command,
    ) -> Result<(i64, raft_reply::Result), Status> {
        self.propose_request(RaftRequest {
            command: Some(command),
            ..Default::default()
        })
        .await
    }

    /// The same with a request that says more. Sets its level.
    pub(super) async fn propose_request(
        &self,
        mut request: RaftRequest,
    ) -> Result<(i64, raft_reply::Result), Status> {
        request.level = request.command.as_ref().map_or(0, level::of);
        let level = self.store().level();
        if request.level > level {
            let needed = request.level;
            return Err(refused(Error::LevelTooLow { needed, level }));
        }
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

    /// Refuses a request that does not fit below the quota, and raises the alarm that makes all members refuse.
    pub(super) async fn check_quota(&self, cost: usize) -> Result<(), Status> {
        let limit = self.replica().quota_bytes();
        let room = || self.replica().disk_room();
        if self
            .inner
            .quota
            .admits(self.store(), limit, room, cost as u64)
        {
            return Ok(());
        }
        if !self.store().no_space() {
            tracing::error!(
                limit,
                "the store is at its quota, or the disk near its end: raising the NOSPACE alarm"
            );
            self.propose(Command::Alarm(AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id: self.replica().identity().member_id,
                alarm: AlarmType::Nospace as i32,
            }))
            .await?;
        }
        Err(refused(Error::NoSpace))
    }

    /// Refuses a put below a prefix whose quota is used up. What it gives is held until the put is applied.
    pub(super) fn admit_put(&self, put: &PutRequest) -> Result<Reservation<'_>, Status> {
        match self.replica().engine().usage() {
            Some(usage) => usage.admit_put(self.store(), put).map_err(over_quota),
            None => Ok(Reservation::default()),
        }
    }

    /// The same for a transaction.
    pub(super) fn admit_txn(&self, txn: &TxnRequest) -> Result<Reservation<'_>, Status> {
        match self.replica().engine().usage() {
            Some(usage) => usage
                .admit(self.store(), &txn.success, &txn.failure)
                .map_err(over_quota),
            None => Ok(Reservation::default()),
        }
    }

    /// Runs a read that may take long off the async threads.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store().clone();
        let joined = offload(move || read(&store)).await;
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

/// The code is that of a full store, which clients take for what it is: trying again at once does not help.
fn over_quota(error: OverQuota) -> Status {
    Status::resource_exhausted(error.to_string())
}

/// Between two lines about tables that cannot be read: every read of a client may meet them.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Tells an operator what only the client would hear otherwise.
fn tell(error: &Error) {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let now = SystemClock.now();
    let mut told = TOLD.lock();
    if told.is_none_or(|at| now.saturating_duration_since(at) >= TELL_EVERY) {
        *told = Some(now);
        tracing::error!(%error, "cannot answer a client");
    }
}

/// The status of a refusal by the core.
pub(super) fn refused(error: Error) -> Status {
    if matches!(error, Error::Backend(_)) {
        tell(&error);
    }
    Status::new(Code::from_i32(error.code()), error.to_string())
}

/// A reply of another kind than the command: a bug, or a log written by a version that differs.
pub(super) fn mismatch() -> Status {
    Status::internal("corten: the reply does not belong to the command")
}
