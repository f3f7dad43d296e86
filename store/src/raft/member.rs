//! A member at work: where its proposals and reads go, and what it answers to other members.
//!
//! Not consensus (openraft) and not the state (`machine`). Invariant: a proposal whose fate is unknown is never sent a
//! second time.

mod compactor;
mod confirm;
mod corruption;
mod disk;
mod leases;
mod level;
mod membership;
mod mend;
mod peers;
mod publish;
mod quota;
mod renewals;
mod repair;
mod status;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_proto::corten::store::v1 as pb;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::applied::AppliedIndex;
use super::forward::{Answer, Attempt, Forwarder, Session};
use super::identity::Identity;
use super::read::{ReadError, ReadGate};
use super::rounds::Rounds;
use super::silence::Silence;
use super::state_machine::{Jobs, StateMachine};
use super::types::{Callback, Command, MemberId, Node, TypeConfig};
use crate::metrics::Metrics;
use crate::peer::connect::Peers;
use crate::replica::{Engine, ProposeError};

pub(crate) use compactor::run_compactor;
pub(crate) use confirm::Word;
pub(crate) use corruption::run_comparisons;
pub(crate) use disk::watch_disk;
pub(crate) use leases::run_lessor;
pub(crate) use level::raise_level;
pub(crate) use membership::promote_learners;
pub(crate) use mend::{Mender, run_repairs};
pub(crate) use peers::note_peers;
pub(crate) use publish::publish_self;
pub(crate) use quota::run_quota;
pub(crate) use renewals::TOGETHER_MAX;
pub(crate) use status::count_leaders;

/// openraft with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Proposals of this member's clients in flight; etcd allows a gap of 5,000 between commit and apply.
const PROPOSALS_MAX: usize = 10_000;
/// How long a proposal or a read may take, as in etcd; an election fits in several times.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);
/// Without a sign of a new leader, ask again after this.
const LEADER_POLL: Duration = Duration::from_millis(50);

/// What `Member::new` is given.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) applied: AppliedIndex,
    pub(crate) engine: Engine,
    pub(crate) jobs: Jobs,
    pub(crate) incoming: PathBuf,
    pub(crate) quota_bytes: u64,
    pub(crate) disk_reserve: u64,
    /// A leader that no quorum has answered for this long leads nobody.
    pub(crate) quorum_patience: Duration,
    /// Kept while no quorum answers this leader.
    pub(crate) silence: Silence,
    pub(crate) metrics: Metrics,
}

/// One member of the cluster.
pub(crate) struct Member {
    parts: Parts,
    forwarder: Forwarder,
    gate: ReadGate,
    proposals: Semaphore,
    /// Membership changes go one at a time: openraft refuses a second one, and callers would only retry.
    changes: tokio::sync::Mutex<()>,
    counting: leases::Counting,
    renewals: Rounds<renewals::Waiting>,
    /// As leader: whom this member helps to repair itself, since when.
    helped: Mutex<Option<(MemberId, Instant)>>,
    /// Why this member is damaged and not repaired.
    unrepaired: Mutex<Option<String>>,
}

/// Where a proposal goes.
enum Route {
    Here,
    Leader(Arc<Session>),
    Nowhere,
}

impl Member {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let me = parts.identity.member;
        let source = confirm::ReadSource::new(parts.raft.clone(), Arc::clone(&parts.peers), me);
        let gate = ReadGate::start(source, parts.applied.clone(), REQUEST_TIMEOUT);
        Arc::new_cyclic(|this| Self {
            forwarder: Forwarder::new(Arc::clone(&parts.peers)),
            gate,
            proposals: Semaphore::new(PROPOSALS_MAX),
            changes: tokio::sync::Mutex::new(()),
            counting: leases::Counting::default(),
            renewals: renewals::start(this.clone()),
            helped: Mutex::new(None),
            unrepaired: Mutex::new(None),
            parts,
        })
    }

    pub(crate) fn id(&self) -> MemberId {
        self.parts.identity.member
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.parts.identity.cluster
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.parts.raft
    }

    pub(crate) fn silence(&self) -> &Silence {
        &self.parts.silence
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.parts.engine
    }

    pub(crate) fn incoming_dir(&self) -> &Path {
        &self.parts.incoming
    }

    pub(crate) fn applied(&self) -> &AppliedIndex {
        &self.parts.applied
    }

    /// Limit of the store's size in bytes; 0: none.
    pub(crate) fn quota_bytes(&self) -> u64 {
        self.parts.quota_bytes
    }

    /// Proposals of this member's clients in flight.
    pub(crate) fn pending(&self) -> u64 {
        (PROPOSALS_MAX - self.proposals.available_permits()) as u64
    }

    /// The term in which this member leads.
    pub(crate) fn leading_term(&self) -> Option<u64> {
        let metrics = self.parts.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.current_leader == Some(self.id())).then_some(metrics.vote.leader_id.term)
    }

    /// The leader and how to reach it, when one is known.
    pub(crate) fn leader(&self) -> Option<(MemberId, Node)> {
        leader_of(&self.parts.raft)
    }

    /// Agrees on a command and waits until it is applied here.
    pub(crate) async fn propose(
        &self,
        request: &pb::RaftRequest,
    ) -> Result<pb::RaftReply, ProposeError> {
        let reply = self.try_propose(request).await;
        if reply.is_err() {
            self.parts.metrics.proposals_failed.inc();
        }
        reply
    }

    async fn try_propose(&self, request: &pb::RaftRequest) -> Result<pb::RaftReply, ProposeError> {
        let _place = self
            .proposals
            .try_acquire()
            .map_err(|_| ProposeError::TooManyRequests)?;
        let command = Bytes::from(request.encode_to_vec());
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let attempt = async {
                match self.route() {
                    Route::Here => self.propose_to_self(command.clone()).await,
                    Route::Leader(session) => session.propose(command.clone()).await,
                    Route::Nowhere => Err(Attempt::NotProposed),
                }
            };
            match timeout_at(deadline, attempt).await {
                Ok(Ok((index, reply))) => {
                    let here = timeout_at(deadline, self.parts.applied.reached(index)).await;
                    return match here {
                        Ok(Ok(())) => Ok(reply),
                        Ok(Err(_)) => Err(ProposeError::Stopped),
                        Err(_) => Err(ProposeError::Timeout),
                    };
                }
                Ok(Err(Attempt::NotProposed)) => {
                    if timeout_at(deadline, leader_may_change(&self.parts.raft))
                        .await
                        .is_err()
                    {
                        return Err(ProposeError::NoLeader);
                    }
                }
                Ok(Err(Attempt::Unknown)) => return Err(ProposeError::LeaderChanged),
                Ok(Err(Attempt::Busy)) => return Err(ProposeError::TooManyRequests),
                Ok(Err(Attempt::Stopped)) => return Err(ProposeError::Stopped),
                Err(_) => return Err(ProposeError::Timeout),
            }
        }
    }

    fn route(&self) -> Route {
        let metrics = self.parts.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let Some(leader) = metrics.current_leader else {
            return Route::Nowhere;
        };
        if leader == self.id() {
            return Route::Here;
        }
        match metrics.membership_config.get_node(&leader) {
            Some(node) => Route::Leader(self.forwarder.session(leader, node)),
            None => Route::Nowhere,
        }
    }

    async fn propose_to_self(&self, command: Bytes) -> Answer {
        let (answer, answered) = oneshot::channel();
        let callback = Callback::new(move |result: ClientWriteResult<TypeConfig>| {
            // The caller may have run out of time.
            let _ = answer.send(result);
        });
        if self.propose_here(Command(command), callback).await.is_err() {
            return Err(Attempt::Stopped);
        }
        match answered.await {
            Ok(Ok(written)) => Ok((written.log_id.index, written.data.unwrap_or_default())),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Attempt::NotProposed),
            Ok(Err(_)) | Err(_) => Err(Attempt::Unknown),
        }
    }

    /// Proposes if this member leads; `callback` gets the outcome either way.
    pub(crate) async fn propose_here(
        &self,
        command: Command,
        callback: Callback<ClientWriteResult<TypeConfig>>,
    ) -> Result<(), Fatal<TypeConfig>> {
        self.parts
            .raft
            .client_write_ff(command, Some(callback))
            .await
    }

    /// Returns when a read of this member's state is linearizable.
    pub(crate) async fn read_barrier(&self) -> Result<(), ProposeError> {
        self.gate.pass().await.map_err(|error| match error {
            ReadError::NoLeader => ProposeError::NoLeader,
            ReadError::Timeout => ProposeError::Timeout,
            ReadError::Busy => ProposeError::TooManyRequests,
            ReadError::Stopped => ProposeError::Stopped,
        })
    }
}

/// The leader and how to reach it, when one is known.
fn leader_of(raft: &Raft) -> Option<(MemberId, Node)> {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let leader = metrics.current_leader?;
    Some((leader, metrics.membership_config.get_node(&leader)?.clone()))
}

/// Waits for news about the leader, or a little.
///
/// Once consensus has ended there is no news: returning at once would make those who ask again spin.
async fn leader_may_change(raft: &Raft) {
    let mut metrics = raft.server_metrics();
    // The handle is as old as the member; what has changed since then is no news.
    drop(metrics.borrow_and_update());
    // Both ways out lead to another look.
    if let Ok(Err(_)) = timeout(LEADER_POLL, metrics.changed()).await {
        sleep(LEADER_POLL).await;
    }
}
