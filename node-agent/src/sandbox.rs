//! The sandbox of a pod: namespaces pinned by bind mounts under the run directory (no process holds them), the shared
//! /dev/shm, and the pod's own /etc files. Idempotent: making what is there and removing what is not are both fine.

mod dns;
mod files;
mod namespaces;

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::mounts::is_point;
use crate::spec::generate::SharedNamespaces;
use crate::spec::mounts::PodFiles;
use crate::spec::sysctls::Setting;

pub use dns::DnsSettings;
pub use files::{hostname, write_files};

/// Where one pod's sandbox lives.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// `<run>/pods/<uid>`: pins and shm.
    pub run: PathBuf,
    /// `<data>/pods/<uid>/etc`.
    pub etc: PathBuf,
    pub host_network: bool,
    pub host_ipc: bool,
}

impl Sandbox {
    pub fn new(run_dir: &Path, pod_dir: &Path, uid: &str, pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        Self {
            run: run_dir.join("pods").join(uid),
            etc: pod_dir.join("etc"),
            host_network: spec.and_then(|s| s.host_network) == Some(true),
            host_ipc: spec.and_then(|s| s.host_ipc) == Some(true),
        }
    }

    /// The network namespace; None for hostNetwork.
    pub fn netns(&self) -> Option<PathBuf> {
        (!self.host_network).then(|| self.run.join("net"))
    }

    /// What the containers join.
    pub fn namespaces(&self) -> SharedNamespaces {
        SharedNamespaces {
            network: self.netns(),
            ipc: (!self.host_ipc).then(|| self.run.join("ipc")),
            uts: (!self.host_network).then(|| self.run.join("uts")),
        }
    }

    /// The pinned process namespace of pods that share one.
    pub fn pid_pin(&self) -> PathBuf {
        self.run.join("pid")
    }

    /// Files bound into every container.
    pub fn pod_files(&self) -> PodFiles {
        let shm = if self.host_ipc {
            PathBuf::from("/dev/shm")
        } else {
            self.run.join("shm")
        };
        PodFiles {
            hosts: self.etc.join("hosts"),
            hostname: self.etc.join("hostname"),
            resolv_conf: self.etc.join("resolv.conf"),
            shm,
        }
    }

    /// Whether every pin is in place (they vanish with a reboot).
    pub fn is_intact(&self) -> bool {
        let wanted = self.namespaces();
        [wanted.network, wanted.ipc, wanted.uts]
            .into_iter()
            .flatten()
            .all(|pin| namespaces::is_pinned(&pin))
    }

    /// Makes the namespaces with this hostname and these sysctls. Blocking.
    pub fn create(&self, hostname: &str, sysctls: &[Setting]) -> io::Result<()> {
        std::fs::create_dir_all(&self.run)?;
        if !self.is_intact() {
            self.unpin();
            namespaces::create(&self.namespaces(), hostname, sysctls)?;
        }
        let shm = self.run.join("shm");
        if !self.host_ipc && !is_point(&shm) {
            std::fs::create_dir_all(&shm)?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
            mount(
                Some("shm"),
                &shm,
                Some("tmpfs"),
                flags,
                Some("mode=1777,size=64m"),
            )?;
        }
        Ok(())
    }

    fn unpin(&self) {
        for name in ["net", "ipc", "uts", "pid"] {
            let pin = self.run.join(name);
            // Not mounted, or not there: both fine.
            let _ = umount2(&pin, MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(&pin);
        }
    }

    /// Lets the namespaces go. Blocking.
    pub fn remove(&self) -> io::Result<()> {
        self.unpin();
        let _ = umount2(&self.run.join("shm"), MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(self.run.join("shm"));
        match std::fs::remove_dir_all(&self.run) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Makes a directory a shared mount of its own, so that unmounts below it reach the mount namespaces of supervisors; else
/// each of them would keep every other pod's namespaces and tmpfs volumes alive.
pub fn share_mounts_of(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    if !is_point(directory) {
        mount(
            Some(directory),
            directory,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )?;
    }
    mount(
        None::<&str>,
        directory,
        None::<&str>,
        MsFlags::MS_SHARED | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(())
}
