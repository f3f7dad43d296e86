//! The Maintenance service: status, hashes, alarms, backups.
//! Not here: giving back space, which goes on by itself; `Defragment` only hurries it.
//! Invariant: a backup comes from one point in time and never holds up writes.

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1::{raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest,
    StatusResponse, alarm_request::AlarmAction, maintenance_server,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::access::Origin;
use super::context::{Context, mismatch, refused};
use crate::replica::backup;

/// The etcd whose API this is: clients choose features by it. Upstream's API server asks for at least 3.4.31 / 3.5.13
/// before it uses progress requests.
pub(crate) const ETCD_VERSION: &str = "3.6.5";
/// The storage schema that goes with it.
pub(crate) const STORAGE_VERSION: &str = "3.6.0";
/// Pieces of a backup read ahead of the client.
const PIECES_MAX: usize = 4;

pub(super) struct Maintenance(pub(super) Context);

#[tonic::async_trait]
impl maintenance_server::Maintenance for Maintenance {
    type SnapshotStream = ReceiverStream<Result<SnapshotResponse, Status>>;

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let (origin, request) = Origin::split(request);
        if request.action() == AlarmAction::Get {
            self.0.permit_known(&origin).await?;
            let alarms = self.0.store().alarms().map_err(refused)?;
            return Ok(Response::new(AlarmResponse {
                header: self.0.header_now(),
                alarms,
            }));
        }
        self.0.permit_root(&origin).await?;
        match self.0.propose(Command::Alarm(request)).await? {
            (revision, raft_reply::Result::Alarm(mut response)) => {
                response.header = self.0.header(revision);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.0.permit_known(&origin).await?;
        let status = self.0.replica().status();
        let size = self.0.store().size();
        let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let mut errors = status.errors;
        for alarm in self.0.store().alarms().map_err(refused)? {
            errors.push(format!(
                "memberID:{} alarm:{}",
                alarm.member_id,
                alarm.alarm().as_str_name()
            ));
        }
        Ok(Response::new(StatusResponse {
            header: self.0.header_now(),
            version: ETCD_VERSION.to_owned(),
            db_size: bytes(size.allocated),
            leader: status.leader,
            raft_index: status.committed_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors,
            db_size_in_use: bytes(size.in_use),
            is_learner: status.is_learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: bytes(status.quota_bytes),
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        self.0
            .blocking(|store| Ok(store.backend().reclaim()?))
            .await?;
        Ok(Response::new(DefragmentResponse {
            header: self.0.header_now(),
        }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        let hash = self.0.blocking(|store| store.hash()).await?;
        Ok(Response::new(HashResponse {
            header: self.0.header_now(),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        let revision = request.revision;
        let hash = self
            .0
            .blocking(move |store| store.hash_kv(revision))
            .await?;
        Ok(Response::new(HashKvResponse {
            header: self.0.header_now(),
            hash: hash.hash,
            compact_revision: hash.compacted.get(),
            hash_revision: hash.revision.get(),
        }))
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let (origin, _) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let context = self.0.clone();
        let writing = tokio::task::spawn_blocking(move || stream_backup(&context, &pieces));
        spawn("backup", TaskKind::Background, async move {
            if let Err(error) = writing.await {
                tracing::error!(%error, "backup ended early");
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        self.0.replica().move_leader(request.target_id).await?;
        Ok(Response::new(MoveLeaderResponse {
            header: self.0.header_now(),
        }))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let (origin, _) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        Err(Status::unimplemented(
            "corten: Downgrade is of etcd's storage versions; this store has its own",
        ))
    }
}

fn stream_backup(context: &Context, pieces: &mpsc::Sender<Result<SnapshotResponse, Status>>) {
    // The length is known only at the end; clients use what remains for a progress bar alone.
    let mut remaining = context.store().size().in_use;
    let written = backup::write(context.store().backend(), |blob| {
        remaining = remaining.saturating_sub(blob.len() as u64);
        let response = SnapshotResponse {
            header: context.header_now(),
            remaining_bytes: remaining,
            blob,
            version: STORAGE_VERSION.to_owned(),
        };
        pieces.blocking_send(Ok(response)).is_ok()
    });
    if let Err(error) = written {
        tracing::error!(%error, "cannot read the state for a backup");
        // The client may be gone as well.
        let _ = pieces.blocking_send(Err(refused(error.into())));
    }
}
