//! The Cluster service: the members and their changes.
//! Not how a change is agreed on.
//! Invariant: the answer to a change lists the members after it.

use corten_proto::etcd::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, cluster_server,
};
use tonic::{Request, Response, Status};

use super::access::Origin;
use super::context::{Context, mismatch};
use crate::replica::MemberChange;

pub(super) struct Cluster(pub(super) Context);

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        let change = MemberChange::Add {
            peer_urls: request.peer_ur_ls,
            learner: request.is_learner,
        };
        let (member, members) = self.0.replica().change_members(change).await?;
        let member = Some(member.ok_or_else(mismatch)?);
        Ok(Response::new(MemberAddResponse {
            header: self.0.header_now(),
            member,
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        let change = MemberChange::Remove(request.id);
        let (_, members) = self.0.replica().change_members(change).await?;
        Ok(Response::new(MemberRemoveResponse {
            header: self.0.header_now(),
            members,
        }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        let change = MemberChange::Update {
            id: request.id,
            peer_urls: request.peer_ur_ls,
        };
        let (_, members) = self.0.replica().change_members(change).await?;
        Ok(Response::new(MemberUpdateResponse {
            header: self.0.header_now(),
            members,
        }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let (origin, request) = Origin::split(request);
        if request.linearizable {
            self.0.read_barrier().await?;
        }
        self.0.permit_known(&origin).await?;
        let members = self.0.replica().members();
        Ok(Response::new(MemberListResponse {
            header: self.0.header_now(),
            members,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let (origin, request) = Origin::split(request);
        self.0.permit_root(&origin).await?;
        let change = MemberChange::Promote(request.id);
        let (_, members) = self.0.replica().change_members(change).await?;
        Ok(Response::new(MemberPromoteResponse {
            header: self.0.header_now(),
            members,
        }))
    }
}
