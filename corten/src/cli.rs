//! The command line: what can be asked, and where each answer comes from.

mod lab;
mod store;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use corten::host::{self, Paths};
use corten::roles::{self, Role};
use corten::{apply, bench, detach, status, up};
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};
use corten_client::ClientConfig;

/// A Kubernetes-compatible cluster in one binary: start it, look at it, break it, mend it.
#[derive(Debug, Parser)]
#[command(name = "corten", version = corten_base::version::LONG, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a one-machine cluster: every role in one process, state kept over restarts.
    Up {
        #[command(flatten)]
        paths: Paths,
        /// Return when the cluster is ready; it goes on in the background.
        #[arg(long)]
        detach: bool,
        /// Address of this machine; found by default.
        #[arg(long)]
        node_ip: Option<Ipv4Addr>,
    },
    /// Stop the one-machine cluster and its containers; state is kept.
    Down {
        #[command(flatten)]
        paths: Paths,
        /// Leave containers and Services running; the next `up` takes them over.
        #[arg(long)]
        keep_containers: bool,
    },
    /// Show how the one-machine cluster is.
    Status {
        #[command(flatten)]
        paths: Paths,
    },
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig {
        #[command(flatten)]
        paths: Paths,
    },
    /// Create or change the objects of a YAML file, without kubectl.
    Apply {
        #[command(flatten)]
        paths: Paths,
        /// The file.
        #[arg(short, long)]
        filename: PathBuf,
    },
    /// Images of this machine.
    Image {
        #[command(flatten)]
        paths: Paths,
        #[command(subcommand)]
        command: ImageVerb,
    },
    /// Measure the running one-machine cluster.
    Bench {
        #[command(flatten)]
        paths: Paths,
        #[command(flatten)]
        options: bench::Options,
    },
    /// A cluster of several hosts on this machine, each a network namespace.
    Lab(lab::Lab),
    /// Take a backup of the store: checksummed, compressed, encrypted when asked, verified; once or on a schedule.
    Backup(Box<store::Backup>),
    /// Make a member's data folder, in a new cluster, from a backup.
    Restore(Box<store::Restore>),
    /// Make a one-member cluster of a surviving member when a majority is lost for good.
    RecoverQuorum(Box<store::RecoverQuorum>),
    /// Run one role with a configuration file, as its own binary does.
    Role {
        /// Which.
        role: Role,
        /// Its settings (TOML).
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum ImageVerb {
    /// Import a docker or OCI archive.
    Import {
        /// The archive.
        file: PathBuf,
    },
}

pub(crate) fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let run = || -> Result<()> {
        match cli.command {
            // Before a runtime exists: these only start and signal processes.
            Verb::Up {
                paths,
                detach: true,
                node_ip,
            } => up_detached(&paths, node_ip, &cli.telemetry),
            Verb::Down {
                paths,
                keep_containers,
            } => down(&paths, !keep_containers),
            Verb::Kubeconfig { paths } => kubeconfig(&paths),
            Verb::Lab(lab) => lab::run(lab),
            other => {
                tokio::runtime::Runtime::new()?.block_on(run_async(other, &cli.telemetry, &matches))
            }
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corten: {error:#}");
            exit_code(&error)
        }
    }
}

/// A backup that was made is not a failed backup; scripts are told so.
const NOT_RETAINED: u8 = 3;

fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(corten::backup::Failure::NotRetained(..)) => ExitCode::from(NOT_RETAINED),
        _ => ExitCode::FAILURE,
    }
}

async fn run_async(
    verb: Verb,
    telemetry: &TelemetryConfig,
    given: &clap::ArgMatches,
) -> Result<()> {
    // What was given to the verb, as opposed to what it has by default.
    let given = given.subcommand().map_or(given, |(_, given)| given);
    match verb {
        Verb::Backup(backup) => Box::pin(backup.run(telemetry)).await,
        Verb::Restore(restore) => Box::pin(restore.run(given)).await,
        Verb::RecoverQuorum(recover) => Box::pin(recover.run(given)).await,
        Verb::Up { paths, node_ip, .. } => {
            host::require_root()?;
            let _guard = telemetry::init(telemetry, "corten")?;
            if let Some(pid) = detach::running(&paths) {
                bail!("a cluster is running already (pid {pid})");
            }
            let shutdown = Shutdown::new();
            shutdown.on_signals()?;
            let settings = host::settings(&paths, node_ip)?;
            Box::pin(up::run(settings, &paths, shutdown)).await
        }
        Verb::Role { role, config } => {
            let _guard = telemetry::init(telemetry, role.name())?;
            let shutdown = Shutdown::new();
            shutdown.on_signals()?;
            Box::pin(roles::run(role, &config, shutdown)).await
        }
        Verb::Status { paths } => {
            match detach::running(&paths) {
                Some(pid) => println!(
                    "running (pid {pid}), log in {}\n",
                    paths.log_file().display()
                ),
                None => bail!("no cluster is running; start one with `corten up --detach`"),
            }
            print!("{}", status::report(&admin(&paths)).await?);
            Ok(())
        }
        Verb::Apply { paths, filename } => {
            for line in apply::apply(&admin(&paths), &filename).await? {
                println!("{line}");
            }
            Ok(())
        }
        Verb::Image {
            paths,
            command: ImageVerb::Import { file },
        } => {
            host::require_root()?;
            let root = paths.data_dir.join("node").join("images");
            for image in corten_node_agent::images::import_archive(&root, &file).await? {
                println!("{} {}", image.references.join(" "), image.id);
            }
            Ok(())
        }
        Verb::Bench { paths, options } => {
            for line in bench::run(&admin(&paths), &options).await? {
                println!("{line}");
            }
            Ok(())
        }
        Verb::Down { .. } | Verb::Kubeconfig { .. } | Verb::Lab(_) => bail!("handled before"),
    }
}

/// A first start makes keys and waits for the node; beyond this something is wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// The flags that make a process log and export as this one was told to.
fn telemetry_flags(telemetry: &TelemetryConfig) -> Vec<String> {
    let format = telemetry
        .log_format
        .and_then(|format| format.to_possible_value());
    let format = format.map(|value| format!("--log-format={}", value.get_name()));
    let level = telemetry
        .log_level
        .as_ref()
        .map(|level| format!("--log-level={level}"));
    let endpoint = telemetry
        .otlp_endpoint
        .as_ref()
        .map(|endpoint| format!("--otlp-endpoint={endpoint}"));
    [format, level, endpoint].into_iter().flatten().collect()
}

fn up_detached(
    paths: &Paths,
    node_ip: Option<Ipv4Addr>,
    telemetry: &TelemetryConfig,
) -> Result<()> {
    host::require_root()?;
    if let Some(pid) = detach::running(paths) {
        println!("the cluster is running already (pid {pid})");
        return Ok(());
    }
    let _ = std::fs::remove_file(paths.ready_file()); // left by a process that was killed
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("up")
        .arg("--data-dir")
        .arg(&paths.data_dir)
        .arg("--run-dir")
        .arg(&paths.run_dir);
    command.arg("--config-dir").arg(&paths.config_dir);
    if let Some(ip) = node_ip {
        command.arg("--node-ip").arg(ip.to_string());
    }
    command.args(telemetry_flags(telemetry));
    let pid = detach::spawn(command, &paths.log_file())?;
    let took = detach::wait_ready(paths, pid, READY_TIMEOUT)?;
    println!("the cluster is ready after {took} ms (pid {pid})");
    println!("log:        {}", paths.log_file().display());
    println!("kubeconfig: {}", paths.kubeconfig().display());
    Ok(())
}

fn down(paths: &Paths, containers: bool) -> Result<()> {
    host::require_root()?;
    let was_running = detach::down(paths, containers)?;
    println!(
        "{}",
        if was_running {
            "the cluster has stopped"
        } else {
            "no cluster was running"
        }
    );
    Ok(())
}

fn kubeconfig(paths: &Paths) -> Result<()> {
    let path = paths.kubeconfig();
    if !path.exists() {
        bail!("there is no kubeconfig yet; `corten up` makes one");
    }
    println!("{}", path.display());
    Ok(())
}

/// The administrator's way into the cluster of this machine.
fn admin(paths: &Paths) -> ClientConfig {
    let pki = paths.config_dir.join("pki");
    ClientConfig {
        servers: vec![format!("https://127.0.0.1:{}", corten::cluster::ports::API)],
        ca: Some(pki.join("ca.crt")),
        cert: Some(pki.join("admin.crt")),
        key: Some(pki.join("admin.key")),
    }
}

/// The executable that a lab's roles run.
fn binary() -> Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program is")
}
