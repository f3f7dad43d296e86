//! corten-scheduler: decides which node each pod runs on and tells the API server. The decision is `core` (pure), turns
//! are `queue` (pure), and `shell` feeds both from watches and carries out what they say. It starts nothing on any
//! node, and knows only what the API server tells. Invariant: a pod is bound only to a node where it fits beside
//! everything bound or assumed there.

pub mod config;
pub mod core;
pub mod metrics;
pub mod queue;
pub mod shell;

use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::Client;
use corten_client::events::Recorder;
use corten_client::leader::{LeaderConfig, LeaderElector, Leadership};

pub use config::Config;

/// Why the scheduler cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] corten_base::config::ConfigError),
    /// The API servers cannot be reached as configured.
    #[error("cannot set up the client")]
    Client(#[from] corten_client::Error),
    /// The admin port's certificate cannot be used.
    #[error("cannot set up TLS of the admin port")]
    Tls(#[from] corten_base::tls::TlsError),
    /// The admin port cannot be served.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A scheduler, ready to run.
pub struct Scheduler {
    config: Config,
    client: Client,
    admin: AdminServer,
    metrics: metrics::Metrics,
}

impl Scheduler {
    /// Checks the configuration and sets up the client; `client` instead of the configured one runs it in process.
    /// Nothing is connected or bound yet.
    pub fn build(config: Config, client: Option<Client>) -> Result<Self, Error> {
        config.check()?;
        let client = match client {
            Some(client) => client,
            None => Client::connect(&config.client)?,
        };
        let admin = AdminServer::new("corten-scheduler");
        let metrics = admin.with_registry(metrics::Metrics::register);
        Ok(Self {
            config,
            client: client.with_field_manager("kube-scheduler"),
            admin,
            metrics,
        })
    }

    /// Runs until shutdown: serves the admin port, takes part in the election, places pods while leading.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        self.serve_admin(&shutdown).await?;
        let leadership = self.campaign(&shutdown);
        let recorder = Recorder::start(&self.client, &self.config.scheduler_name, "", &shutdown);
        let shell = shell::Shell::start(
            &self.config,
            self.client,
            recorder,
            self.metrics,
            leadership,
            &self.admin,
            &shutdown,
        );
        shell.run(&shutdown).await;
        Ok(())
    }

    async fn serve_admin(&self, shutdown: &Shutdown) -> Result<(), Error> {
        let Some(address) = self.config.admin_listen else {
            return Ok(());
        };
        let tls = match self.config.admin_tls() {
            Some(files) => Some(corten_base::tls::server_config(
                &files,
                corten_base::tls::ClientAuth::Optional,
            )?),
            None => None,
        };
        let served = self.admin.serve(address, tls, shutdown.clone()).await;
        served
            .map(drop)
            .map_err(|source| Error::Listen { address, source })
    }

    fn campaign(&self, shutdown: &Shutdown) -> Leadership {
        if !self.config.leader_elect {
            return Leadership::always();
        }
        let identity = LeaderConfig::process_identity();
        let config = LeaderConfig::new("kube-scheduler", &identity);
        let (elector, leadership) = LeaderElector::new(self.client.clone(), config);
        spawn("leader", TaskKind::Critical, elector.run(shutdown.clone()));
        leadership
    }
}
