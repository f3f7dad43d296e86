//! A multi-host cluster on one machine: each host is a network namespace with its own folders, certificates and processes,
//! joined to the others by a bridge in a namespace of its own. For trying things out, for breaking them, and for e2e tests,
//! which use this very code.
//!
//! ```text
//!  <lab>-net: br0 (x.y.z.254) ──┬── v1 ═ u0 in <lab>-h1 (x.y.z.1): store apiserver scheduler controllers node-agent proxy
//!                               ├── v2 ═ u0 in <lab>-h2 ...
//!                               └── table bridge cut: ports that are cut off
//! ```
//!
//! With several segments there is a bridge for each (br0, br1, ...), and <lab>-net routes between them: hosts reach each
//! other, pods only through what the agents set up.
//!
//! Everything that a lab made is found again through its folder; `delete` removes all of it.

mod net;
mod plan;
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::cluster::ports;
use crate::pki::kubeconfig;
use crate::roles::Role;

pub use plan::{Host, Plan, Shape};

/// How long a role may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A lab by its folder.
#[derive(Clone, Debug)]
pub struct Lab {
    plan: Plan,
    binary: PathBuf,
}

impl Lab {
    /// Makes the folders, certificates and network of a new lab; starts nothing. `binary` is the `corten` executable.
    pub fn create(dir: &Path, name: &str, shape: Shape, binary: &Path) -> Result<Self> {
        crate::host::require_root()?;
        if dir.join("plan.json").exists() {
            bail!(
                "there is a lab in {} already; delete it first",
                dir.display()
            );
        }
        let plan = Plan::new(dir, name, shape)?;
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("plan.json"), serde_json::to_vec_pretty(&plan)?)?;
        let lab = Self {
            plan,
            binary: binary.to_owned(),
        };
        net::create(&lab.plan)?;
        lab.write_files()?;
        Ok(lab)
    }

    /// Opens the lab in `dir`.
    pub fn open(dir: &Path, binary: &Path) -> Result<Self> {
        let text = std::fs::read(dir.join("plan.json"))
            .with_context(|| format!("there is no lab in {}", dir.display()))?;
        Ok(Self {
            plan: serde_json::from_slice(&text)?,
            binary: binary.to_owned(),
        })
    }

    /// What the lab consists of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The administrator's kubeconfig, for use inside the lab's network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plan.dir.join("admin.kubeconfig")
    }

    /// Configuration files of every role of every host, and the kubeconfig.
    fn write_files(&self) -> Result<()> {
        let pki = self.plan.pki()?;
        let server = format!("https://{}:{}", self.plan.hosts[0].ip, ports::API);
        let config = kubeconfig(&pki, &server, &self.plan.name, "admin")?;
        corten_base::pki::write_private(&self.kubeconfig(), &config)?;
        for host in &self.plan.hosts {
            let settings = self.plan.settings(host)?;
            let dir = self.plan.host_dir(host);
            for sub in ["config", "log", "run", "registries"] {
                std::fs::create_dir_all(dir.join(sub))?;
            }
            for role in &host.roles {
                let text = match role {
                    Role::Store => toml::to_string(&settings.store())?,
                    Role::Apiserver => toml::to_string(&settings.apiserver())?,
                    Role::Scheduler => toml::to_string(&settings.scheduler(false))?,
                    Role::Controllers => toml::to_string(&settings.controllers(false))?,
                    Role::NodeAgent => toml::to_string(&settings.node_agent(&self.binary))?,
                    Role::Proxy => toml::to_string(&settings.proxy())?,
                };
                std::fs::write(
                    dir.join("config").join(format!("{}.toml", role.name())),
                    text,
                )?;
            }
        }
        Ok(())
    }

    /// Lets every host pull `registry`'s images from `endpoint`, as containerd's hosts.toml says it.
    pub fn add_registry(&self, registry: &str, endpoint: &str) -> Result<()> {
        self.add_mirrors(registry, endpoint, &[endpoint])
    }

    /// Lets every host pull `registry`'s images from `mirrors` in turn, and then from `server`.
    pub fn add_mirrors(&self, registry: &str, server: &str, mirrors: &[&str]) -> Result<()> {
        for host in &self.plan.hosts {
            let dir = self.plan.host_dir(host).join("registries").join(registry);
            std::fs::create_dir_all(&dir)?;
            let mut text = format!("server = \"{server}\"\n");
            for mirror in mirrors {
                text.push_str(&format!(
                    "[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
                ));
            }
            std::fs::write(dir.join("hosts.toml"), text)?;
        }
        Ok(())
    }

    /// Starts every role that does not run, stores first.
    pub fn start(&self) -> Result<()> {
        for role in Role::ALL {
            for host in self
                .plan
                .hosts
                .iter()
                .filter(|host| host.roles.contains(&role))
            {
                self.start_role(host, role)?;
            }
        }
        Ok(())
    }

    /// Starts one role (or all) of a host, where it does not run.
    pub fn start_host(&self, host: &str, role: Option<Role>) -> Result<()> {
        let host = self.host(host)?;
        for found in host
            .roles
            .iter()
            .filter(|found| role.is_none_or(|role| role == **found))
        {
            self.start_role(host, *found)?;
        }
        Ok(())
    }

    fn start_role(&self, host: &Host, role: Role) -> Result<()> {
        if self.pid(host, role).is_some() {
            return Ok(());
        }
        let dir = self.plan.host_dir(host);
        let mut command = process::command(&self.plan, host, &self.binary, role);
        command.current_dir("/");
        let log = dir.join("log").join(format!("{}.log", role.name()));
        let pid = crate::detach::spawn(command, &log)?;
        std::fs::write(self.pid_file(host, role), pid.to_string())?;
        Ok(())
    }

    /// Stops roles of a host with SIGTERM, last first.
    pub fn stop_host(&self, host: &str, role: Option<Role>) -> Result<()> {
        self.end(host, role, Signal::SIGTERM)
    }

    /// Kills roles of a host with SIGKILL.
    pub fn kill_host(&self, host: &str, role: Option<Role>) -> Result<()> {
        self.end(host, role, Signal::SIGKILL)
    }

    fn end(&self, host: &str, role: Option<Role>, signal: Signal) -> Result<()> {
        let host = self.host(host)?;
        let mut pids = Vec::new();
        for found in host
            .roles
            .iter()
            .rev()
            .filter(|found| role.is_none_or(|role| role == **found))
        {
            if let Some(pid) = self.pid(host, *found) {
                crate::detach::signal(pid, signal)?;
                pids.push((*found, pid));
            }
        }
        for (found, pid) in pids {
            crate::detach::wait_gone(pid, STOP_TIMEOUT)?;
            let _ = std::fs::remove_file(self.pid_file(host, found));
        }
        Ok(())
    }

    /// The pid of a running role.
    pub fn role_pid(&self, host: &str, role: Role) -> Result<Option<i32>> {
        Ok(self.pid(self.host(host)?, role))
    }

    fn pid(&self, host: &Host, role: Role) -> Option<i32> {
        let pid = std::fs::read_to_string(self.pid_file(host, role))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        crate::detach::is_alive(pid).then_some(pid)
    }

    fn pid_file(&self, host: &Host, role: Role) -> PathBuf {
        self.plan
            .host_dir(host)
            .join("run")
            .join(format!("{}.pid", role.name()))
    }

    /// Where a role logs.
    pub fn log_file(&self, host: &str, role: Role) -> Result<PathBuf> {
        let host = self.host(host)?;
        Ok(self
            .plan
            .host_dir(host)
            .join("log")
            .join(format!("{}.log", role.name())))
    }

    fn host(&self, name: &str) -> Result<&Host> {
        let known: Vec<&str> = self
            .plan
            .hosts
            .iter()
            .map(|host| host.name.as_str())
            .collect();
        let found = self.plan.hosts.iter().find(|host| host.name == name);
        found.with_context(|| {
            format!(
                "there is no host {name}; the hosts are {}",
                known.join(", ")
            )
        })
    }

    /// Cuts a host off from all others, in both directions; its own processes go on.
    pub fn cut(&self, host: &str) -> Result<()> {
        net::cut(&self.plan, self.host(host)?)
    }

    /// Joins a host to the others again.
    pub fn heal(&self, host: &str) -> Result<()> {
        net::heal(&self.plan, self.host(host)?)
    }

    /// A command that runs on a host.
    pub fn on_host(&self, host: &str, program: &str) -> Result<Command> {
        Ok(net::enter(
            &net::host_namespace(&self.plan, self.host(host)?),
            program,
        ))
    }

    /// A command that runs beside the hosts, where it reaches all of them.
    pub fn beside(&self, program: &str) -> Command {
        net::enter(&net::underlay_namespace(&self.plan), program)
    }

    /// kubectl as the administrator, with its caches inside the lab's folder.
    pub fn kubectl(&self) -> Command {
        let program = std::env::var("CORTEN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let mut command = self.beside(&program);
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.plan.dir.join("home"));
        command.env("KUBECACHEDIR", self.plan.dir.join("home").join("cache"));
        command
    }

    /// Waits until every node is Ready, as kubectl sees it.
    pub fn wait_ready(&self, timeout: Duration) -> Result<Duration> {
        let begin = Instant::now();
        let nodes = self
            .plan
            .hosts
            .iter()
            .filter(|host| host.roles.contains(&Role::NodeAgent))
            .count();
        loop {
            let path = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\" \"}{end}";
            let out = self
                .kubectl()
                .args(["get", "nodes", "-o", path, "--request-timeout=5s"])
                .output()?;
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            if text
                .split_whitespace()
                .filter(|status| *status == "True")
                .count()
                == nodes
            {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > timeout {
                let error = String::from_utf8_lossy(&out.stderr).into_owned();
                bail!(
                    "the lab is not ready after {} s: nodes {text:?} {error}",
                    timeout.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A line for each role of each host.
    pub fn status(&self) -> String {
        let mut out = String::new();
        for host in &self.plan.hosts {
            let cut = if net::is_cut(&self.plan, host) {
                " (cut off)"
            } else {
                ""
            };
            let segment = if self.plan.segments > 1 {
                format!(" on segment {}", host.segment)
            } else {
                String::new()
            };
            out.push_str(&format!("{} {}{segment}{cut}\n", host.name, host.ip));
            for role in &host.roles {
                let state = self
                    .pid(host, *role)
                    .map_or_else(|| "stopped".to_owned(), |pid| format!("pid {pid}"));
                out.push_str(&format!("  {:<12} {state}\n", role.name()));
            }
        }
        out
    }

    /// Ends all processes and containers and removes network and folder. Goes on past faults and tells the last.
    pub fn delete(self) -> Result<()> {
        let mut last = Ok(());
        let mut keep = |done: Result<()>| {
            if done.is_err() {
                last = done;
            }
        };
        for host in &self.plan.hosts {
            keep(self.kill_host(&host.name, None));
        }
        for host in &self.plan.hosts {
            keep(crate::detach::stop_containers(
                &self.plan.cgroup_prefix(host),
            ));
        }
        keep(process::unmount_below(&self.plan.dir));
        keep(net::delete(&self.plan));
        keep(std::fs::remove_dir_all(&self.plan.dir).context("cannot remove the lab's folder"));
        last
    }
}
