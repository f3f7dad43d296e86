//! Routes to the pods of other hosts: which ones (pure), and the keeper that follows the Node objects and sets them. Peers on
//! a segment of ours are reached directly; others through VXLAN, whose addresses follow from the peer's address alone, so
//! that nothing needs to be exchanged. The tunnel's own address is the network address of our pods: what this host itself
//! sends through the tunnel is answered through the tunnel, where the network between would drop it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use corten_base::command::{CommandError, run};
use corten_base::shutdown::Shutdown;
use corten_client::cache::Cache;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

/// How pods of other hosts are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Overlay {
    /// Directly where the peer is on a segment of ours, by VXLAN elsewhere.
    #[default]
    Auto,
    /// By VXLAN always.
    Vxlan,
    /// Directly always: the hosts' network knows the way.
    Direct,
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub host: Ipv4Addr,
    /// Its pods.
    pub pods: Ipv4Net,
}

/// VXLAN as flannel sets it up, so that firewalls need nothing new.
const VXLAN_PORT: u16 = 8472;
const VXLAN_ID: u32 = 1;
/// A change may have been undone by others; this is how long that can last.
const RESYNC: Duration = Duration::from_secs(60);

/// Sets routes as nodes come, go and move.
pub struct RouteKeeper {
    /// This node's name.
    pub node: String,
    /// This node's address.
    pub host: Ipv4Addr,
    /// Name of the VXLAN link.
    pub vxlan: String,
    /// MTU of pod interfaces, and so of the tunnel.
    pub mtu: u32,
    /// How peers are reached.
    pub overlay: Overlay,
    /// All nodes.
    pub nodes: Cache<Node>,
}

/// What was set last.
#[derive(Default)]
struct Applied {
    own: Option<Ipv4Net>,
    peers: BTreeMap<Ipv4Net, Peer>,
}

impl RouteKeeper {
    /// Runs until `shutdown`. Routes stay.
    pub async fn run(self, shutdown: Shutdown) {
        self.nodes.wait_synced().await;
        let mut changes = self.nodes.subscribe();
        let mut applied = Applied::default();
        loop {
            if let Err(error) = self.sync(&mut applied).await {
                tracing::warn!(%error, "cannot set routes to other nodes; trying again");
                applied = Applied::default();
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                change = changes.next() => if change.is_none() { return },
                () = tokio::time::sleep(RESYNC) => applied = Applied::default(),
            }
            while changes.try_next().is_some() {}
        }
    }

    async fn sync(&self, applied: &mut Applied) -> Result<(), CommandError> {
        let nodes = self.nodes.list();
        let wanted: BTreeMap<Ipv4Net, Peer> = nodes
            .iter()
            .filter_map(|node| peer(node, &self.node))
            .map(|peer| (peer.pods, peer))
            .collect();
        let own = nodes
            .iter()
            .find(|node| node.metadata.name.as_deref() == Some(&self.node))
            .and_then(|node| pod_cidr(node));
        if applied.own == own && applied.peers == wanted {
            return Ok(());
        }
        let local = segments(&run("ip", &["-4", "-o", "address", "show"], "").await?);
        let mut vxlan_made = false;
        for (pods, peer) in &wanted {
            if applied.own == own && applied.peers.get(pods) == Some(peer) {
                continue;
            }
            if is_direct(self.overlay, &local, self.host, peer.host) {
                self.direct(peer).await?;
            } else {
                if !vxlan_made {
                    self.ensure_vxlan(own).await?;
                    vxlan_made = true;
                }
                self.tunnel(peer).await?;
            }
        }
        for (pods, peer) in &applied.peers {
            if !wanted.contains_key(pods) {
                self.forget(peer).await;
            }
        }
        *applied = Applied { own, peers: wanted };
        Ok(())
    }

    /// Takes a peer's route away, and what the tunnel knows of it. Any of it may be gone with its link already.
    async fn forget(&self, peer: &Peer) {
        let (name, mac, host) = (&self.vxlan, mac(peer.host), peer.host.to_string());
        let gateway = peer.pods.network().to_string();
        let _ = run("ip", &["route", "delete", &peer.pods.to_string()], "").await;
        let _ = run("ip", &["neighbour", "delete", &gateway, "dev", name], "").await;
        let entry = [
            "fdb",
            "delete",
            &mac,
            "dev",
            name,
            "dst",
            &host,
            "self",
            "permanent",
        ];
        let _ = run("bridge", &entry, "").await;
    }

    async fn direct(&self, peer: &Peer) -> Result<(), CommandError> {
        run(
            "ip",
            &[
                "route",
                "replace",
                &peer.pods.to_string(),
                "via",
                &peer.host.to_string(),
            ],
            "",
        )
        .await
        .map(drop)
    }

    async fn ensure_vxlan(&self, own: Option<Ipv4Net>) -> Result<(), CommandError> {
        let name = &self.vxlan;
        if !super::links::exists(name).await {
            let make = format!(
                "link add {name} address {} type vxlan id {VXLAN_ID} local {} dstport {VXLAN_PORT} nolearning\n",
                mac(self.host),
                self.host
            );
            run("ip", &["-batch", "-"], &make).await?;
        }
        // The kernel's own choice would be that of a link without a parent, and packets would leave in fragments.
        let mut batch = format!("link set dev {name} mtu {} up\n", self.mtu);
        if let Some(own) = own {
            batch.push_str(&format!(
                "address replace {}/32 dev {name}\n",
                own.network()
            ));
        }
        run("ip", &["-batch", "-"], &batch).await.map(drop)
    }

    async fn tunnel(&self, peer: &Peer) -> Result<(), CommandError> {
        let (name, mac, gateway) = (&self.vxlan, mac(peer.host), peer.pods.network());
        let host = peer.host.to_string();
        run(
            "bridge",
            &[
                "fdb",
                "replace",
                &mac,
                "dev",
                name,
                "dst",
                &host,
                "self",
                "permanent",
            ],
            "",
        )
        .await?;
        let batch = format!(
            "neighbour replace {gateway} lladdr {mac} dev {name} nud permanent\n\
             route replace {} via {gateway} dev {name} onlink\n",
            peer.pods
        );
        run("ip", &["-batch", "-"], &batch).await.map(drop)
    }
}

/// A locally administered address that every host can compute for every other.
fn mac(host: Ipv4Addr) -> String {
    let [a, b, c, d] = host.octets();
    format!("02:c0:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn peer(node: &Node, own: &str) -> Option<Peer> {
    if node.metadata.name.as_deref() == Some(own) {
        return None;
    }
    let pods = pod_cidr(node)?;
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let host = addresses
        .iter()
        .filter(|a| a.type_ == "InternalIP")
        .find_map(|a| a.address.parse().ok())?;
    Some(Peer { host, pods })
}

fn pod_cidr(node: &Node) -> Option<Ipv4Net> {
    let spec = node.spec.as_ref()?;
    spec.pod_cidrs
        .iter()
        .flatten()
        .chain(spec.pod_cidr.iter())
        .find_map(|cidr| cidr.parse().ok())
}

/// Our own address with the networks of the interface that carries it, from `ip -o address`.
fn segments(text: &str) -> Vec<(Ipv4Addr, Ipv4Net)> {
    let after_inet = text
        .lines()
        .filter_map(|line| line.split_once(" inet ").map(|(_, rest)| rest));
    let nets =
        after_inet.filter_map(|rest| rest.split_whitespace().next()?.parse::<Ipv4Net>().ok());
    nets.map(|net| (net.addr(), net.trunc())).collect()
}

fn is_direct(
    overlay: Overlay,
    local: &[(Ipv4Addr, Ipv4Net)],
    own: Ipv4Addr,
    peer: Ipv4Addr,
) -> bool {
    match overlay {
        Overlay::Direct => true,
        Overlay::Vxlan => false,
        Overlay::Auto => local
            .iter()
            .any(|(address, net)| *address == own && net.contains(&peer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_direct_only_on_our_own_segment() {
        let text = "1: lo    inet 127.0.0.1/8 scope host lo\n2: u0    inet 192.168.77.1/24 brd 192.168.77.255 scope global u0\n\
                    3: cn0    inet 10.244.0.1/24 scope global cn0\n";
        let local = segments(text);
        let own = Ipv4Addr::new(192, 168, 77, 1);
        for (overlay, peer, expected) in [
            (Overlay::Auto, [192, 168, 77, 2], true),
            (Overlay::Auto, [192, 168, 78, 2], false),
            (Overlay::Auto, [10, 244, 0, 9], false),
            (Overlay::Vxlan, [192, 168, 77, 2], false),
            (Overlay::Direct, [192, 168, 78, 2], true),
        ] {
            assert_eq!(
                is_direct(overlay, &local, own, peer.into()),
                expected,
                "{overlay:?} {peer:?}"
            );
        }
    }

    #[test]
    fn nodes_without_pod_cidr_or_address_are_no_peers() {
        let node = |name: &str, cidr: Option<&str>| -> Node {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name}, "spec": {"podCIDR": cidr},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.168.77.2"}]},
            }))
            .expect("node")
        };
        assert_eq!(peer(&node("n1", Some("10.244.1.0/24")), "n1"), None);
        assert_eq!(peer(&node("n2", None), "n1"), None);
        assert!(peer(&node("n2", Some("10.244.1.0/24")), "n1").is_some());
    }
}
