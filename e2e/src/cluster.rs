//! One lab for one test: made, started, driven through kubectl, and removed whatever happens.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use corten::lab::{Lab, Shape};
use corten::roles::Role;
use serde_json::Value;

use crate::registry::Registry;
use crate::wait::until;

/// Where labs of tests live; beside nothing that a person might use.
const ROOT: &str = "/var/lib/corten-e2e";
/// A cluster that is not ready by then is broken.
const READY: Duration = Duration::from_secs(120);

/// A running lab with a registry.
pub struct Cluster {
    lab: Option<Lab>,
    registry: Registry,
    dir: PathBuf,
}

impl Cluster {
    /// Starts `members` store members with API servers, and `nodes` nodes. Debris of an earlier run is removed first.
    pub fn start(name: &str, members: u8, nodes: u8) -> Result<Self> {
        let shape = Shape {
            members,
            nodes,
            segments: 1,
        };
        Self::prepare(name, shape)?.run()
    }

    /// Starts a lab of any shape.
    pub fn start_shaped(name: &str, shape: Shape) -> Result<Self> {
        Self::prepare(name, shape)?.run()
    }

    /// Makes a lab and its registry but starts no role yet: a test may change the roles' settings first.
    pub fn prepare(name: &str, shape: Shape) -> Result<Self> {
        let dir = Path::new(ROOT).join(name);
        let binary = binary()?;
        if let Ok(old) = Lab::open(&dir, &binary) {
            old.delete()?;
        }
        let lab = Lab::create(&dir, name, shape, &binary)?;
        let beside_lab = lab.clone();
        let ip = lab.plan().beside().to_string();
        let at = (ip.as_str(), crate::registry::PORT);
        let registry = Registry::start(&dir, at, false, |program| beside_lab.beside(program))?;
        lab.add_registry(crate::registry::NAME, &registry.url())?;
        Ok(Self {
            lab: Some(lab),
            registry,
            dir,
        })
    }

    /// Starts every role and waits until all nodes are ready.
    pub fn run(self) -> Result<Self> {
        self.lab().start()?;
        let took = self.lab().wait_ready(READY)?;
        let hosts = &self.lab().plan().hosts;
        let members = hosts
            .iter()
            .filter(|host| host.roles.contains(&Role::Store))
            .count();
        step(&format!(
            "{members} members on {} hosts are ready after {:.1} s",
            hosts.len(),
            took.as_secs_f64()
        ));
        Ok(self)
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("only the destructor takes it")
    }

    /// The test's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The registry that every node knows as `registry.test`.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Builds an image and puts it into the registry as `registry.test/<tag>`.
    pub fn push(&self, recipe: &crate::image::Recipe, tag: &str) -> Result<()> {
        self.registry
            .push(recipe, tag, &self.dir, |program| self.lab().beside(program))
    }

    /// kubectl; its output whatever came of it.
    pub fn kubectl_output(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut command = self.lab().kubectl();
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // kubectl may end without reading.
            let _ = stdin.write_all(input.as_bytes());
        }
        Ok(child.wait_with_output()?)
    }

    /// kubectl that must succeed; its standard output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "")
    }

    /// kubectl with standard input, that must succeed.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let out = self.kubectl_output(args, input)?;
        if !out.status.success() {
            let error = String::from_utf8_lossy(&out.stderr).into_owned();
            bail!(
                "kubectl {}: {}{}",
                args.join(" "),
                String::from_utf8_lossy(&out.stdout),
                error
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// kubectl that must fail; its standard error.
    pub fn kubectl_fails(&self, args: &[&str], input: &str) -> Result<String> {
        let out = self.kubectl_output(args, input)?;
        if out.status.success() {
            bail!(
                "kubectl {} was expected to fail: {}",
                args.join(" "),
                String::from_utf8_lossy(&out.stdout)
            );
        }
        Ok(String::from_utf8_lossy(&out.stderr).into_owned())
    }

    /// An object as JSON.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.kubectl(&["get", kind, name, "-o", "json"])?,
        )?)
    }

    /// The items of a list as JSON.
    pub fn list(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["get", kind, "-l", selector, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// kubectl apply of a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// Waits until pods are Ready.
    pub fn ready(&self, pods: &[&str], limit: Duration) -> Result<()> {
        let limit = format!("--timeout={}s", limit.as_secs());
        for pod in pods {
            self.kubectl(&[
                "wait",
                "--for=condition=Ready",
                &format!("pod/{pod}"),
                &limit,
            ])?;
        }
        Ok(())
    }

    /// A command in a pod's first container; its standard output.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--"][..], command].concat())
    }

    /// A shell line in a pod's first container.
    pub fn shell(&self, pod: &str, line: &str) -> Result<String> {
        self.exec(pod, &["sh", "-c", line])
    }

    /// A command on a host that must succeed; its standard output.
    pub fn on(&self, host: &str, command: &[&str]) -> Result<String> {
        let out = self
            .lab()
            .on_host(host, command[0])?
            .args(&command[1..])
            .output()?;
        if !out.status.success() {
            bail!(
                "{command:?} on {host}: {}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// A text field of an object, by JSON pointer; empty when it is absent.
    pub fn field(&self, kind: &str, name: &str, pointer: &str) -> Result<String> {
        let object = self.get(kind, name)?;
        let value = object.pointer(pointer);
        Ok(value
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .unwrap_or_default())
    }

    /// Waits for a Deployment's rollout.
    pub fn rolled_out(&self, deployment: &str, limit: Duration) -> Result<()> {
        let limit = format!("--timeout={}s", limit.as_secs());
        self.kubectl(&["rollout", "status", deployment, &limit])
            .map(drop)
    }

    /// What a URL answers from a host.
    pub fn curl(&self, host: &str, url: &str) -> Result<String> {
        let out = self
            .lab()
            .on_host(host, "curl")?
            .args(["-fsS", "-m", "3", url])
            .output()?;
        if !out.status.success() {
            bail!(
                "curl {url} on {host}: {}",
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Waits until a URL answers from a host.
    pub fn answers(&self, host: &str, url: &str, limit: Duration) -> Result<String> {
        until(&format!("{url} answers on {host}"), limit, || {
            self.curl(host, url).map_err(|e| e.to_string())
        })
    }

    /// What a person would look at when a test fails.
    fn describe_failure(&self) {
        for args in [
            &[
                "get",
                "nodes,pods,deployments,replicasets,services,endpointslices",
                "-A",
                "-o",
                "wide",
            ][..],
            &[
                "get",
                "events",
                "-A",
                "--sort-by=.metadata.creationTimestamp",
            ][..],
        ] {
            if let Ok(out) = self.kubectl_output(args, "") {
                eprintln!(
                    "--- kubectl {}\n{}",
                    args.join(" "),
                    String::from_utf8_lossy(&out.stdout)
                );
            }
        }
        for host in &self.lab().plan().hosts {
            for role in &host.roles {
                self.describe_log(&host.name, *role);
            }
        }
    }

    /// A role's last errors; of a role that does not run, its last words.
    fn describe_log(&self, host: &str, role: Role) {
        let Ok(path) = self.lab().log_file(host, role) else {
            return;
        };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let runs = matches!(self.lab().role_pid(host, role), Ok(Some(_)));
        let told: Vec<&str> = text
            .lines()
            .filter(|line| !runs || line.contains("ERROR") || line.contains("panicked"))
            .collect();
        if !runs {
            eprintln!("{host} {} does not run", role.name());
        }
        for line in &told[told.len().saturating_sub(10)..] {
            eprintln!("{host} {}: {line}", role.name());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.describe_failure();
            if std::env::var_os("CORTEN_E2E_KEEP").is_some() {
                eprintln!("the lab is kept in {}", self.dir.display());
                return;
            }
        }
        if let Some(lab) = self.lab.take()
            && let Err(error) = lab.delete()
        {
            eprintln!("cannot remove the lab: {error:#}");
        }
    }
}

/// Says what the test is at.
#[expect(
    clippy::print_stderr,
    reason = "a test's progress is for whoever waits for it"
)]
pub fn step(what: &str) {
    eprintln!("== {what}");
}

/// The `corten` executable that was built beside this test.
pub fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("corten"))
        .find(|path| path.is_file());
    found.context("the corten binary is not built; run `cargo build -p corten` first")
}
