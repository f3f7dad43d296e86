//! corten-scheduler: flags and supervision only; the work is in the library.

use std::process::ExitCode;

use clap::Parser;
use corten_base::process::Common;
use corten_scheduler::Scheduler;
use corten_scheduler::config::{Config, Flags};

/// Decides which node each pod runs on.
#[derive(Debug, Parser)]
#[command(name = "corten-scheduler", version = corten_base::version::LONG)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    flags: Flags,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, flags } = Args::parse();
    let role = common.run("corten-scheduler", async |shutdown| {
        let config = common.load::<Config>()?.overridden_by(flags);
        Scheduler::build(config, None)?.run(shutdown).await?;
        Ok(())
    });
    role.await
}
