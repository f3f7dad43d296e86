//! An operator who replaces members while everything else goes on: adds one, waits until it votes, removes another.
//!
//! One change at a time, through the etcd cluster service. Invariant: the operator believes only what a linearizable list of
//! the members says; a request that failed may have taken effect.

use std::time::Duration;

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::cluster_client::ClusterClient;
use rand::Rng;
use tonic::service::Routes;

use super::client::{Inbox, News};
use super::host::Served;
use super::net::HostId;
use super::world::World;
use crate::raft::identity::Identity;
use crate::raft::types::MemberId;

/// How often the operator looks.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// Replacements in one run.
const CHANGES_MAX: usize = 3;

/// What the operator is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Rests,
    Adds(HostId),
    Removes(HostId),
}

/// What the operator asks of a member.
#[derive(Debug, Clone)]
pub(super) enum Request {
    List,
    Add(String),
    Remove(u64),
}

/// Members as listed: id, peer URL, whether it votes. None: no answer.
pub(super) type Listed = Option<Vec<(u64, String, bool)>>;

/// The operator.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) stage: Stage,
    next: Duration,
    waiting: bool,
    asked: u64,
    changes: usize,
}

impl Operator {
    /// One who is at work, or one who is not.
    pub(super) fn new(works: bool) -> Self {
        Self {
            stage: Stage::Rests,
            next: Duration::from_secs(2),
            waiting: false,
            asked: 0,
            changes: if works { 0 } else { CHANGES_MAX },
        }
    }
}

pub(super) fn url(host: HostId) -> String {
    format!("http://m{host}:1")
}

impl World {
    /// Does the next thing, when it is time.
    pub(super) fn operate(&mut self) {
        if self.now < self.operator.next {
            return;
        }
        self.operator.next = self.now + LOOK_EVERY;
        self.operator.waiting = false;
        let request = match self.operator.stage {
            Stage::Rests if self.operator.changes >= CHANGES_MAX || !self.breaking => return,
            Stage::Rests => {
                let fresh = self.hosts.len();
                self.operator.changes += 1;
                self.operator.stage = Stage::Adds(fresh);
                Request::Add(url(fresh))
            }
            _ if self.rng.random_bool(0.4) => Request::List,
            Stage::Adds(fresh) => Request::Add(url(fresh)),
            Stage::Removes(old) => Request::Remove(self.hosts[old].identity.member.0),
        };
        self.operator.asked += 1;
        let (number, inbox) = (self.operator.asked, Inbox::clone(&self.inbox));
        let at = self.pick();
        let what = format!("operator asks {at}: {request:?}");
        let started = self.hosts[at].enter(move |served| ask(served, number, request, inbox));
        if started.is_some() {
            self.operator.waiting = true;
            self.note(what);
        }
    }

    /// The operator has an answer.
    pub(super) fn listed(&mut self, number: u64, members: Listed) {
        if number != self.operator.asked || !self.operator.waiting {
            return;
        }
        self.note(format!("operator is told {members:?}"));
        let Some(members) = members else { return };
        match self.operator.stage {
            Stage::Rests => {}
            Stage::Adds(fresh) => {
                let url = url(fresh);
                let Some((id, _, votes)) = members.iter().find(|(_, known, _)| *known == url)
                else {
                    return;
                };
                if fresh == self.hosts.len() {
                    self.join(fresh, MemberId(*id));
                }
                if *votes {
                    self.operator.stage = Stage::Removes(self.pick_other(fresh));
                }
            }
            Stage::Removes(old) => {
                let id = self.hosts[old].identity.member.0;
                if members.iter().all(|(known, ..)| *known != id) {
                    self.retire(old);
                    self.operator.stage = Stage::Rests;
                }
            }
        }
    }

    fn pick_other(&mut self, than: HostId) -> HostId {
        loop {
            let host = self.pick();
            if host != than {
                return host;
            }
        }
    }

    fn join(&mut self, id: HostId, member: MemberId) {
        let cluster = self.hosts[0].identity.cluster;
        self.note(format!("{id} joins as {member}"));
        self.add_host(id, Some(Identity { cluster, member }));
        self.boot(id);
    }

    fn retire(&mut self, id: HostId) {
        self.crash(id, true, "retired");
        self.hosts[id].retired = true;
    }
}

fn ask(served: &Served, number: u64, request: Request, inbox: Inbox) {
    let routes = served.routes.clone();
    spawn("operator", TaskKind::Background, async move {
        let members = perform(ClusterClient::new(routes), request).await.ok();
        inbox.lock().push(News::Members { number, members });
    });
}

async fn perform(
    mut cluster: ClusterClient<Routes>,
    request: Request,
) -> Result<Vec<(u64, String, bool)>, tonic::Status> {
    match request {
        Request::List => {}
        Request::Add(url) => {
            let request = etcd::MemberAddRequest {
                peer_ur_ls: vec![url],
                is_learner: false,
            };
            cluster.member_add(request).await?;
        }
        Request::Remove(id) => {
            cluster
                .member_remove(etcd::MemberRemoveRequest { id })
                .await?;
        }
    }
    let request = etcd::MemberListRequest { linearizable: true };
    let members = cluster.member_list(request).await?.into_inner().members;
    let member = |member: etcd::Member| {
        let url = member.peer_ur_ls.first().cloned().unwrap_or_default();
        (member.id, url, !member.is_learner)
    };
    Ok(members.into_iter().map(member).collect())
}
