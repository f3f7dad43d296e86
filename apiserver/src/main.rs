//! The binary `corten-apiserver`: arguments, logging, signals; everything else is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use corten_apiserver::{Config, Server};
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};

/// Kubernetes' API over REST and gRPC, on an etcd-compatible store.
#[derive(Debug, Parser)]
#[command(name = "corten-apiserver", version = corten_base::version::VERSION)]
struct Arguments {
    /// Settings in TOML; flags stand over them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _guard = match telemetry::init(&arguments.telemetry, "apiserver") {
        Ok(guard) => guard,
        Err(error) => return fail(&error),
    };
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

async fn serve(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let file = corten_base::config::load::<Config>(arguments.config.as_deref())?;
    let config = arguments.flags.over(file);
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let server = Server::build(&config).await?;
    tracing::info!(address = %server.address()?, "serving");
    server.run(shutdown).await?;
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that could not start"
)]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    eprintln!("corten-apiserver: {text}");
    ExitCode::FAILURE
}
