//! The controllers as a whole: config, then build (checks, reads files), then run until shutdown. Every replica watches
//! and plans; only the holder of the lease acts.

mod caches;
mod start;

use std::net::SocketAddr;
use std::path::PathBuf;

use corten_base::admin::AdminServer;
use corten_base::config::ConfigError;
use corten_base::pki::Authority;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::Client;
use corten_client::leader::{LeaderConfig, LeaderElector, Leadership};
use corten_client::runner::Metrics;
use tokio::task::JoinHandle;

use crate::config::{Checked, Config};
use crate::rootca::RootCertificates;
use caches::Caches;
use start::Starter;

/// The lease's name; upstream's, so that tools find the holder.
const LEASE: &str = "kube-controller-manager";

/// Why the controllers could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API client could not be made.
    #[error("cannot reach the API server")]
    Client(#[from] corten_client::Error),
    /// The certificates for pods could not be read.
    #[error("cannot read the root certificates {path}")]
    RootCa {
        /// The file named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The authority that signs certificates could not be read.
    #[error("cannot read the signing authority")]
    Authority(#[from] corten_base::pki::PkiError),
    /// The port could not be bound.
    #[error("cannot bind {addr} for health and metrics")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Built controllers.
pub struct Controllers {
    config: Config,
    checked: Checked,
    client: Client,
    root_ca: Option<RootCertificates>,
    authority: Option<Authority>,
    admin: AdminServer,
    election: LeaderConfig,
}

impl Controllers {
    /// Checks the configuration; `client` is given by a launcher that runs several roles in one process.
    pub fn build(config: Config, client: Option<Client>) -> Result<Self, StartError> {
        let checked = config.check()?;
        let read = |path: &PathBuf| {
            RootCertificates::read(path).map_err(|source| StartError::RootCa {
                path: path.clone(),
                source,
            })
        };
        let root_ca = config.root_ca_file.as_ref().map(read).transpose()?;
        let authority = match (
            &config.cluster_signing_cert_file,
            &config.cluster_signing_key_file,
        ) {
            (Some(certificate), Some(key)) => Some(Authority::read(certificate, key)?),
            _ => None,
        };
        let client = match client {
            Some(client) => client,
            None => Client::connect(&config.client)?,
        };
        Ok(Self {
            config,
            checked,
            client,
            root_ca,
            authority,
            admin: AdminServer::new("corten-controllers"),
            election: LeaderConfig::new(LEASE, &LeaderConfig::process_identity()),
        })
    }

    /// The process's admin face, to register more on it.
    pub fn admin(&self) -> &AdminServer {
        &self.admin
    }

    /// Takes part in the election with these times instead of upstream's.
    #[must_use]
    pub fn with_election(mut self, election: LeaderConfig) -> Self {
        self.election = election;
        self
    }

    /// Runs until `shutdown`, then lets the keys in hand come to their end and gives the lease back.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), StartError> {
        let (root_ca, authority) = (self.root_ca.take(), self.authority.take());
        if let Some(addr) = self.config.bind_address {
            let bind = |source| StartError::Bind { addr, source };
            self.admin
                .serve(addr, None, shutdown.clone())
                .await
                .map_err(bind)?;
        }
        let metrics = Metrics::default();
        self.admin
            .with_registry(|registry| metrics.register(registry));
        let caches = Caches::start(&self.client, &shutdown);
        let synced = caches.clone();
        let (leadership, election) = self.elect(&shutdown);
        self.admin
            .readiness()
            .check("caches", move || synced.check());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let starter = Starter {
            client: &self.client,
            caches: &caches,
            leadership,
            metrics: &metrics,
            loops: self.admin.loops(),
            host: host.trim().to_owned(),
            shutdown: &shutdown,
        };
        let running = starter.all(&self.checked, root_ca, authority);
        futures::future::join_all(running).await;
        if let Some(election) = election {
            // It gives the lease back, so that the next holder need not wait for it to run out. A panic in it has
            // already ended the process.
            let _ = election.await;
        }
        Ok(())
    }

    /// Takes part in the election, or leads at once when there are no rivals.
    fn elect(&self, shutdown: &Shutdown) -> (Leadership, Option<JoinHandle<()>>) {
        if !self.checked.leader_elect {
            return (Leadership::always(), None);
        }
        let (elector, leadership) = LeaderElector::new(self.client.clone(), self.election.clone());
        let election = spawn(
            "leader-election",
            TaskKind::Critical,
            elector.run(shutdown.clone()),
        );
        (leadership, Some(election))
    }
}
