//! `corten-store`: one member of the store as a process.
//!
//! Only supervises: flags and file to configuration, logging, signals, exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};
use corten_store::archive::Secret;
use corten_store::{Config, Refounding, Store};

/// A member of Corten's replicated key-value store, which speaks etcd's v3 API.
#[derive(Parser)]
#[command(name = "corten-store", version = corten_base::version::LONG)]
struct Args {
    /// TOML file with the same names as the flags; flags win over it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Print the configuration that results, and exit.
    #[arg(long)]
    dump_config: bool,
    /// Fill the data folder from a backup (what `etcdctl snapshot save` wrote), as a member of a new cluster, and exit.
    /// Every member of the new cluster is restored from the same file with the same --initial-cluster.
    #[arg(long, value_name = "BACKUP")]
    restore: Option<PathBuf>,
    /// With --restore: add this to the revision, so that clients do not take new changes for ones that they have seen.
    #[arg(long, default_value_t = 0, requires = "restore")]
    bump_revision: u64,
    /// With --restore: put the past out of reach, so that clients' watches start over.
    #[arg(long, requires = "restore")]
    mark_compacted: bool,
    #[command(flatten)]
    store: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

/// For blocking work under way when everything that matters has been stopped.
const EXIT: std::time::Duration = std::time::Duration::from_millis(500);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            // Also when logging is not up yet.
            #[expect(
                clippy::print_stderr,
                reason = "the last word of a process that cannot go on"
            )]
            {
                eprintln!("corten-store: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let matches = Args::command().get_matches();
    let args = Args::from_arg_matches(&matches)?;
    let file: Config = corten_base::config::load(args.config.as_deref())?;
    let config = Config::merge(file, args.store, &matches)?;
    if args.dump_config {
        #[expect(clippy::print_stdout, reason = "asked for on the command line")]
        {
            println!("{}", config.to_toml()?);
        }
        return Ok(());
    }
    if let Some(backup) = &args.restore {
        let how = Refounding {
            bump_revision: args.bump_revision,
            mark_compacted: args.mark_compacted,
        };
        let restored = corten_store::restore(&config, backup, &Secret::None, how)?;
        #[expect(clippy::print_stdout, reason = "asked for on the command line")]
        {
            println!(
                "restored {} rows at revision {} (hash {:08x}) as member {:x} of cluster {:x}",
                restored.rows,
                restored.revision,
                restored.hash,
                restored.member_id,
                restored.cluster_id
            );
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut telemetry_config = args.telemetry;
    // openraft tells every step of every election at info.
    telemetry_config
        .log_level
        .get_or_insert_with(|| "info,openraft=error".to_owned());
    let result = runtime.block_on(async {
        let _guard = telemetry::init(&telemetry_config, "corten-store")?;
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let store = Store::build(config).await?;
        store.run(shutdown).await?;
        Ok(())
    });
    // Connections that outlived the drain time must not hold up the exit.
    runtime.shutdown_timeout(EXIT);
    result
}
