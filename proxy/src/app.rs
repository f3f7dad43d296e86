//! The proxy as a whole: config, then build (checks, prepares the host, binds), then run until shutdown.

use std::net::{IpAddr, SocketAddr};

use corten_base::admin::AdminServer;
use corten_base::config::ConfigError;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::Client;
use corten_client::cache::{Cache, CacheOptions};
use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;

use crate::config::Config;
use crate::dns::{
    self, BY_ADDRESS, BY_CLUSTER_IP, Upstreams, Zone, addresses_of, cluster_ip_of, system_resolvers,
};
use crate::host;
use crate::ruleset::Scope;
use crate::sync::{BY_SERVICE, Sync, service_of};

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API client could not be made.
    #[error("cannot reach the API server")]
    Client(#[from] corten_client::Error),
    /// The host could not be prepared.
    #[error("cannot prepare the host's network")]
    Host(#[from] host::HostError),
    /// A port could not be bound.
    #[error("cannot bind {addr} for {what}")]
    Bind {
        /// What for.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A built proxy.
pub struct Proxy {
    config: Config,
    client: Client,
    node: String,
    admin: AdminServer,
}

impl Proxy {
    /// Checks the configuration; `client` is given by a launcher that runs several roles in one process.
    pub fn build(config: Config, client: Option<Client>) -> Result<Self, StartError> {
        let mut faults = Vec::new();
        let node = config.node_name.clone().unwrap_or_default();
        if node.is_empty() {
            faults.push("node_name is missing (--node-name)".to_owned());
        }
        if config.domain().parse::<Name>().is_err() {
            faults.push(format!(
                "cluster_domain {:?} is not a domain name",
                config.domain()
            ));
        }
        if !faults.is_empty() {
            return Err(ConfigError::Invalid(faults).into());
        }
        let client = match client {
            Some(client) => client,
            None => Client::connect(&config.client)?,
        };
        Ok(Self {
            config,
            client,
            node,
            admin: AdminServer::new("corten-proxy"),
        })
    }

    /// The process's admin face, to register more on it.
    pub fn admin(&self) -> &AdminServer {
        &self.admin
    }

    /// Runs until `shutdown`. Rules stay in the kernel afterwards.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), StartError> {
        let config = &self.config;
        host::sysctls().await;
        host::dns_address(config.dns_ip()).await?;
        host::service_route(config.services(), config.node_ip).await?;
        if let Some(addr) = config.healthz_bind_address {
            let bind = |source| StartError::Bind {
                what: "health",
                addr,
                source,
            };
            self.admin
                .serve(addr, None, shutdown.clone())
                .await
                .map_err(bind)?;
        }
        let services = Cache::<Service>::start(
            &self.client,
            CacheOptions::all().index(BY_CLUSTER_IP, cluster_ip_of),
            &shutdown,
        );
        let options = CacheOptions::all()
            .index(BY_SERVICE, service_of)
            .index(BY_ADDRESS, addresses_of);
        let slices = Cache::<EndpointSlice>::start(&self.client, options, &shutdown);
        self.start_dns(&services, &slices, &shutdown).await?;
        let (synced, seen) = watch::channel(false);
        self.admin.readiness().check("rules", move || {
            if *seen.borrow() {
                Ok(())
            } else {
                Err("the kernel does not hold the current Services yet".to_owned())
            }
        });
        let sync = Sync {
            table: config.table().to_owned(),
            node: self.node.clone(),
            scope: Scope {
                pod_cidr: config.pods(),
                service_cidr: config.services(),
                node_local: [config.dns_ip()].into(),
            },
            services,
            slices,
            synced,
        };
        let done = spawn(
            "service-rules",
            TaskKind::Critical,
            sync.run(shutdown.clone()),
        );
        shutdown.wait().await;
        // A panic in it has already ended the process.
        let _ = done.await;
        Ok(())
    }

    async fn start_dns(
        &self,
        services: &Cache<Service>,
        slices: &Cache<EndpointSlice>,
        shutdown: &Shutdown,
    ) -> Result<(), StartError> {
        let config = &self.config;
        let ip = IpAddr::V4(config.dns_ip());
        let upstreams = if config.upstream_dns.is_empty() {
            let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            system_resolvers(&text, ip)
        } else {
            config.upstream_dns.clone()
        };
        let mut domain: Name = config.domain().parse().expect("checked when it was built");
        domain.set_fqdn(true);
        let zone = Zone {
            domain,
            services: services.clone(),
            slices: slices.clone(),
            reverse: vec![config.services(), config.pods()],
        };
        let addr = SocketAddr::new(ip, 53);
        dns::serve(addr, zone, Upstreams(upstreams), shutdown.clone())
            .await
            .map_err(|source| StartError::Bind {
                what: "cluster DNS",
                addr,
                source,
            })
    }
}
