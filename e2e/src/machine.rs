//! One machine for `corten up`: a network namespace with an address, wired to this host, which is its way out.
//!
//! Invariant: all that `corten` keeps is below the machine's own folder, and it goes with the value, also when a test fails.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cluster::binary;

/// Lines of Corten's log that are shown when a test fails.
const LOG_LINES: usize = 60;

/// The machine; removed with the value.
pub struct Machine {
    name: &'static str,
    /// The third number of the machine's addresses, `192.168.N.1` and `192.168.N.254`.
    net: u8,
    corten: PathBuf,
}

impl Machine {
    /// Makes it. `name` has at most 10 letters, as an interface is named after it; `net` is the test's own.
    pub fn make(name: &'static str, net: u8) -> Result<Self> {
        let corten = binary()?;
        let machine = Self { name, net, corten };
        machine.remove();
        let (namespace, wire) = (machine.namespace(), machine.wire());
        let (address, outside) = (machine.address(), machine.outside());
        sh(&format!(
            "ip netns add {namespace} && ip -n {namespace} link set lo up && \
             ip link add {wire} type veth peer name u0 netns {namespace} && \
             ip addr add {outside}/24 dev {wire} && ip link set {wire} up && \
             ip -n {namespace} addr add {address}/24 dev u0 && ip -n {namespace} link set u0 up && \
             ip -n {namespace} route add default via {outside}"
        ))?;
        std::fs::create_dir_all(machine.dir())?;
        Ok(machine)
    }

    /// Everything that the machine keeps.
    pub fn dir(&self) -> PathBuf {
        format!("/var/lib/corten-e2e/{}", self.name).into()
    }

    /// The node's address.
    pub fn address(&self) -> String {
        format!("192.168.{}.1", self.net)
    }

    /// This host's end of the wire.
    pub fn outside(&self) -> String {
        format!("192.168.{}.254", self.net)
    }

    /// A command in the machine's network.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.namespace()))
            .arg(program);
        command
    }

    /// `corten` with these arguments, on the machine's folders.
    pub fn corten(&self, args: &[&str]) -> Command {
        let mut command = self.inside(&self.corten);
        command.args(args);
        for folder in ["data", "run", "config"] {
            command
                .arg(format!("--{folder}-dir"))
                .arg(self.dir().join(folder));
        }
        command
    }

    /// `corten up` in the background; returns what it printed.
    pub fn up(&self, args: &[&str]) -> Result<String> {
        let mut command = self.corten(&["up", "--detach", "--node-ip", &self.address()]);
        output(command.args(args))
    }

    /// What kubectl prints, as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let program = std::env::var("CORTEN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let mut command = self.inside(program);
        command
            .env("KUBECONFIG", self.dir().join("config/admin.kubeconfig"))
            .env("HOME", self.dir().join("home"));
        output(command.args(args))
    }

    fn namespace(&self) -> String {
        format!("corten-e2e-{}", self.name)
    }

    fn wire(&self) -> String {
        format!("ce2e-{}", self.name)
    }

    /// Everything may be gone already.
    fn remove(&self) {
        let _ = self.corten(&["down"]).output();
        let _ = sh(&format!("ip netns delete {}", self.namespace()));
        let _ = sh(&format!("ip link delete {}", self.wire()));
        let dir = self.dir();
        let dir = dir.display();
        let _ = sh(&format!(
            "awk '{{print $2}}' /proc/self/mounts | grep '^{dir}/' | sort -r | xargs -r umount -l; rm -rf {dir}"
        ));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log =
                std::fs::read_to_string(self.dir().join("data/corten.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- corten.log\n{}", last.join("\n"));
        }
        self.remove();
    }
}

/// Standard output of a shell script that must succeed.
pub fn sh(script: &str) -> Result<String> {
    output(Command::new("sh").args(["-c", script]))
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!(
            "{command:?}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
