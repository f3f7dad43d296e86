//! corten-proxy: Services and cluster DNS of one node. Only flags and supervision; the work is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};
use corten_proxy::{Config, Proxy};

/// The node's data plane: Services as nftables verdict maps, and cluster DNS on every node.
#[derive(Debug, Parser)]
#[command(name = "corten-proxy", version = corten_base::version::LONG)]
struct Args {
    /// Configuration file (TOML); flags win over it.
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("corten-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let _guard = telemetry::init(&args.telemetry, "corten-proxy")?;
    let file: Config = corten_base::config::load(args.config.as_deref())?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    Proxy::build(file.overridden_by(&args.flags), None)?
        .run(shutdown)
        .await?;
    Ok(())
}
