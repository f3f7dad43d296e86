//! Clusters of both kinds on loopback, started for the comparison and stopped with it.
//!
//! Invariant: both kinds get the same shape, the same certificates, and folders on the same file system; each keeps its
//! own defaults for everything else.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use corten_base::pki::{self, Authority, CertRequest};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Of the kernel, in clock ticks per second, on every platform that Rust runs on.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Ours,
    Theirs,
}

impl Kind {
    pub(crate) const BOTH: [Kind; 2] = [Kind::Ours, Kind::Theirs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ours => "corten-store",
            Kind::Theirs => "etcd",
        }
    }
}

/// What the kernel counted for all members together.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    /// Sent to the disk.
    pub(crate) written_bytes: f64,
    /// Highest resident size since the last reset, of the largest member.
    pub(crate) peak_mib: f64,
}

pub(crate) struct Cluster {
    pub(crate) endpoints: Vec<String>,
    members: Vec<Member>,
}

struct Member {
    process: Child,
    command: Command,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended by itself.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

/// Certificates for servers, peers and clients; one is enough for all.
pub(crate) struct Pki(PathBuf);

impl Pki {
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        let authority = Authority::create("bench")?;
        authority.write(dir, "ca")?;
        let request = CertRequest {
            common_name: "bench".to_owned(),
            ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            dns_names: vec!["localhost".to_owned()],
            usage: pki::Usage::Both,
            ..CertRequest::default()
        };
        authority.issue_to_files(&request, &dir.join("all.crt"), &dir.join("all.key"))?;
        Ok(Self(dir.to_owned()))
    }

    pub(crate) fn client(&self) -> Result<ClientTlsConfig> {
        let read = |name: &str| fs::read(self.0.join(name));
        Ok(ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(read("ca.crt")?))
            .identity(Identity::from_pem(read("all.crt")?, read("all.key")?)))
    }

    /// These flags mean the same to both kinds.
    fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.0.join(name).display().to_string();
        let mut flags = Vec::new();
        for prefix in ["", "peer-"] {
            flags.push(format!("--{prefix}cert-file={}", path("all.crt")));
            flags.push(format!("--{prefix}key-file={}", path("all.key")));
            flags.push(format!("--{prefix}trusted-ca-file={}", path("ca.crt")));
        }
        flags
    }
}

impl Cluster {
    /// Starts `size` members of a kind with folders below `dir`, and with flags that both kinds know.
    pub(crate) fn start(
        kind: Kind,
        program: &Path,
        dir: &Path,
        size: usize,
        tls: Option<&Pki>,
        more: &[String],
    ) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = || free_port().map(|port| format!("{scheme}://127.0.0.1:{port}"));
        let clients: Vec<String> = (0..size).map(|_| url()).collect::<Result<_>>()?;
        let peers: Vec<String> = (0..size).map(|_| url()).collect::<Result<_>>()?;
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(i, peer)| format!("m{i}={peer}"))
            .collect();
        let mut members = Vec::new();
        for (i, (client, peer)) in clients.iter().zip(&peers).enumerate() {
            let data = dir.join(format!("{}-{i}", kind.name()));
            let mut command = Command::new(program);
            command
                .arg(format!("--name=m{i}"))
                .arg(format!("--data-dir={}", data.display()))
                .arg(format!("--initial-cluster={}", cluster.join(",")))
                .arg(format!("--listen-client-urls={client}"))
                .arg(format!("--advertise-client-urls={client}"))
                .arg(format!("--listen-peer-urls={peer}"))
                .arg(format!("--initial-advertise-peer-urls={peer}"))
                .args(tls.map(Pki::flags).unwrap_or_default())
                .args(more);
            if kind == Kind::Theirs {
                command.args(["--logger=zap", "--log-level=error"]);
                if tls.is_some() {
                    // Ours does so whenever it has an authority.
                    command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
                }
            }
            let log = fs::File::create(dir.join(format!("{}-{i}.log", kind.name())))?;
            command.stdout(log.try_clone()?).stderr(log);
            command.stdin(Stdio::null());
            let process = command
                .spawn()
                .with_context(|| program.display().to_string())?;
            members.push(Member { process, command });
        }
        Ok(Self {
            endpoints: clients,
            members,
        })
    }

    /// Ends all members with SIGKILL and starts them again on their folders.
    pub(crate) fn restart(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.process.kill()?;
            member.process.wait()?;
        }
        for member in &mut self.members {
            member.process = member.command.spawn()?;
        }
        Ok(())
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut sum = Usage::default();
        for member in &self.members {
            let proc = PathBuf::from(format!("/proc/{}", member.process.id()));
            let stat = fs::read_to_string(proc.join("stat"))?;
            // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
            let fields: Vec<&str> = stat
                .rsplit_once(')')
                .map_or("", |(_, rest)| rest)
                .split_whitespace()
                .collect();
            let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
            sum.cpu_seconds += (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS;
            sum.written_bytes += number(&proc.join("io"), "write_bytes:")?;
            let peak = number(&proc.join("status"), "VmHWM:")? / 1024.0;
            sum.peak_mib = sum.peak_mib.max(peak);
        }
        Ok(sum)
    }

    /// Resident size of the largest member now, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        let mut largest = 0_f64;
        for member in &self.members {
            let status = PathBuf::from(format!("/proc/{}/status", member.process.id()));
            largest = largest.max(number(&status, "VmRSS:")? / 1024.0);
        }
        Ok(largest)
    }

    /// Forgets the highest resident sizes so far.
    pub(crate) fn reset_peak(&self) {
        for member in &self.members {
            // Only the peak of a later load would be wrong, and visibly so.
            let _ = fs::write(format!("/proc/{}/clear_refs", member.process.id()), "5");
        }
    }
}

/// The number after `name` in a file of the kernel.
fn number(path: &Path, name: &str) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    value
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("{name} in {}", path.display()))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
