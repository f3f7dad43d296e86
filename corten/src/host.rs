//! The machine that `corten up` runs on: its address, its name, and where a cluster's files are on it.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use nix::unistd::{Uid, gethostname};

use crate::cluster::{HostSettings, Networks, ports};
use crate::pki::{Pki, ServerNames};

const DATA_DIR: &str = "/var/lib/corten";

/// Where things are; the defaults are the system's usual places.
#[derive(Clone, Debug, Args)]
pub struct Paths {
    /// State that survives a reboot.
    #[arg(long, default_value = DATA_DIR, env = "CORTEN_DATA_DIR")]
    pub data_dir: PathBuf,
    /// State that does not.
    #[arg(long, default_value = "/run/corten", env = "CORTEN_RUN_DIR")]
    pub run_dir: PathBuf,
    /// Keys, certificates, kubeconfig, registries.
    #[arg(long, default_value = "/etc/corten", env = "CORTEN_CONFIG_DIR")]
    pub config_dir: PathBuf,
}

impl Paths {
    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.config_dir.join("admin.kubeconfig")
    }

    /// The process id of `corten up`.
    pub fn pid_file(&self) -> PathBuf {
        self.run_dir.join("corten.pid")
    }

    /// Exists while the cluster is ready.
    pub fn ready_file(&self) -> PathBuf {
        self.run_dir.join("ready")
    }

    /// Parent of the pods' cgroups: clusters in other folders must not touch each other's containers.
    pub fn cgroup_prefix(&self) -> String {
        if self.data_dir == Path::new(DATA_DIR) {
            return "/corten".to_owned();
        }
        let bytes = self.data_dir.as_os_str().as_encoded_bytes();
        let hash = bytes.iter().fold(5381_u32, |hash, byte| {
            hash.wrapping_mul(33) ^ u32::from(*byte)
        });
        format!("/corten-{hash:08x}")
    }

    /// The log of a detached `corten up`.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("corten.log")
    }
}

/// Roles need root: namespaces, mounts, nftables.
pub fn require_root() -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("this must be run as root: it makes namespaces, mounts and firewall rules");
    }
    Ok(())
}

/// Settings for this machine alone, with its PKI made where it is missing.
pub fn settings(paths: &Paths, node_ip: Option<Ipv4Addr>) -> Result<HostSettings> {
    let name = gethostname()?.to_string_lossy().to_lowercase();
    let ip = match node_ip {
        Some(ip) => ip,
        None => address()?,
    };
    let networks = Networks::default();
    let pki = Pki::ensure(&paths.config_dir.join("pki"))?;
    let names = ServerNames {
        dns: vec![name.clone()],
        ips: vec![IpAddr::V4(ip)],
    };
    pki.apiserver(&names, networks.kubernetes())?;
    pki.control_plane()?;
    pki.node(&name, &[IpAddr::V4(ip)])?;
    Ok(HostSettings {
        name,
        ip,
        data_dir: paths.data_dir.clone(),
        run_dir: paths.run_dir.clone(),
        pod_log_dir: PathBuf::from("/var/log/pods"),
        pki,
        cgroup_prefix: paths.cgroup_prefix(),
        registries: Some(paths.config_dir.join("registries")),
        networks,
        servers: vec![format!("https://127.0.0.1:{}", ports::API)],
        members: Vec::new(),
    })
}

/// The address that this machine talks to others from. Nothing is sent: connecting a UDP socket only picks a route.
fn address() -> Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // An address for documentation, RFC 5737.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Ok(ip),
        _ => bail!("cannot find this machine's address; give it with --node-ip"),
    }
}
