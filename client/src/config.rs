//! Where the API servers are and who we are to them: one struct for TOML and flags. It resolves nothing and opens
//! nothing; `connect` does.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How to reach the API servers. Flatten it into a component's arguments and configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// API servers, as `https://host:6443`; tried in turn.
    #[arg(
        long = "server",
        env = "CORTEN_SERVERS",
        value_delimiter = ',',
        id = "servers"
    )]
    pub servers: Vec<String>,
    /// PEM file of the authority that signed the API servers' certificates.
    #[arg(long = "ca", id = "ca")]
    pub ca: Option<PathBuf>,
    /// PEM file of our client certificate.
    #[arg(long = "cert", id = "cert")]
    pub cert: Option<PathBuf>,
    /// PEM file of our client key.
    #[arg(long = "key", id = "key")]
    pub key: Option<PathBuf>,
}

impl ClientConfig {
    /// This configuration with whatever `flags` set put over it.
    pub fn overridden_by(mut self, flags: &Self) -> Self {
        if !flags.servers.is_empty() {
            self.servers.clone_from(&flags.servers);
        }
        for (mine, theirs) in [
            (&mut self.ca, &flags.ca),
            (&mut self.cert, &flags.cert),
            (&mut self.key, &flags.key),
        ] {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        self
    }
}
