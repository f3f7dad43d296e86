//! `corten lab`: a cluster of several hosts on one machine, and the ways to break and mend it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use corten::detach;
use corten::lab::{Lab as Cluster, Shape};
use corten::roles::Role;

/// Without a verb: make the lab if it is not there, and start what does not run.
#[derive(Debug, Args)]
pub(crate) struct Lab {
    #[command(flatten)]
    shape: Shape,
    /// Name of the lab; several can stand side by side.
    #[arg(long, default_value = "lab", global = true)]
    name: String,
    /// Folder of all labs.
    #[arg(long, default_value = "/var/lib/corten-lab", global = true)]
    dir: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Args)]
struct Which {
    /// The host, as in h1.
    host: String,
    /// One role of it; all by default.
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start what does not run, of one host or of all.
    Start {
        /// The host; all by default.
        host: Option<String>,
        /// One role of it.
        role: Option<Role>,
        #[command(flatten)]
        shape: Shape,
    },
    /// Stop roles with SIGTERM.
    Stop(Which),
    /// Kill roles with SIGKILL.
    Kill(Which),
    /// Cut a host off from the others.
    Cut {
        /// The host.
        host: String,
    },
    /// Join it again.
    Heal {
        /// The host.
        host: String,
    },
    /// Show a role's log.
    Logs {
        /// The host.
        host: String,
        /// The role; the API server by default.
        #[arg(default_value = "apiserver")]
        role: Role,
        /// Go on as it grows.
        #[arg(short, long)]
        follow: bool,
    },
    /// Show hosts and processes.
    Status,
    /// Run kubectl as the administrator, inside the lab's network.
    Kubectl {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a command on a host.
    Exec {
        /// The host.
        host: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// End everything and remove it.
    Delete,
}

/// Elections, registrations and images: a lab on two cores takes a few seconds, a loaded one more.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) fn run(args: Lab) -> Result<()> {
    let dir = args.dir.join(&args.name);
    let binary = super::binary()?;
    let open = || Cluster::open(&dir, &binary);
    match args.verb {
        None => start(&args.name, &dir, args.shape),
        Some(Verb::Start {
            host: None, shape, ..
        }) => start(&args.name, &dir, shape),
        Some(Verb::Start {
            host: Some(host),
            role,
            ..
        }) => open()?.start_host(&host, role),
        Some(Verb::Stop(which)) => open()?.stop_host(&which.host, which.role),
        Some(Verb::Kill(which)) => open()?.kill_host(&which.host, which.role),
        Some(Verb::Cut { host }) => open()?.cut(&host),
        Some(Verb::Heal { host }) => open()?.heal(&host),
        Some(Verb::Logs { host, role, follow }) => {
            detach::tail(&open()?.log_file(&host, role)?, follow, std::io::stdout())
        }
        Some(Verb::Status) => {
            print!("{}", open()?.status());
            Ok(())
        }
        Some(Verb::Kubectl { args }) => pass(open()?.kubectl().args(args)),
        Some(Verb::Exec { host, command }) => {
            pass(open()?.on_host(&host, &command[0])?.args(&command[1..]))
        }
        Some(Verb::Delete) => open()?.delete(),
    }
}

fn start(name: &str, dir: &std::path::Path, shape: Shape) -> Result<()> {
    let binary = super::binary()?;
    let lab = if dir.join("plan.json").exists() {
        Cluster::open(dir, &binary)?
    } else {
        Cluster::create(dir, name, shape, &binary)?
    };
    lab.start()?;
    let took = lab.wait_ready(READY_TIMEOUT)?;
    println!(
        "{} nodes are ready after {:.1} s",
        lab.plan().hosts.len(),
        took.as_secs_f64()
    );
    print!("{}", lab.status());
    println!("try: corten lab kubectl get nodes -o wide");
    Ok(())
}

/// Runs a command in our place and ends as it does.
fn pass(command: &mut std::process::Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("ended with {status}");
    }
    Ok(())
}
