//! corten-scheduler: flags and supervision only; the work is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};
use corten_scheduler::Scheduler;
use corten_scheduler::config::{Config, Flags};

/// Decides which node each pod runs on.
#[derive(Debug, Parser)]
#[command(name = "corten-scheduler", version = corten_base::version::VERSION)]
struct Args {
    /// Configuration file (TOML); flags win over it.
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("corten-scheduler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let _guard = telemetry::init(&args.telemetry, "corten-scheduler")?;
    let file: Config = corten_base::config::load(args.config.as_deref())?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let scheduler = Scheduler::build(file.overridden_by(args.flags), None)?;
    scheduler.run(shutdown).await?;
    Ok(())
}
