//! A store member as a component: `Config` -> `Store::build` (binds sockets, no work) -> `Store::run(shutdown)`.
//!
//! Not responsible for consensus or for the services it serves. Invariant: one path for stopping, whoever asks: hand
//! over the leadership, drain clients with a deadline, stop consensus, flush.

pub(crate) mod authority;
pub(crate) mod listen;
mod metrics;
pub(crate) mod start;
mod threads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use openraft::async_runtime::WatchReceiver;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use crate::config::{Config, ConfigError, Listen, Settings};
use crate::metrics::Metrics;
use crate::raft::member::Member;
use crate::raft::replica::RaftReplica;
use listen::Bound;
use start::Started;
use threads::Threads;

/// Why a store member cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration is faulty.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A TLS file cannot be used.
    #[error(transparent)]
    Tls(#[from] corten_base::tls::TlsError),
    /// The member's identity cannot be established.
    #[error(transparent)]
    Identity(#[from] crate::raft::identity::IdentityError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] crate::raft::wal::WalError),
    /// The state cannot be opened.
    #[error(transparent)]
    State(#[from] corten_store_core::backend::BackendError),
    /// The member's own files are damaged, and are not repaired.
    #[error("{what}; not repaired: {refusal}")]
    Damaged {
        /// What was found.
        what: String,
        /// Why nothing is done about it.
        refusal: crate::repair::Refusal,
    },
    /// A file or thread could not be had.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// Consensus did not start, or stopped by itself: the storage failed.
    #[error("consensus stopped: {0}")]
    Consensus(String),
}

/// Time for clients' calls to end after a stop was asked for; watches never end by themselves.
const DRAIN: Duration = Duration::from_secs(3);
/// Time to hand over the leadership before a stop.
const HANDOVER: Duration = Duration::from_secs(1);
/// Time for the cluster to confirm what this member had before a restart.
const RECOVERY: Duration = Duration::from_secs(5);
/// In-process connections waiting to be accepted.
const IN_PROCESS_BACKLOG: usize = 16;
/// Buffer of an in-process connection, each way.
const IN_PROCESS_BUFFER: usize = 256 << 10;

/// A member with its sockets bound, not yet at work.
pub struct Store {
    settings: Settings,
    clients: Vec<Bound>,
    peers: Vec<Bound>,
    in_process: (mpsc::Sender<DuplexStream>, mpsc::Receiver<DuplexStream>),
    admin: AdminServer,
}

impl Store {
    /// Checks the configuration and binds its addresses.
    #[expect(
        clippy::unused_async,
        reason = "binding needs the runtime, and may come to need a wait"
    )]
    pub async fn build(config: Config) -> Result<Store, StoreError> {
        corten_base::tls::install_provider();
        let settings = config.check()?;
        let bind = |all: &[Listen]| all.iter().map(listen::bind).collect::<Result<Vec<_>, _>>();
        Ok(Store {
            clients: bind(&settings.listen_client)?,
            peers: bind(&settings.listen_peer)?,
            settings,
            in_process: mpsc::channel(IN_PROCESS_BACKLOG),
            admin: AdminServer::new("corten-store"),
        })
    }

    /// A client channel that stays within the process. Calls wait until the member runs.
    pub fn channel(&self) -> Channel {
        let sender = self.in_process.0.clone();
        // The name is never resolved.
        Endpoint::from_static("http://store.invalid").connect_with_connector_lazy(
            tower::service_fn(move |_: http::Uri| {
                let sender = sender.clone();
                async move {
                    let (ours, theirs) = tokio::io::duplex(IN_PROCESS_BUFFER);
                    sender
                        .send(theirs)
                        .await
                        .map_err(|_| std::io::Error::other("the store has stopped"))?;
                    Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
                }
            }),
        )
    }

    /// The admin face, to mount on another port or to add checks to.
    pub fn admin(&self) -> AdminServer {
        self.admin.clone()
    }

    /// Addresses of the client port, as bound.
    pub fn client_addresses(&self) -> Vec<SocketAddr> {
        self.clients.iter().filter_map(Bound::address).collect()
    }

    /// Works until `shutdown`, or until the storage fails.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), StoreError> {
        let Store {
            settings,
            clients,
            peers,
            in_process,
            admin,
        } = self;
        admin.readiness().set("raft", Err("starting".to_owned()));
        let background = Shutdown::new();
        if let Some(address) = &settings.config.listen_metrics {
            let address = address.parse().map_err(|_| {
                ConfigError(vec![format!(
                    "--listen-metrics {address:?} is not an address and port"
                )])
            })?;
            admin.serve(address, None, background.clone()).await?;
        }
        let figures = Metrics::default();
        figures.register(&admin);
        // Peers first: members that found a cluster together need each other before any client can be served.
        let threads = Threads::start()?;
        let starting = start::start(settings.clone(), peers, figures, background.clone());
        let started = match threads.run("start", starting).await {
            Ok(started) => started,
            Err(error) => {
                background.trigger();
                return Err(error);
            }
        };
        metrics::register(&admin, &started.member);
        ready_when_led(&admin, &started.member);
        ready_when_the_disk_answers(&admin, &started.member, settings.election);
        recover(&started.member).await;
        let clients_stop = Shutdown::new();
        let replica = Arc::new(RaftReplica::new(Arc::clone(&started.member)));
        let options = crate::services::Options {
            token_ttl: Duration::from_secs(settings.config.auth_token_ttl),
            bcrypt_cost: settings.config.bcrypt_cost,
        };
        let routes = crate::services::routes(Arc::clone(&replica) as Arc<_>, options);
        let routes = crate::http::face(routes, replica, admin.clone());
        let tls = match &settings.client_tls {
            Some(tls) => Some(listen::client_tls(tls)?),
            None => None,
        };
        let serving = listen::serve_clients(clients, in_process.1, tls, routes, &clients_stop)?;
        tracing::info!(member = %started.member.id(), cluster = started.member.cluster_id(), "store is up");
        let result = tokio::select! {
            biased;
            () = shutdown.wait() => Ok(()),
            error = consensus_failed(&started.member) => Err(StoreError::Consensus(error)),
        };
        if result.is_ok() {
            hand_over(&started.member).await;
        }
        clients_stop.trigger();
        serving.join(DRAIN).await;
        stop(started, &background).await;
        drop(threads);
        result
    }
}

fn ready_when_led(admin: &AdminServer, member: &Arc<Member>) {
    let member = Arc::downgrade(member);
    admin
        .readiness()
        .check("raft", move || match member.upgrade() {
            Some(member) if member.leader().is_some() => Ok(()),
            Some(_) => Err("no leader".to_owned()),
            None => Err("stopped".to_owned()),
        });
}

fn ready_when_the_disk_answers(admin: &AdminServer, member: &Arc<Member>, election: Duration) {
    let member = Arc::downgrade(member);
    admin.readiness().check("disk", move || {
        let lasts = member
            .upgrade()
            .and_then(|member| member.disk_hangs(election));
        lasts.map_or(Ok(()), |lasts| {
            Err(format!(
                "the disk with the log does not answer for {lasts:.1?}"
            ))
        })
    });
}

/// Waits until this member's state is at least what it was before the restart, so that no reader sees time run
/// backwards. Without a quorum that cannot be known: reads that ask for no agreement are then served all the same.
pub(crate) async fn recover(member: &Arc<Member>) {
    if member
        .raft()
        .wait_for_recovery(Some(RECOVERY))
        .await
        .is_err()
    {
        tracing::warn!(
            "no quorum yet: reads without agreement may be older than before the restart"
        );
    }
}

/// Returns when openraft has given up.
async fn consensus_failed(member: &Arc<Member>) -> String {
    let mut metrics = member.raft().metrics();
    loop {
        let failed = metrics
            .borrow_and_update()
            .running_state
            .as_ref()
            .err()
            .map(ToString::to_string);
        if let Some(error) = failed {
            return error;
        }
        if metrics.changed().await.is_err() {
            return "stopped".to_owned();
        }
    }
}

/// Gives the leadership to the voter whose log is closest, so that clients do not wait for an election.
async fn hand_over(member: &Arc<Member>) {
    if !member.raft().is_leader() {
        return;
    }
    if let Some(target) = member.best_successor()
        && tokio::time::timeout(HANDOVER, member.move_leader(target.0))
            .await
            .is_err()
    {
        tracing::info!(to = %target, "the leadership was not handed over in time");
    }
}

async fn stop(started: Started, background: &Shutdown) {
    let Started {
        member,
        apply,
        peers,
        wal,
    } = started;
    if let Err(error) = member.raft().shutdown().await {
        tracing::warn!(%error, "consensus did not stop in order");
    }
    background.trigger();
    peers.join(DRAIN).await;
    drop(member);
    if tokio::task::spawn_blocking(move || wal.close())
        .await
        .is_err()
    {
        tracing::warn!("the log was not closed in order");
    }
    // Flushes the state, so that the next start need not replay.
    if !matches!(
        tokio::task::spawn_blocking(move || apply.stop()).await,
        Ok(Ok(()))
    ) {
        tracing::warn!("the apply thread did not end in order");
    }
}

/// Tasks that serve connections.
pub(crate) struct Serving(Vec<tokio::task::JoinHandle<()>>);

impl Serving {
    /// Waits for the servers to drain, then cuts those that have not.
    async fn join(self, limit: Duration) {
        let cut: Vec<_> = self
            .0
            .iter()
            .map(tokio::task::JoinHandle::abort_handle)
            .collect();
        // A panic was logged by the task itself.
        if tokio::time::timeout(limit, futures::future::join_all(self.0))
            .await
            .is_err()
        {
            tracing::debug!("connections were cut after the drain time");
            cut.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }

    fn spawn(&mut self, name: &'static str, serving: impl Future<Output = ()> + Send + 'static) {
        self.0.push(spawn(name, TaskKind::Critical, serving));
    }
}
