//! Running one role out of a configuration file, as the lab does for each of its processes. The role's own binary does the
//! same; this saves five of them where disk or link time matters.

use std::path::Path;

use anyhow::Result;
use corten_base::config::load;
use corten_base::shutdown::Shutdown;
use corten_client::Client;

/// The roles, in the order in which they start.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Store member.
    Store,
    /// API server.
    Apiserver,
    /// Scheduler.
    Scheduler,
    /// Controllers.
    Controllers,
    /// Node agent.
    NodeAgent,
    /// Proxy.
    Proxy,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Store,
        Self::Apiserver,
        Self::Scheduler,
        Self::Controllers,
        Self::NodeAgent,
        Self::Proxy,
    ];

    /// The role's name, as in flags, file names and `corten-<name>`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Apiserver => "apiserver",
            Self::Scheduler => "scheduler",
            Self::Controllers => "controllers",
            Self::NodeAgent => "node-agent",
            Self::Proxy => "proxy",
        }
    }
}

/// Runs `role` with the settings in `file` until `shutdown`.
pub async fn run(role: Role, file: &Path, shutdown: Shutdown) -> Result<()> {
    match role {
        Role::Store => {
            let store = corten_store::Store::build(load(Some(file))?).await?;
            store.run(shutdown).await?;
        }
        Role::Apiserver => {
            let server = corten_apiserver::Server::build(&load(Some(file))?).await?;
            server.run(shutdown).await?;
        }
        Role::Scheduler => {
            corten_scheduler::Scheduler::build(load(Some(file))?, None)?
                .run(shutdown)
                .await?;
        }
        Role::Controllers => {
            corten_controllers::Controllers::build(load(Some(file))?, None)?
                .run(shutdown)
                .await?;
        }
        Role::NodeAgent => {
            let config: corten_node_agent::Config = load(Some(file))?;
            let client = Client::connect(&config.client)?;
            let agent = corten_node_agent::Agent::build(config, client).await?;
            agent.run(shutdown).await;
        }
        Role::Proxy => {
            corten_proxy::Proxy::build(load(Some(file))?, None)?
                .run(shutdown)
                .await?;
        }
    }
    Ok(())
}
