//! The raft member behind the trait that the etcd services are written against.
//!
//! Adds nothing of its own. Invariant: a reply is given only after its effect is visible here.

use std::sync::Arc;

use async_trait::async_trait;
use corten_proto::corten::store::v1::{RaftReply, RaftRequest};
use corten_proto::etcd::etcdserverpb;
use corten_store_core::LeaseId;

use super::member::Member;
use crate::replica::{Engine, Identity, LeaseTtl, MemberChange, ProposeError, Replica, Status};

/// A replica that agrees with its peers.
pub(crate) struct RaftReplica {
    member: Arc<Member>,
}

impl RaftReplica {
    pub(crate) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }
}

#[async_trait]
impl Replica for RaftReplica {
    fn identity(&self) -> Identity {
        Identity {
            cluster_id: self.member.cluster_id(),
            member_id: self.member.id().0,
        }
    }

    fn engine(&self) -> &Engine {
        self.member.engine()
    }

    async fn propose(&self, request: RaftRequest) -> Result<RaftReply, ProposeError> {
        self.member.propose(&request).await
    }

    async fn read_barrier(&self) -> Result<(), ProposeError> {
        self.member.read_barrier().await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Option<i64>, ProposeError> {
        self.member.lease_keep_alive(id).await
    }

    async fn lease_ttl(&self, id: LeaseId) -> Result<Option<LeaseTtl>, ProposeError> {
        self.member.lease_ttl(id).await
    }

    fn status(&self) -> Status {
        self.member.status()
    }

    fn quota_bytes(&self) -> u64 {
        self.member.quota_bytes()
    }

    fn disk_room(&self) -> u64 {
        self.member.disk_room()
    }

    fn is_corrupt(&self) -> bool {
        self.member.is_corrupt()
    }

    fn members(&self) -> Vec<etcdserverpb::Member> {
        self.member.members()
    }

    async fn change_members(
        &self,
        change: MemberChange,
    ) -> Result<(Option<etcdserverpb::Member>, Vec<etcdserverpb::Member>), ProposeError> {
        self.member.change_members(change).await
    }

    async fn move_leader(&self, target: u64) -> Result<(), ProposeError> {
        self.member.move_leader(target).await
    }
}
