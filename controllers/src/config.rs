//! What the controllers need to know, from a TOML file and flags over it. Nothing is opened here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use corten_base::config::ConfigError;
use corten_client::ClientConfig;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The controllers' configuration. Every field is a flag and a key of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, Args)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to reach the API server.
    #[command(flatten)]
    pub client: ClientConfig,
    /// Addresses of all pods; every node gets a part. Default 10.244.0.0/16.
    #[arg(long)]
    pub cluster_cidr: Option<Ipv4Net>,
    /// Length of the prefix of a node's part. Default 24.
    #[arg(long)]
    pub node_cidr_mask_size: Option<u8>,
    /// PEM file of the authority that pods shall trust; without it no ConfigMap kube-root-ca.crt is published.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// PEM file of the authority that signs approved certificate requests; without it none is signed.
    #[arg(long)]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// PEM file of that authority's key.
    #[arg(long)]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// Seconds that a node may be silent before it counts as unreachable, with or without an `s`. Default 50.
    #[arg(long)]
    pub node_monitor_grace_period: Option<String>,
    /// Act only while holding the lease; off for controllers that have no rivals. Default true.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: Option<bool>,
    /// Where health and metrics are served; none serves nothing.
    #[arg(long)]
    pub bind_address: Option<SocketAddr>,
}

/// The configuration with its defaults, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Addresses of all pods.
    pub cluster_cidr: Ipv4Net,
    /// Length of the prefix of a node's part.
    pub node_prefix: u8,
    /// How long a node may be silent.
    pub grace: Duration,
    /// Whether rivals are to be expected.
    pub leader_elect: bool,
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
            cluster_cidr,
            node_cidr_mask_size,
            root_ca_file,
            cluster_signing_cert_file,
            cluster_signing_key_file,
            node_monitor_grace_period,
            leader_elect,
            bind_address
        );
        self
    }

    /// Fills in defaults and reports all faults at once.
    pub fn check(&self) -> Result<Checked, ConfigError> {
        let mut faults = Vec::new();
        let default = Ipv4Net::new([10, 244, 0, 0].into(), 16).expect("16 is a prefix length");
        let cluster_cidr = self.cluster_cidr.unwrap_or(default);
        let node_prefix = self.node_cidr_mask_size.unwrap_or(24);
        // Beyond /30 no address is left for a pod; 16 bits of nodes are more than a cluster can have.
        if node_prefix < cluster_cidr.prefix_len()
            || node_prefix > 30
            || node_prefix - cluster_cidr.prefix_len() > 16
        {
            faults.push(format!(
                "node_cidr_mask_size {node_prefix} does not fit into {cluster_cidr}"
            ));
        }
        let grace = self.node_monitor_grace_period.as_deref().unwrap_or("50s");
        let seconds: u64 = grace.trim_end_matches('s').parse().unwrap_or(0);
        if seconds == 0 {
            faults.push(format!(
                "node_monitor_grace_period {grace:?} is not a number of seconds above 0"
            ));
        }
        if self.cluster_signing_cert_file.is_some() != self.cluster_signing_key_file.is_some() {
            faults.push(
                "cluster_signing_cert_file and cluster_signing_key_file go together".to_owned(),
            );
        }
        if !faults.is_empty() {
            return Err(ConfigError::Invalid(faults));
        }
        Ok(Checked {
            cluster_cidr,
            node_prefix,
            grace: Duration::from_secs(seconds),
            leader_elect: self.leader_elect.unwrap_or(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_together() {
        let config = Config {
            node_cidr_mask_size: Some(8),
            node_monitor_grace_period: Some("soon".to_owned()),
            cluster_signing_key_file: Some("ca.key".into()),
            ..Config::default()
        };
        let Err(ConfigError::Invalid(faults)) = config.check() else {
            panic!("it must fail")
        };
        assert_eq!(faults.len(), 3);
    }

    #[test]
    fn flags_win() {
        let file = Config {
            leader_elect: Some(true),
            ..Config::default()
        };
        let flags = Config {
            leader_elect: Some(false),
            ..Config::default()
        };
        let checked = file.overridden_by(&flags).check().expect("valid");
        assert_eq!(
            (
                checked.leader_elect,
                checked.node_prefix,
                checked.grace.as_secs()
            ),
            (false, 24, 50)
        );
    }
}
