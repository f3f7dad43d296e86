//! The binary `corten-apiserver`: arguments, logging, signals; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use corten_apiserver::{Config, Server};
use corten_base::process::Common;

/// Kubernetes' API over REST and gRPC, on an etcd-compatible store.
#[derive(Debug, Parser)]
#[command(name = "corten-apiserver", version = corten_base::version::LONG)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    flags: Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, flags } = Args::parse();
    let role = common.run("corten-apiserver", async |shutdown| {
        let config = flags.over(common.load::<Config>()?);
        let server = Server::build(&config).await?;
        tracing::info!(address = %server.address()?, "serving");
        server.run(shutdown).await?;
        Ok(())
    });
    role.await
}
