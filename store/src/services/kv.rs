//! The KV service: reads at this member, writes through the log.
//! Not the semantics of either; those are the core's.
//! Invariant: a read that is not marked serializable passes the read barrier first.

use corten_proto::corten::store::v1::{raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_server, request_op,
};
use corten_store_core::{Revision, Span, check};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::access::Origin;
use super::context::{Context, mismatch, refused};

pub(super) struct Kv(pub(super) Context);

#[tonic::async_trait]
impl kv_server::Kv for Kv {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let (origin, request) = Origin::split(request);
        check::range(&request).map_err(refused)?;
        if !request.serializable {
            self.0.read_barrier().await?;
        }
        let permit = self
            .0
            .permit(&origin, |_, auth, caller| {
                auth.check_read(caller, &Span::new(&request.key, &request.range_end))
            })
            .await?;
        // A limit does not shorten the walk, because the whole range is counted; only a single key is surely short.
        let mut response = if request.range_end.is_empty() {
            self.0.store().range(&request).map_err(refused)?
        } else {
            self.0.blocking(move |store| store.range(&request)).await?
        };
        self.0.confirm(permit)?;
        response.header = self.0.complete(&response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (origin, request) = Origin::split(request);
        check::put(&request).map_err(refused)?;
        self.0.check_quota(request.encoded_len()).await?;
        let _held = self.0.admit_put(&request)?;
        match self.0.propose_for(&origin, Command::Put(request)).await? {
            (revision, raft_reply::Result::Put(mut response)) => {
                response.header = self.0.header(revision);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let (origin, request) = Origin::split(request);
        check::delete_range(&request).map_err(refused)?;
        let command = Command::DeleteRange(request);
        match self.0.propose_for(&origin, command).await? {
            (revision, raft_reply::Result::DeleteRange(mut response)) => {
                response.header = self.0.header(revision);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (origin, request) = Origin::split(request);
        check::txn(&request).map_err(refused)?;
        if check::is_read_only(&request) {
            return self.read_txn(&origin, request).await;
        }
        if check::may_put(&request) {
            self.0.check_quota(request.encoded_len()).await?;
        }
        let _held = self.0.admit_txn(&request)?;
        match self.0.propose_for(&origin, Command::Txn(request)).await? {
            (revision, raft_reply::Result::Txn(mut response)) => {
                response.header = self.0.header(revision);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        match self.0.propose(Command::Compact(request)).await? {
            (revision, raft_reply::Result::Compact(mut response)) => {
                if request.physical {
                    self.0
                        .replica()
                        .engine()
                        .compacted_on_disk(Revision::new(request.revision))
                        .await;
                }
                response.header = self.0.header(revision);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }
}

impl Kv {
    async fn read_txn(
        &self,
        origin: &Origin,
        request: TxnRequest,
    ) -> Result<Response<TxnResponse>, Status> {
        if !is_serializable(&request) {
            self.0.read_barrier().await?;
        }
        let permit = self
            .0
            .permit(origin, |store, _, caller| store.check_txn(caller, &request))
            .await?;
        let mut response = self
            .0
            .blocking(move |store| store.read_txn(&request))
            .await?;
        self.0.confirm(permit)?;
        response.header = self.0.complete(&response.header);
        Ok(Response::new(response))
    }
}

/// As etcd has it: all ranges of the transaction must be serializable, on both branches.
fn is_serializable(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match &op.request {
            Some(request_op::Request::RequestRange(range)) => range.serializable,
            Some(request_op::Request::RequestTxn(nested)) => is_serializable(nested),
            _ => false,
        })
}
