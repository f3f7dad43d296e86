//! The Lease service.
//! Not the counting of leases; that is the leader's lessor, reached through the replica.
//! Invariant: keep-alives never enter the log.

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1::{LeaseGrant, LeaseRevoke, raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, lease_server,
};
use corten_store_core::auth::{Auth, Caller};
use corten_store_core::{Error, LeaseId, Span, Store, check};
use prost::Message as _;
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::access::{Origin, Permit};
use super::context::{Context, mismatch, refused};

/// The shortest time to live that is granted: etcd's, at its default election timeout.
const TTL_MIN: i64 = 2;
/// Renewals answered but not yet taken by the client.
const ANSWERS_MAX: usize = 16;
/// The time to live told of a lease that does not exist.
const TTL_UNKNOWN: i64 = -1;

pub(super) struct Lease(pub(super) Context);

#[tonic::async_trait]
impl lease_server::Lease for Lease {
    type LeaseKeepAliveStream = ReceiverStream<Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let (origin, request) = Origin::split(request);
        if request.ttl > check::LEASE_TTL_MAX {
            return Err(refused(Error::LeaseTtlTooLarge));
        }
        self.0.check_quota(request.encoded_len()).await?;
        // The id is chosen here, so that applying stays deterministic.
        let id = if request.id != 0 {
            request.id
        } else {
            rand::rng().random_range(1..=i64::MAX)
        };
        let grant = LeaseGrant {
            id,
            ttl_seconds: request.ttl.max(TTL_MIN),
        };
        let command = Command::LeaseGrant(grant);
        match self.0.propose_for(&origin, command).await? {
            (revision, raft_reply::Result::LeaseGrant(mut response)) => {
                response.header = self.0.header(revision);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let revoke = LeaseRevoke {
            ids: vec![request.id],
            expired: false,
        };
        let command = Command::LeaseRevoke(revoke);
        match self.0.propose_for(&origin, command).await? {
            (revision, raft_reply::Result::LeaseRevoke(mut response)) => {
                response.header = self.0.header(revision);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let (origin, requests) = Origin::split(request);
        spawn(
            "lease-keep-alive",
            TaskKind::Connection,
            keep_alive(self.0.clone(), origin, requests, answers),
        );
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let (origin, request) = Origin::split(request);
        let id = LeaseId(request.id);
        let permit = self.permit_reading(&origin, Some(id)).await?;
        let ttl = self.0.replica().lease_ttl(id).await?;
        let mut response = LeaseTimeToLiveResponse {
            id: request.id,
            ttl: TTL_UNKNOWN,
            ..Default::default()
        };
        if let Some(ttl) = ttl {
            response.ttl = ttl.remaining;
            response.granted_ttl = ttl.granted;
            if request.keys {
                self.0.read_barrier().await?;
                response.keys = self.0.blocking(move |store| store.lease_keys(id)).await?;
            }
        }
        self.0.confirm(permit)?;
        response.header = self.0.header_now();
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.0.read_barrier().await?;
        let permit = self.permit_reading(&origin, None).await?;
        let leases = self.0.blocking(|store| store.leases()).await?;
        self.0.confirm(permit)?;
        let leases = leases
            .into_iter()
            .map(|(id, _)| LeaseStatus { id: id.0 })
            .collect();
        Ok(Response::new(LeaseLeasesResponse {
            header: self.0.header_now(),
            leases,
        }))
    }
}

impl Lease {
    /// Whether who asks may read all that hangs on a lease, or on any: that a lease lives says something about its keys.
    async fn permit_reading(&self, origin: &Origin, id: Option<LeaseId>) -> Result<Permit, Status> {
        let check = |store: &Store, auth: &Auth, caller: Caller<'_>| {
            if auth.check_root(caller).is_ok() {
                return Ok(());
            }
            let ids = match id {
                Some(id) => vec![id],
                None => store.leases()?.into_iter().map(|(id, _)| id).collect(),
            };
            auth.check_known(caller)?;
            for id in ids {
                for key in store.lease_keys(id)? {
                    auth.check_read(caller, &Span::Key(key))?;
                }
            }
            Ok(())
        };
        self.0.permit(origin, check).await
    }
}

async fn keep_alive(
    context: Context,
    origin: Origin,
    mut requests: Streaming<LeaseKeepAliveRequest>,
    answers: mpsc::Sender<Result<LeaseKeepAliveResponse, Status>>,
) {
    loop {
        let request = tokio::select! {
            biased;
            () = answers.closed() => return,
            // Cancel-safe: the other arm ends the task.
            request = requests.message() => request,
        };
        let Ok(Some(request)) = request else { return };
        let answer = renew(&context, &origin, request.id).await;
        let failed = answer.is_err();
        if answers.send(answer).await.is_err() || failed {
            return;
        }
    }
}

/// One renewal. As with revoking, whoever may not write all that hangs on the lease may not keep it.
async fn renew(
    context: &Context,
    origin: &Origin,
    id: i64,
) -> Result<LeaseKeepAliveResponse, Status> {
    let check =
        |store: &Store, _: &Auth, caller: Caller<'_>| store.check_lease_write(caller, LeaseId(id));
    let _ = context.permit(origin, check).await?;
    let ttl = context.replica().lease_keep_alive(LeaseId(id)).await?;
    Ok(LeaseKeepAliveResponse {
        header: context.header_now(),
        id,
        ttl: ttl.unwrap_or(0),
    })
}
