//! The settings of every role on a host, out of the host's address, its folders and the cluster's members. One place, so
//! that `up` and `lab` differ in nothing that matters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use corten_client::ClientConfig;
use ipnet::Ipv4Net;

use crate::pki::{Pki, STORE_MEMBER};

/// The ports of the ecosystem, so that people's habits and tools keep working.
pub mod ports {
    /// Kubernetes API, REST and gRPC.
    pub const API: u16 = 6443;
    /// Store, clients.
    pub const STORE_CLIENT: u16 = 2379;
    /// Store, members.
    pub const STORE_PEER: u16 = 2380;
    /// Node agent.
    pub const NODE_AGENT: u16 = 10250;
    /// Node agent, health.
    pub const NODE_AGENT_HEALTH: u16 = 10248;
    /// Controllers, health and metrics.
    pub const CONTROLLERS: u16 = 10257;
    /// Scheduler, health and metrics.
    pub const SCHEDULER: u16 = 10259;
    /// Proxy, health and metrics.
    pub const PROXY: u16 = 10256;
    /// Store, health and metrics.
    pub const STORE_METRICS: u16 = 2381;
}

/// Unused images go when this much of the disk is used, and pods are kept off the node when only that much is left. The
/// disk of a developer's machine, which all hosts of a lab share, is not the node's own: upstream's 85 and 10 percent are
/// tens of gigabytes of other people's files, and would close a cluster that has all the room it needs.
const DISK_USED_PERCENT: u8 = 97;
const DISK_LEFT_PERCENT: i64 = 1;

/// Addresses that the whole cluster shares.
#[derive(Clone, Debug)]
pub struct Networks {
    /// Pods.
    pub pods: Ipv4Net,
    /// Services.
    pub services: Ipv4Net,
    /// Cluster DNS, within `services`.
    pub dns: Ipv4Addr,
    /// The cluster's domain.
    pub domain: String,
}

impl Default for Networks {
    fn default() -> Self {
        let net = |octets: [u8; 4]| Ipv4Net::new(octets.into(), 16).expect("16 is a prefix length");
        Self {
            pods: net([10, 244, 0, 0]),
            services: net([10, 96, 0, 0]),
            dns: Ipv4Addr::new(10, 96, 0, 10),
            domain: "cluster.local".to_owned(),
        }
    }
}

impl Networks {
    /// The address of the `kubernetes` Service.
    pub fn kubernetes(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::from(self.services.network()) + 1))
    }
}

/// A store member and where its host is.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// The member's name.
    pub name: String,
    /// Its host.
    pub ip: Ipv4Addr,
}

/// One host with all that roles on it need to know.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The node's name.
    pub name: String,
    /// The node's address.
    pub ip: Ipv4Addr,
    /// What survives a reboot.
    pub data_dir: PathBuf,
    /// What does not.
    pub run_dir: PathBuf,
    /// Container logs.
    pub pod_log_dir: PathBuf,
    /// Keys and certificates.
    pub pki: Pki,
    /// Parent of the pods' cgroups.
    pub cgroup_prefix: String,
    /// Folder with `<registry>/hosts.toml`.
    pub registries: Option<PathBuf>,
    /// Addresses that the cluster shares.
    pub networks: Networks,
    /// Where the API servers are; any of them will do.
    pub servers: Vec<String>,
    /// The store's members.
    pub members: Vec<Member>,
}

impl HostSettings {
    fn client(&self, identity: &str) -> ClientConfig {
        let files = self.pki.tls(identity);
        ClientConfig {
            servers: self.servers.clone(),
            ca: Some(files.ca),
            cert: Some(files.cert),
            key: Some(files.key),
        }
    }

    /// A member of several, on its own host.
    pub fn store(&self) -> corten_store::Config {
        let files = self.pki.store_tls(&format!("store-{}", self.name));
        let url = |ip: Ipv4Addr, port: u16| format!("https://{ip}:{port}");
        let cluster: Vec<String> = self
            .members
            .iter()
            .map(|m| format!("{}={}", m.name, url(m.ip, ports::STORE_PEER)))
            .collect();
        corten_store::Config {
            name: self.name.clone(),
            data_dir: self.data_dir.join("store"),
            listen_client_urls: vec![url(self.ip, ports::STORE_CLIENT)],
            listen_peer_urls: vec![url(self.ip, ports::STORE_PEER)],
            initial_cluster: cluster.join(","),
            initial_cluster_token: "corten-lab".to_owned(),
            cert_file: Some(files.cert.clone()),
            key_file: Some(files.key.clone()),
            trusted_ca_file: Some(files.ca.clone()),
            peer_cert_file: Some(files.cert),
            peer_key_file: Some(files.key),
            peer_trusted_ca_file: Some(files.ca),
            peer_cert_allowed_hostname: vec![STORE_MEMBER.to_owned()],
            listen_metrics: Some(SocketAddr::from((self.ip, ports::STORE_METRICS)).to_string()),
            ..corten_store::Config::default()
        }
    }

    /// The only member, within the launcher's process; tools reach it through a socket that only root may open.
    pub fn embedded_store(&self) -> corten_store::Config {
        corten_store::Config {
            name: self.name.clone(),
            data_dir: self.data_dir.join("store"),
            listen_client_urls: vec![format!(
                "unix://{}",
                self.run_dir.join("store.sock").display()
            )],
            listen_peer_urls: vec![format!(
                "unix://{}",
                self.run_dir.join("store-peer.sock").display()
            )],
            ..corten_store::Config::default()
        }
    }

    /// The API server on this host.
    pub fn apiserver(&self) -> corten_apiserver::Config {
        let serving = self.pki.tls("apiserver");
        let store = self.pki.store_tls("apiserver-store-client");
        let agents = self.pki.tls("apiserver-node-client");
        let endpoints = self
            .members
            .iter()
            .map(|m| format!("https://{}:{}", m.ip, ports::STORE_CLIENT))
            .collect();
        corten_apiserver::Config {
            bind_address: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            secure_port: Some(ports::API),
            advertise_address: Some(IpAddr::V4(self.ip)),
            store_endpoints: endpoints,
            store_cafile: Some(store.ca),
            store_certfile: Some(store.cert),
            store_keyfile: Some(store.key),
            client_ca_file: Some(serving.ca),
            tls_cert_file: Some(serving.cert),
            tls_private_key_file: Some(serving.key),
            kubelet_client_certificate: Some(agents.cert),
            kubelet_client_key: Some(agents.key),
            service_account_signing_key_file: Some(self.pki.path("service-account.key")),
            service_cluster_ip_range: Some(self.networks.services),
            encryption_key_file: Some(self.pki.path("encryption.key")),
            audit_log_path: Some(self.data_dir.join("audit").join("audit.log")),
            ..corten_apiserver::Config::default()
        }
    }

    /// The scheduler; alone it needs no election.
    pub fn scheduler(&self, alone: bool) -> corten_scheduler::Config {
        corten_scheduler::Config {
            client: self.client("scheduler"),
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], ports::SCHEDULER))),
            leader_elect: !alone,
            ..corten_scheduler::Config::default()
        }
    }

    /// The controllers; alone they need no election.
    pub fn controllers(&self, alone: bool) -> corten_controllers::Config {
        corten_controllers::Config {
            client: self.client("controllers"),
            cluster_cidr: Some(self.networks.pods),
            root_ca_file: Some(self.pki.path("ca.crt")),
            cluster_signing_cert_file: Some(self.pki.path("ca.crt")),
            cluster_signing_key_file: Some(self.pki.path("ca.key")),
            leader_elect: Some(!alone),
            bind_address: Some(SocketAddr::from(([127, 0, 0, 1], ports::CONTROLLERS))),
            ..corten_controllers::Config::default()
        }
    }

    /// The node agent.
    pub fn node_agent(&self, supervisor: &Path) -> corten_node_agent::Config {
        let identity = format!("node-{}", self.name);
        let files = self.pki.tls(&identity);
        corten_node_agent::Config {
            node_name: self.name.clone(),
            node_ips: vec![IpAddr::V4(self.ip)],
            data_dir: self.data_dir.join("node"),
            run_dir: self.run_dir.join("node"),
            pod_log_dir: self.pod_log_dir.clone(),
            client: self.client(&identity),
            supervisor: supervisor.to_owned(),
            cgroup_prefix: self.cgroup_prefix.clone(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, ports::NODE_AGENT)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], ports::NODE_AGENT_HEALTH)),
            tls_ca: Some(files.ca),
            tls_cert: Some(files.cert),
            tls_key: Some(files.key),
            cluster_dns: vec![IpAddr::V4(self.networks.dns)],
            cluster_domain: self.networks.domain.clone(),
            registries: self.registries.clone(),
            image_gc_high_threshold: DISK_USED_PERCENT,
            image_gc_low_threshold: DISK_USED_PERCENT - 2,
            pressure_disk_percent: DISK_LEFT_PERCENT,
            ..corten_node_agent::Config::default()
        }
    }

    /// The proxy.
    pub fn proxy(&self) -> corten_proxy::Config {
        corten_proxy::Config {
            client: self.client("proxy"),
            node_name: Some(self.name.clone()),
            node_ip: Some(IpAddr::V4(self.ip)),
            cluster_cidr: Some(self.networks.pods),
            service_cidr: Some(self.networks.services),
            cluster_dns: Some(self.networks.dns),
            cluster_domain: Some(self.networks.domain.clone()),
            healthz_bind_address: Some(SocketAddr::from(([127, 0, 0, 1], ports::PROXY))),
            ..corten_proxy::Config::default()
        }
    }
}
