//! What the proxy needs to know, from a TOML file and flags over it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use corten_client::ClientConfig;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The proxy's configuration. Every field is a flag and a key of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, Args)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to reach the API server.
    #[command(flatten)]
    pub client: ClientConfig,
    /// Name of this node, as in its Node object.
    #[arg(long, env = "CORTEN_NODE_NAME")]
    pub node_name: Option<String>,
    /// Address of this node, where Service traffic from the host itself comes from.
    #[arg(long)]
    pub node_ip: Option<IpAddr>,
    /// Addresses of all pods.
    #[arg(long)]
    pub cluster_cidr: Option<Ipv4Net>,
    /// Addresses of all Services.
    #[arg(long)]
    pub service_cidr: Option<Ipv4Net>,
    /// Where cluster DNS is answered, on every node.
    #[arg(long)]
    pub cluster_dns: Option<Ipv4Addr>,
    /// Domain of the cluster.
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// Resolvers for every other name; taken from /etc/resolv.conf when none is given.
    #[arg(long = "upstream-dns", value_delimiter = ',')]
    pub upstream_dns: Vec<SocketAddr>,
    /// Where health and metrics are served.
    #[arg(long)]
    pub healthz_bind_address: Option<SocketAddr>,
    /// Name of the nftables table.
    #[arg(long)]
    pub table: Option<String>,
}

impl Config {
    /// This configuration with whatever `flags` set put over it.
    #[must_use]
    pub fn overridden_by(mut self, flags: &Self) -> Self {
        self.client = self.client.overridden_by(&flags.client);
        macro_rules! take {
            ($($field:ident),*) => { $( if flags.$field.is_some() { self.$field.clone_from(&flags.$field); } )* };
        }
        take!(
            node_name,
            node_ip,
            cluster_cidr,
            service_cidr,
            cluster_dns,
            cluster_domain,
            healthz_bind_address,
            table
        );
        if !flags.upstream_dns.is_empty() {
            self.upstream_dns.clone_from(&flags.upstream_dns);
        }
        self
    }

    /// Pod addresses, upstream's customary range by default.
    pub fn pods(&self) -> Ipv4Net {
        self.cluster_cidr.unwrap_or_else(|| net([10, 244, 0, 0]))
    }

    /// Service addresses.
    pub fn services(&self) -> Ipv4Net {
        self.service_cidr.unwrap_or_else(|| net([10, 96, 0, 0]))
    }

    /// Where cluster DNS is answered.
    pub fn dns_ip(&self) -> Ipv4Addr {
        self.cluster_dns.unwrap_or(Ipv4Addr::new(10, 96, 0, 10))
    }

    /// The cluster's domain.
    pub fn domain(&self) -> &str {
        self.cluster_domain.as_deref().unwrap_or("cluster.local")
    }

    /// The nftables table.
    pub fn table(&self) -> &str {
        self.table.as_deref().unwrap_or("corten")
    }
}

fn net(octets: [u8; 4]) -> Ipv4Net {
    Ipv4Net::new(octets.into(), 16).expect("16 is a prefix length")
}
