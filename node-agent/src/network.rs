//! The pod network of one host: a bridge with a veth pair for each sandbox, addresses out of the node's pod CIDR, routes to
//! the other hosts' pods (direct where hosts share a segment, VXLAN elsewhere), and host ports. IPv4 only, for now.
//!
//! ```text
//!  pod netns: eth0 ── veth ── bridge (first address of the pod CIDR) ──┬── uplink   (direct route via the peer host)
//!                                                                      └── vxlan    (peer on another segment)
//! ```
//!
//! Invariant: an address belongs to one sandbox until its teardown; what was handed out is on disk before it is used, so a
//! restarted agent hands out nothing twice.

mod hostports;
mod ipam;
mod links;
mod routes;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use corten_base::command::run;
use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;

use crate::traits::{NetworkError, NetworkRequest, PodIps, PodNetwork};

use hostports::{HostPort, host_ports};
use ipam::{Lease, Pool};

pub use routes::{Overlay, Peer, RouteKeeper};

/// What the pod network needs to know of its host.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where leases are kept.
    pub state_dir: PathBuf,
    /// Name of the bridge.
    pub bridge: String,
    /// Name of the nftables table for host ports.
    pub table: String,
    /// MTU of pod interfaces.
    pub mtu: u32,
}

/// Bridge, veth and routes on this host.
pub struct BridgeNetwork {
    config: NetworkConfig,
    /// None until the Node has a pod CIDR, or had one when an earlier process ran.
    pool: Mutex<Option<Arc<Pool>>>,
    /// Whether the bridge was seen to by this process: before that sandboxes are recognised, but none is made.
    configured: AtomicBool,
    host_ports: tokio::sync::Mutex<HashMap<String, Vec<HostPort>>>,
}

impl BridgeNetwork {
    /// A network that is not ready until [`PodNetwork::configure`] was called. Sandboxes of an earlier process are
    /// recognised at once: a restarted agent must not take them for broken while the API is away.
    pub fn new(config: NetworkConfig) -> Self {
        let known = std::fs::read_to_string(config.state_dir.join(CIDR_FILE)).ok();
        let pool = known
            .and_then(|text| text.trim().parse().ok())
            .and_then(|cidr| {
                let opened = Pool::open(&config.state_dir.join(LEASES), cidr);
                opened
                    .inspect_err(|error| tracing::warn!(%error, "cannot read the address leases"))
                    .ok()
            });
        Self {
            config,
            pool: Mutex::new(pool.map(Arc::new)),
            configured: AtomicBool::new(false),
            host_ports: tokio::sync::Mutex::new(HashMap::new()),
        }
    }

    fn pool(&self) -> Result<Arc<Pool>, NetworkError> {
        self.pool.lock().clone().ok_or_else(|| NetworkError {
            cause: NOT_READY.to_owned(),
        })
    }

    fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Acquire)
    }

    async fn set_host_ports(
        &self,
        sandbox: &str,
        ports: Vec<HostPort>,
    ) -> Result<(), NetworkError> {
        let mut all = self.host_ports.lock().await;
        let unchanged = match all.get(sandbox) {
            Some(held) => *held == ports,
            None => ports.is_empty(),
        };
        if unchanged {
            return Ok(());
        }
        let mut wanted = all.clone();
        if ports.is_empty() {
            wanted.remove(sandbox);
        } else {
            wanted.insert(sandbox.to_owned(), ports);
        }
        let script = hostports::table(&self.config.table, wanted.values().flatten());
        run("nft", &["-f", "-"], &script).await.map_err(failed)?;
        // Only now: what failed is tried again at the next call.
        *all = wanted;
        Ok(())
    }

    /// Sandboxes that an earlier process made: their places on the bridge, which may be a new one, and their host ports,
    /// before the first is asked for.
    async fn restore(&self, pool: &Pool) -> Result<(), NetworkError> {
        for lease in pool.leases() {
            links::attach(&links::veth_name(&lease.sandbox), &self.config.bridge)
                .await
                .map_err(failed)?;
            self.set_host_ports(&lease.sandbox, lease.host_ports)
                .await?;
        }
        Ok(())
    }
}

/// Where the leases are, and the CIDR that they are of.
const LEASES: &str = "leases";
const CIDR_FILE: &str = "cidr";
const NOT_READY: &str = "the Node has no pod CIDR yet";

fn failed(error: impl std::fmt::Display) -> NetworkError {
    NetworkError {
        cause: error.to_string(),
    }
}

#[async_trait]
impl PodNetwork for BridgeNetwork {
    async fn configure(&self, pod_cidrs: &[IpNet]) -> Result<(), NetworkError> {
        let first = pod_cidrs.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        });
        let Some(cidr) = first else {
            return Err(failed("the Node has no IPv4 pod CIDR"));
        };
        let known = self.pool.lock().clone().filter(|pool| pool.cidr() == cidr);
        if known.is_some() && self.is_configured() {
            return Ok(());
        }
        let pool = match known {
            Some(pool) => pool,
            None => {
                Arc::new(Pool::open(&self.config.state_dir.join(LEASES), cidr).map_err(failed)?)
            }
        };
        std::fs::write(self.config.state_dir.join(CIDR_FILE), cidr.to_string()).map_err(failed)?;
        links::ensure_bridge(&self.config.bridge, pool.gateway(), cidr, self.config.mtu)
            .await
            .map_err(failed)?;
        links::forwarding();
        links::load_bridge_filter().await;
        self.restore(&pool).await?;
        *self.pool.lock() = Some(pool);
        self.configured.store(true, Ordering::Release);
        tracing::info!(%cidr, bridge = %self.config.bridge, "pod network is ready");
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if !self.is_configured() {
            return Err(NOT_READY.to_owned());
        }
        // Asked each time: an operator who mends it should see the node become ready.
        links::filter_bridge(Path::new(links::BRIDGE_FILTER))
    }

    async fn setup(&self, request: &NetworkRequest) -> Result<PodIps, NetworkError> {
        if !self.is_configured() {
            return Err(failed(NOT_READY));
        }
        let pool = self.pool()?;
        let lease = Lease {
            sandbox: request.sandbox_id.clone(),
            ip: Ipv4Addr::UNSPECIFIED,
            host_ports: Vec::new(),
        };
        let ip = pool.acquire(lease).map_err(failed)?;
        let ports = host_ports(&request.pod, ip);
        pool.update(&request.sandbox_id, ports.clone())
            .map_err(failed)?;
        let wiring = links::Wiring {
            bridge: &self.config.bridge,
            netns: &request.netns,
            veth: links::veth_name(&request.sandbox_id),
            ip,
            prefix: pool.cidr().prefix_len(),
            gateway: pool.gateway(),
            mtu: self.config.mtu,
        };
        if !links::is_wired(&wiring).await {
            links::wire(&wiring).await.map_err(failed)?;
        }
        self.set_host_ports(&request.sandbox_id, ports).await?;
        Ok(vec![IpAddr::V4(ip)])
    }

    async fn check(&self, request: &NetworkRequest) -> Result<PodIps, NetworkError> {
        let pool = self.pool()?;
        let lease = pool
            .find(&request.sandbox_id)
            .ok_or_else(|| failed("no address was handed out to this sandbox"))?;
        if !links::exists(&links::veth_name(&request.sandbox_id)).await {
            return Err(failed("the sandbox has lost its interface"));
        }
        Ok(vec![IpAddr::V4(lease.ip)])
    }

    async fn teardown(&self, sandbox_id: &str, _netns: Option<&Path>) -> Result<(), NetworkError> {
        self.set_host_ports(sandbox_id, Vec::new()).await?;
        links::remove(&links::veth_name(sandbox_id))
            .await
            .map_err(failed)?;
        let pool = self.pool.lock().clone();
        match pool {
            Some(pool) => pool.release(sandbox_id).map_err(failed),
            None => Ok(()), // found again in the state directory once configured
        }
    }
}

/// The bridge's own address: the first of the pod CIDR.
fn gateway_of(cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_change_of_host_ports_is_tried_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        let network = BridgeNetwork::new(NetworkConfig {
            state_dir: dir.path().to_owned(),
            bridge: "none".to_owned(),
            table: "not a name".to_owned(), // nft refuses it, or is not installed: it fails either way
            mtu: 1450,
        });
        let port = HostPort {
            protocol: "tcp".to_owned(),
            host_ip: String::new(),
            host_port: 8080,
            pod_ip: Ipv4Addr::new(10, 244, 0, 5),
            pod_port: 80,
        };
        for attempt in 0..2 {
            let set = network.set_host_ports("sandbox", vec![port.clone()]).await;
            assert!(set.is_err(), "attempt {attempt}");
        }
        let nothing = network.set_host_ports("sandbox", Vec::new()).await;
        assert!(nothing.is_ok(), "there is nothing to take away");
    }
}
