//! Opens a member's data and sets consensus going.
//!
//! The order matters and is all here: peer port, identity, log, state, consensus, bootstrap. Invariant: nothing is
//! answered to another member before the vote and the log are loaded, but that this one is starting.

mod open;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{self, ClientAuth};
use corten_store_core::backend::Backend;
use corten_store_core::{Store as CoreStore, StoreOptions};
use openraft::SnapshotPolicy;
use openraft::errors::{InitializeError, RaftError};
use tonic::service::Routes;

use super::listen::{self, Bound, Wire};
use super::{Serving, StoreError};
use crate::config::{ClusterState, Settings};
use crate::metrics::Metrics;
use crate::peer::connect::Peers;
use crate::peer::dial::{Dial, HostNetwork};
use crate::peer::service::{Opened, PeerService};
use crate::raft::applied::AppliedIndex;
use crate::raft::identity::{self, Identity};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::member::{self, Member, Mender, Parts, Raft};
use crate::raft::network::NetworkFactory;
use crate::raft::silence::{self, Silence};
use crate::raft::snapshot;
use crate::raft::state_machine::{Applier, ApplyThread, Jobs, StateMachine};
use crate::raft::tables::Tables;
use crate::raft::wal::Wal;
use crate::replica::Engine;

/// How often the size of the log is looked at.
const LOG_CHECK: Duration = Duration::from_secs(1);

/// What `start` has set going.
pub(super) struct Started {
    pub(super) member: Arc<Member>,
    pub(super) apply: ApplyThread,
    pub(super) peers: Serving,
    pub(super) wal: Arc<Wal>,
}

/// Everything that is spawned from here on runs where this does.
pub(super) async fn start(
    settings: Settings,
    peer_sockets: Vec<Bound>,
    metrics: Metrics,
    background: Shutdown,
) -> Result<Started, StoreError> {
    let (settings, metrics, background) = (&settings, &metrics, &background);
    let peer_tls = match &settings.peer_tls {
        Some(files) => {
            let admitted = settings.config.admitted_peers();
            let config = tls::server_config_for(files, ClientAuth::Required, admitted)?;
            Some(config)
        }
        None => None,
    };
    let opened = Opened::default();
    let routes = Routes::new(PeerService::server(Arc::clone(&opened)));
    let mut peers = Serving(Vec::new());
    for bound in peer_sockets {
        listen::serve_bound(
            &mut peers,
            bound,
            peer_tls.clone(),
            &routes,
            Wire::Members,
            background,
        )?;
    }
    let (member, wal, apply) = match Box::pin(begin(settings, metrics, &opened)).await {
        Ok(begun) => begun,
        Err(error) => {
            // The addresses must be free when the caller hears of it.
            background.trigger();
            peers.join(super::DRAIN).await;
            return Err(error);
        }
    };
    spawn_background(settings, &member, Arc::clone(&wal), metrics, background);
    let dir = settings.config.data_dir.clone();
    let peers_noted = member::note_peers(Arc::clone(&member), dir, background.clone());
    spawn("note-peers", TaskKind::Background, peers_noted);
    Ok(Started {
        member,
        apply,
        peers,
        wal,
    })
}

type Begun = (Arc<Member>, Arc<Wal>, ApplyThread);

/// From here on the member takes part.
async fn begin(
    settings: &Settings,
    metrics: &Metrics,
    opened: &Opened,
) -> Result<Begun, StoreError> {
    let known = identity::load(&settings.config.data_dir)?.is_some();
    let identity = Box::pin(identity::establish(settings)).await?;
    let (identity, wal) = Box::pin(open::log(settings, identity, known, metrics)).await?;
    let begun = Box::pin(open(settings, identity, wal, metrics)).await?;
    // Nobody else sets it.
    let _ = opened.set(Arc::clone(&begun.0));
    // A member that came later, or came back under a new id, founds nothing.
    let founds = identity == identity::founding(settings);
    if settings.config.initial_cluster_state == ClusterState::New && founds {
        found(settings, &begun.0).await?;
    }
    Ok(begun)
}

async fn open(
    settings: &Settings,
    identity: Identity,
    wal: Arc<Wal>,
    metrics: &Metrics,
) -> Result<Begun, StoreError> {
    let state = open::state(settings, identity, &wal, metrics);
    let state = Box::pin(state).await?;
    let (handles, applier) = state.split();
    let apply = applier.start()?;
    let client_tls = match &settings.peer_tls {
        Some(files) => Some(tls::client_config(files)?),
        None => None,
    };
    let dialer = Arc::new(HostNetwork::new(client_tls));
    let log = LogStore::new(Arc::clone(&wal));
    let member = Box::pin(agree(settings, identity, metrics, dialer, log, handles)).await?;
    Ok((member, wal, apply))
}

/// A member's state, opened.
pub(crate) struct State {
    handles: Handles,
    applier: Applier,
}

/// What a member holds of its state, besides whoever applies.
pub(crate) struct Handles {
    machine: StateMachine,
    engine: Engine,
    applied: AppliedIndex,
    jobs: Jobs,
    incoming: PathBuf,
}

impl State {
    /// Opens the state in `tables`; nothing is applied until the applier runs.
    pub(crate) fn open(
        settings: &Settings,
        tables: Arc<dyn Tables>,
        metrics: &Metrics,
    ) -> Result<Self, StoreError> {
        let dir = &settings.config.data_dir;
        let (incoming, outgoing) = (dir.join("incoming"), dir.join("outgoing"));
        snapshot::clear(&incoming)?;
        snapshot::clear(&outgoing)?;
        let backend: Arc<dyn Backend> = Arc::clone(&tables) as _;
        let options = StoreOptions {
            head_cache_bytes: settings.config.head_cache_bytes,
        };
        let (store, mut writer) = CoreStore::open_with(backend, options)?;
        writer.limit_level(settings.config.max_level)?;
        let engine = Engine::new(store, settings.lease_checkpoint)?;
        engine.count_prefixes(settings.prefix_quotas.clone())?;
        let applied = AppliedIndex::default();
        let machine = Machine::new(
            Arc::clone(&tables),
            writer,
            engine.clone(),
            applied.clone(),
            outgoing,
            metrics.backend_commit.clone(),
        )?;
        let (machine, applier) = StateMachine::new(machine, tables);
        let handles = Handles {
            jobs: machine.jobs(),
            machine,
            engine,
            applied,
            incoming,
        };
        Ok(Self { handles, applier })
    }

    /// The last entry in it.
    fn applied(&self) -> Option<u64> {
        self.handles.applied.get()
    }

    /// What is used, and what is to be run.
    pub(crate) fn split(self) -> (Handles, Applier) {
        (self.handles, self.applier)
    }
}

/// Starts consensus over what was opened. The applier must run by now.
pub(crate) async fn agree(
    settings: &Settings,
    identity: Identity,
    metrics: &Metrics,
    dialer: Arc<dyn Dial>,
    log: LogStore,
    handles: Handles,
) -> Result<Arc<Member>, StoreError> {
    let peers = Arc::new(Peers::new(identity.cluster, dialer));
    let config = Arc::new(
        raft_config(settings)
            .validate()
            .map_err(|error| StoreError::Consensus(error.to_string()))?,
    );
    let silence = Silence::default();
    let network = NetworkFactory::new(Arc::clone(&peers), metrics.clone(), silence.clone());
    let raft = Raft::new(identity.member, config, network, log, handles.machine)
        .await
        .map_err(|error| StoreError::Consensus(error.to_string()))?;
    Ok(Member::new(Parts {
        identity,
        raft,
        peers,
        applied: handles.applied,
        engine: handles.engine,
        jobs: handles.jobs,
        incoming: handles.incoming,
        quota_bytes: settings.config.quota_backend_bytes,
        disk_reserve: settings.config.disk_reserve_bytes,
        // Twice what it takes to notice, and to elect another.
        quorum_patience: 4 * settings.election,
        silence,
        metrics: metrics.clone(),
    }))
}

fn raft_config(settings: &Settings) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(settings.election);
    openraft::Config {
        cluster_name: settings.config.initial_cluster_token.clone(),
        heartbeat_interval: millis(settings.heartbeat),
        // A follower stands for election after the leader's lease (the maximum) and a random time in this range.
        election_timeout_min: election / 2,
        election_timeout_max: election,
        enable_pre_vote: Some(true),
        quorum_loss_probe_interval: Some(millis(silence::phase(settings.election))),
        // A restarted leader must be elected anew: the commit position on disk lags (it is never synced for its own
        // sake), so a restored leader would serve reads from before writes that it had acknowledged.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.config.snapshot_count),
        max_in_snapshot_log_to_keep: settings.config.snapshot_catchup_entries,
        purge_batch_size: 512,
        replication_lag_threshold: settings.config.snapshot_catchup_entries,
        // Also bounded in bytes by the log reader.
        max_payload_entries: 1024,
        install_snapshot_timeout: 60_000,
        backoff: "50ms 100ms ...1s".to_owned(),
        // A follower that lost its log despite the check of identities must not end the leader too: the others hold
        // what was committed, and it gets that back.
        allow_log_reversion: Some(true),
        ..openraft::Config::default()
    }
}

/// Founds the cluster, unless that has been done. Every founding member does, with the same members.
pub(crate) async fn found(settings: &Settings, member: &Arc<Member>) -> Result<(), StoreError> {
    match member
        .raft()
        .initialize(identity::founding_members(settings))
        .await
    {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(StoreError::Consensus(error.to_string())),
    }
}

/// Starts what a member does besides answering.
pub(crate) fn spawn_background(
    settings: &Settings,
    member: &Arc<Member>,
    wal: Arc<Wal>,
    metrics: &Metrics,
    stop: &Shutdown,
) {
    spawn(
        "engine",
        TaskKind::Critical,
        member.engine().clone().maintain(stop.clone()),
    );
    let lessor = member::run_lessor(Arc::clone(member), settings.election, stop.clone());
    spawn("lessor", TaskKind::Critical, lessor);
    spawn(
        "promote-learners",
        TaskKind::Critical,
        member::promote_learners(Arc::clone(member), stop.clone()),
    );
    let silence = silence::keep(
        Arc::clone(member),
        member.silence().clone(),
        settings.election,
        stop.clone(),
    );
    spawn("silence", TaskKind::Critical, silence);
    let every = settings.corruption_check;
    spawn(
        "compare-members",
        TaskKind::Background,
        member::run_comparisons(Arc::clone(member), every, stop.clone()),
    );
    let compactor = member::run_compactor(Arc::clone(member), settings.retention, stop.clone());
    spawn("compactor", TaskKind::Background, compactor);
    spawn(
        "leaders",
        TaskKind::Background,
        member::count_leaders(Arc::clone(member), stop.clone()),
    );
    spawn(
        "quota",
        TaskKind::Critical,
        member::run_quota(Arc::clone(member), stop.clone()),
    );
    let (name, urls) = (
        settings.config.name.clone(),
        settings.advertise_client.clone(),
    );
    spawn(
        "publish",
        TaskKind::Background,
        member::publish_self(
            Arc::clone(member),
            name,
            urls,
            settings.config.max_level,
            stop.clone(),
        ),
    );
    let disk = member::watch_disk(Arc::clone(member), settings.election, stop.clone());
    spawn("watch-disk", TaskKind::Critical, disk);
    let raising = member::raise_level(Arc::clone(member), stop.clone());
    spawn("raise-level", TaskKind::Critical, raising);
    let mender = Mender::new(settings.clone(), Arc::clone(&wal), metrics.clone());
    spawn(
        "repair",
        TaskKind::Background,
        member::run_repairs(Arc::clone(member), mender, stop.clone()),
    );
    let limit = settings.config.snapshot_log_bytes;
    spawn(
        "log-size",
        TaskKind::Background,
        watch_log_size(Arc::clone(member), wal, limit, stop.clone()),
    );
}

/// Asks for a snapshot when the log has grown by `limit` bytes, so that large values do not fill the disk with log.
async fn watch_log_size(member: Arc<Member>, wal: Arc<Wal>, limit: u64, stop: Shutdown) {
    let mut tick = tokio::time::interval(LOG_CHECK);
    let mut asked_at = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.wait() => return,
            _ = tick.tick() => {}
        }
        let size = wal.disk_bytes();
        // Purging makes the log smaller again; entries kept for followers must not trigger a snapshot each second.
        asked_at = asked_at.min(size);
        if size < asked_at + limit {
            continue;
        }
        asked_at = size;
        if member.raft().trigger().snapshot().await.is_err() {
            return;
        }
    }
}
