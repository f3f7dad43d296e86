//! Addresses of one pod CIDR. A lease is a file named after its address, made before the address is used; the directory is
//! the truth, memory is its copy. Addresses are handed out in turn, so that a freed one rests before it is used again.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::gateway_of;
use super::hostports::HostPort;

/// An address in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) sandbox: String,
    pub(super) ip: Ipv4Addr,
    #[serde(default)]
    pub(super) host_ports: Vec<HostPort>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum IpamError {
    #[error("no address is free in {0}")]
    Exhausted(Ipv4Net),
    #[error("cannot keep leases in {path}: {source}")]
    State {
        path: PathBuf,
        source: std::io::Error,
    },
}

pub(super) struct Pool {
    cidr: Ipv4Net,
    dir: PathBuf,
    state: Mutex<State>,
}

struct State {
    by_ip: BTreeMap<Ipv4Addr, Lease>,
    last: u32,
}

impl Pool {
    /// Opens the leases of a pod CIDR; those of another CIDR are dropped, their sandboxes are rebuilt.
    pub(super) fn open(dir: &Path, cidr: Ipv4Net) -> Result<Self, IpamError> {
        let fail = |source| IpamError::State {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(fail)?;
        let mut by_ip = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let lease = std::fs::read(&path)
                .ok()
                .and_then(|text| serde_json::from_slice::<Lease>(&text).ok());
            match lease {
                Some(lease) if cidr.contains(&lease.ip) => drop(by_ip.insert(lease.ip, lease)),
                _ => {
                    tracing::warn!(path = %path.display(), "dropping an unusable address lease");
                    std::fs::remove_file(&path).map_err(fail)?;
                }
            }
        }
        let last = by_ip
            .keys()
            .next_back()
            .map_or(u32::from(gateway_of(cidr)), |ip| u32::from(*ip));
        Ok(Self {
            cidr,
            dir: dir.to_owned(),
            state: Mutex::new(State { by_ip, last }),
        })
    }

    pub(super) fn cidr(&self) -> Ipv4Net {
        self.cidr
    }

    pub(super) fn gateway(&self) -> Ipv4Addr {
        gateway_of(self.cidr)
    }

    pub(super) fn leases(&self) -> Vec<Lease> {
        self.state.lock().by_ip.values().cloned().collect()
    }

    pub(super) fn find(&self, sandbox: &str) -> Option<Lease> {
        self.state
            .lock()
            .by_ip
            .values()
            .find(|lease| lease.sandbox == sandbox)
            .cloned()
    }

    /// The sandbox's address: the one it has, or the next free one, on disk before it is returned.
    pub(super) fn acquire(&self, mut lease: Lease) -> Result<Ipv4Addr, IpamError> {
        let mut state = self.state.lock();
        if let Some(held) = state
            .by_ip
            .values()
            .find(|held| held.sandbox == lease.sandbox)
        {
            return Ok(held.ip);
        }
        let first = u32::from(self.gateway()) + 1;
        let end = u32::from(self.cidr.broadcast());
        let count = end.saturating_sub(first);
        let start = if state.last + 1 >= end {
            first
        } else {
            (state.last + 1).max(first)
        };
        let free = (0..count)
            .map(|step| Ipv4Addr::from(first + (start - first + step) % count))
            .find(|ip| !state.by_ip.contains_key(ip))
            .ok_or(IpamError::Exhausted(self.cidr))?;
        lease.ip = free;
        self.write(&lease)?;
        state.last = u32::from(free);
        state.by_ip.insert(free, lease);
        Ok(free)
    }

    /// Remembers the host ports of a lease.
    pub(super) fn update(&self, sandbox: &str, host_ports: Vec<HostPort>) -> Result<(), IpamError> {
        let mut state = self.state.lock();
        let Some(lease) = state
            .by_ip
            .values_mut()
            .find(|lease| lease.sandbox == sandbox)
        else {
            return Ok(());
        };
        if lease.host_ports == host_ports {
            return Ok(());
        }
        lease.host_ports = host_ports;
        let lease = lease.clone();
        self.write(&lease)
    }

    pub(super) fn release(&self, sandbox: &str) -> Result<(), IpamError> {
        let mut state = self.state.lock();
        let Some(ip) = state
            .by_ip
            .values()
            .find(|lease| lease.sandbox == sandbox)
            .map(|lease| lease.ip)
        else {
            return Ok(());
        };
        let path = self.path(ip);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(IpamError::State { path, source })
            }
            _ => {
                state.by_ip.remove(&ip);
                Ok(())
            }
        }
    }

    fn path(&self, ip: Ipv4Addr) -> PathBuf {
        self.dir.join(ip.to_string())
    }

    /// Whole or not at all. Not synced: after a crash of the host there are no sandboxes left to collide with.
    fn write(&self, lease: &Lease) -> Result<(), IpamError> {
        let path = self.path(lease.ip);
        let aside = self.dir.join(format!(".{}", lease.ip));
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&aside)?;
            file.write_all(&serde_json::to_vec(lease)?)?;
            std::fs::rename(&aside, &path)
        };
        write().map_err(|source| IpamError::State {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(sandbox: &str) -> Lease {
        Lease {
            sandbox: sandbox.to_owned(),
            ip: Ipv4Addr::UNSPECIFIED,
            host_ports: Vec::new(),
        }
    }

    #[test]
    fn addresses_are_unique_survive_a_restart_and_run_out() {
        let dir = tempfile::tempdir().expect("temp dir");
        let cidr = "10.244.3.0/29".parse().expect("cidr");
        let pool = Pool::open(dir.path(), cidr).expect("open");
        let ips: Vec<_> = (0..5)
            .map(|i| pool.acquire(lease(&format!("s{i}"))).expect("free"))
            .collect();
        let expected: Vec<Ipv4Addr> = (2..7).map(|i| Ipv4Addr::new(10, 244, 3, i)).collect();
        assert_eq!(
            ips, expected,
            "not the network, the gateway or the broadcast address"
        );
        assert!(matches!(
            pool.acquire(lease("more")),
            Err(IpamError::Exhausted(_))
        ));
        let again = Pool::open(dir.path(), cidr).expect("open again");
        assert_eq!(again.acquire(lease("s3")).expect("held"), ips[3]);
        again.release("s1").expect("release");
        assert_eq!(again.acquire(lease("new")).expect("freed"), ips[1]);
    }

    #[test]
    fn a_freed_address_rests() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pool = Pool::open(dir.path(), "10.244.3.0/24".parse().expect("cidr")).expect("open");
        let first = pool.acquire(lease("a")).expect("free");
        pool.release("a").expect("release");
        assert_ne!(pool.acquire(lease("b")).expect("free"), first);
    }
}
