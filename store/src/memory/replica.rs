//! The replica of a store in memory: applies at once what is proposed.
//! No peers, no log.
//! Invariant: proposals are applied one at a time, in the order of the lock.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1::{
    ClusterLevel, LeaseRevoke, RaftReply, RaftRequest, raft_request::Command,
};
use corten_proto::etcd::etcdserverpb::Member;
use corten_store_core::lessor::KeepAlive;
use corten_store_core::memory::MemoryBackend;
use corten_store_core::{LeaseId, Position, Store, StoreOptions, Writer, level};
use parking_lot::Mutex;

use crate::replica::{Engine, Identity, LeaseTtl, MemberChange, ProposeError, Replica, Status};

const CLUSTER_ID: u64 = 0xc0_07e4;
const MEMBER_ID: u64 = 1;
const TERM: u64 = 1;
/// How late an expired lease may be noticed.
const EXPIRY_TICK: Duration = Duration::from_millis(200);
/// There is no other leader to leave anything to.
const NO_CHECKPOINTS: Duration = Duration::MAX;

pub(super) struct MemoryReplica {
    engine: Engine,
    writer: Mutex<Writer>,
    upkeep: Shutdown,
}

impl MemoryReplica {
    pub(super) fn start() -> Arc<Self> {
        // The backend is as quick as the cache would be.
        let options = StoreOptions {
            head_cache_bytes: 1,
        };
        let (store, writer) = Store::open_with(Arc::new(MemoryBackend::new()), options)
            .expect("a backend in memory does not fail");
        let engine = Engine::new(store, NO_CHECKPOINTS).expect("a backend in memory does not fail");
        engine.promote(Duration::ZERO);
        let replica = Arc::new(Self {
            engine,
            writer: Mutex::new(writer),
            upkeep: Shutdown::new(),
        });
        // There is nobody to wait for.
        let command = Some(Command::ClusterLevel(ClusterLevel {
            level: level::KNOWN,
        }));
        let request = RaftRequest {
            command,
            ..Default::default()
        };
        replica
            .apply(&request)
            .expect("a backend in memory does not fail");
        let (engine, upkeep) = (replica.engine.clone(), replica.upkeep.clone());
        spawn(
            "memory-maintain",
            TaskKind::Background,
            engine.maintain(upkeep.clone()),
        );
        spawn(
            "memory-lessor",
            TaskKind::Background,
            expire(Arc::downgrade(&replica), upkeep),
        );
        replica
    }

    fn apply(&self, request: &RaftRequest) -> Result<RaftReply, ProposeError> {
        let storage = |error: corten_store_core::backend::BackendError| {
            ProposeError::Storage(error.to_string())
        };
        let mut writer = self.writer.lock();
        let index = writer.applied().map_or(1, |applied| applied.index + 1);
        let mut round = writer.begin();
        let reply = round
            .apply(Position { term: TERM, index }, request)
            .map_err(storage)?;
        let changes = round.commit().map_err(storage)?;
        // Under the lock, so that rounds are published in order.
        self.engine.publish(changes);
        Ok(reply)
    }
}

impl Drop for MemoryReplica {
    fn drop(&mut self) {
        self.upkeep.trigger();
    }
}

async fn expire(replica: Weak<MemoryReplica>, upkeep: Shutdown) {
    let mut tick = tokio::time::interval(EXPIRY_TICK);
    loop {
        tokio::select! {
            biased;
            () = upkeep.wait() => return,
            _ = tick.tick() => {}
        }
        let Some(replica) = replica.upgrade() else {
            return;
        };
        let ids: Vec<_> = replica
            .engine
            .expired()
            .into_iter()
            .map(|id| id.0)
            .collect();
        if ids.is_empty() {
            continue;
        }
        let command = Some(Command::LeaseRevoke(LeaseRevoke { ids, expired: true }));
        let request = RaftRequest {
            command,
            ..Default::default()
        };
        if let Err(error) = replica.apply(&request) {
            tracing::error!(%error, "cannot revoke expired leases");
        }
    }
}

#[async_trait]
impl Replica for MemoryReplica {
    fn identity(&self) -> Identity {
        Identity {
            cluster_id: CLUSTER_ID,
            member_id: MEMBER_ID,
        }
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    async fn propose(&self, request: RaftRequest) -> Result<RaftReply, ProposeError> {
        self.apply(&request)
    }

    async fn read_barrier(&self) -> Result<(), ProposeError> {
        Ok(())
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Option<i64>, ProposeError> {
        match self.engine.keep_alive(id) {
            KeepAlive::Renewed(ttl) => Ok(Some(ttl)),
            KeepAlive::Unknown => Ok(None),
            KeepAlive::Checkpointed => Err(ProposeError::Unsupported(
                "a store in memory has no checkpoints",
            )),
        }
    }

    async fn lease_ttl(&self, id: LeaseId) -> Result<Option<LeaseTtl>, ProposeError> {
        Ok(self.engine.lease_ttl(id))
    }

    fn status(&self) -> Status {
        let applied = self
            .writer
            .lock()
            .applied()
            .map_or(0, |applied| applied.index);
        Status {
            leader: MEMBER_ID,
            term: TERM,
            committed_index: applied,
            applied_index: applied,
            purged_index: 0,
            ..Default::default()
        }
    }

    fn term(&self) -> u64 {
        TERM
    }

    fn members(&self) -> Vec<Member> {
        vec![Member {
            id: MEMBER_ID,
            name: "memory".to_owned(),
            ..Default::default()
        }]
    }

    async fn change_members(
        &self,
        _: MemberChange,
    ) -> Result<(Option<Member>, Vec<Member>), ProposeError> {
        Err(ProposeError::Unsupported(
            "a store in memory has one member for ever",
        ))
    }

    async fn move_leader(&self, target: u64) -> Result<(), ProposeError> {
        if target == MEMBER_ID {
            Ok(())
        } else {
            Err(ProposeError::BadLeaderTransferee)
        }
    }
}
