//! corten-controllers: all controllers in one process. Only flags and supervision; the work is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};
use corten_controllers::{Config, Controllers};

/// Drives the cluster to what its objects ask for.
#[derive(Debug, Parser)]
#[command(name = "corten-controllers", version = corten_base::version::LONG)]
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
            eprintln!("corten-controllers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let _guard = telemetry::init(&args.telemetry, "corten-controllers")?;
    let file: Config = corten_base::config::load(args.config.as_deref())?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    Controllers::build(file.overridden_by(&args.flags), None)?
        .run(shutdown)
        .await?;
    Ok(())
}
