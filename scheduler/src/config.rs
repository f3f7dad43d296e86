//! The scheduler's configuration: defaults < file < flags. Nothing is opened here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use corten_base::config::ConfigError;
use corten_base::tls::TlsFiles;
use corten_client::ClientConfig;
use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to reach the API servers.
    pub client: ClientConfig,
    /// Pods that name this scheduler are placed.
    pub scheduler_name: String,
    /// Address of /livez, /readyz and /metrics; none serves nothing.
    pub admin_listen: Option<SocketAddr>,
    /// Certificate and key of the admin port; plain HTTP without them.
    pub admin_cert: Option<PathBuf>,
    pub admin_key: Option<PathBuf>,
    /// Place only while holding the lease; off for a scheduler that has no rivals.
    pub leader_elect: bool,
    /// After candidates on this share of nodes, in percent, the search ends; 0 adapts to the cluster's size.
    pub percentage_of_nodes_to_score: u8,
    /// Bindings under way at once.
    pub binds_at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client: ClientConfig::default(),
            scheduler_name: "default-scheduler".to_owned(),
            admin_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 10_259))),
            admin_cert: None,
            admin_key: None,
            leader_elect: true,
            percentage_of_nodes_to_score: 0,
            binds_at_once: 256,
        }
    }
}

/// Flags; what is given wins over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    #[command(flatten)]
    pub client: ClientConfig,
    /// Place pods that name this scheduler.
    #[arg(long)]
    pub scheduler_name: Option<String>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long)]
    pub admin_listen: Option<SocketAddr>,
    /// Certificate of the admin port.
    #[arg(long)]
    pub admin_cert: Option<PathBuf>,
    /// Key of the admin port.
    #[arg(long)]
    pub admin_key: Option<PathBuf>,
    /// Place only while holding the lease `kube-system/kube-scheduler`.
    #[arg(long)]
    pub leader_elect: Option<bool>,
    /// End the search for candidates at this share of nodes, in percent; 0 adapts.
    #[arg(long)]
    pub percentage_of_nodes_to_score: Option<u8>,
}

impl Config {
    /// This configuration with the flags put over it.
    #[must_use]
    pub fn overridden_by(mut self, flags: Flags) -> Self {
        self.client = self.client.overridden_by(&flags.client);
        self.scheduler_name = flags.scheduler_name.unwrap_or(self.scheduler_name);
        self.admin_listen = flags.admin_listen.or(self.admin_listen);
        self.admin_cert = flags.admin_cert.or(self.admin_cert);
        self.admin_key = flags.admin_key.or(self.admin_key);
        self.leader_elect = flags.leader_elect.unwrap_or(self.leader_elect);
        self.percentage_of_nodes_to_score = flags
            .percentage_of_nodes_to_score
            .unwrap_or(self.percentage_of_nodes_to_score);
        self
    }

    /// Says all that is wrong at once.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        if self.scheduler_name.is_empty() {
            faults.push("scheduler_name is empty".to_owned());
        }
        if self.percentage_of_nodes_to_score > 100 {
            faults.push("percentage_of_nodes_to_score is above 100".to_owned());
        }
        if self.binds_at_once == 0 {
            faults.push("binds_at_once is 0".to_owned());
        }
        if self.admin_cert.is_some() != self.admin_key.is_some() {
            faults.push("admin_cert and admin_key go together".to_owned());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(faults))
        }
    }

    /// Files of the admin port's TLS, if it speaks TLS. Clients are known by the cluster's authority.
    pub(crate) fn admin_tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.admin_cert.clone()?, self.admin_key.clone()?);
        let ca = self.client.ca.clone().unwrap_or_default();
        Some(TlsFiles { ca, cert, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_reported_together() {
        let config = Config {
            scheduler_name: String::new(),
            percentage_of_nodes_to_score: 101,
            ..Config::default()
        };
        let text = config.check().expect_err("faults").to_string();
        assert!(
            text.contains("scheduler_name") && text.contains("percentage"),
            "{text}"
        );
        assert!(Config::default().check().is_ok());
    }
}
