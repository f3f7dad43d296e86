//! corten-proxy: Services and cluster DNS of one node. Only flags and supervision; the work is in the library.

use std::process::ExitCode;

use clap::Parser;
use corten_base::process::Common;
use corten_proxy::{Config, Proxy};

/// The node's data plane: Services as nftables verdict maps, and cluster DNS on every node.
#[derive(Debug, Parser)]
#[command(name = "corten-proxy", version = corten_base::version::LONG)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    flags: Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { common, flags } = Args::parse();
    let role = common.run("corten-proxy", async |shutdown| {
        let config = common.load::<Config>()?.overridden_by(&flags);
        Proxy::build(config, None)?.run(shutdown).await?;
        Ok(())
    });
    role.await
}
