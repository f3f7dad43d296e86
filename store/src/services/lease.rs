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
use corten_store_core::{Error, LeaseId, check};
use prost::Message as _;
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

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
        let request = request.into_inner();
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
        match self.0.propose(Command::LeaseGrant(grant)).await? {
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
        let revoke = LeaseRevoke {
            ids: vec![request.into_inner().id],
            expired: false,
        };
        match self.0.propose(Command::LeaseRevoke(revoke)).await? {
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
        spawn(
            "lease-keep-alive",
            TaskKind::Connection,
            keep_alive(self.0.clone(), request.into_inner(), answers),
        );
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let id = LeaseId(request.id);
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
        response.header = self.0.header_now();
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.0.read_barrier().await?;
        let leases = self.0.blocking(|store| store.leases()).await?;
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

async fn keep_alive(
    context: Context,
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
        let answer = match context
            .replica()
            .lease_keep_alive(LeaseId(request.id))
            .await
        {
            Ok(ttl) => Ok(LeaseKeepAliveResponse {
                header: context.header_now(),
                id: request.id,
                ttl: ttl.unwrap_or(0),
            }),
            Err(error) => Err(error.into()),
        };
        let failed = answer.is_err();
        if answers.send(answer).await.is_err() || failed {
            return;
        }
    }
}
