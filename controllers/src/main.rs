//! corten-controllers: all controllers in one process. Only flags and supervision; the work is in the library.

use std::process::ExitCode;

use clap::Parser;
use corten_base::process::Common;
use corten_controllers::{Config, Controllers};

/// Drives the cluster to what its objects ask for.
#[derive(Debug, Parser)]
#[command(name = "corten-controllers", version = corten_base::version::LONG)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    flags: Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, flags } = Args::parse();
    let role = common.run("corten-controllers", async |shutdown| {
        let config = common.load::<Config>()?.overridden_by(&flags);
        Controllers::build(config, None)?.run(shutdown).await?;
        Ok(())
    });
    role.await
}
