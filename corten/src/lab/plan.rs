//! What a lab consists of: its hosts, their addresses, and which roles run where. Written once, read by every later command.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::cluster::{HostSettings, Member, Networks, ports};
use crate::pki::{Pki, ServerNames};
use crate::roles::Role;

/// Hosts of one lab; more would not fit one machine's memory anyway.
const HOSTS_MAX: u8 = 20;
/// Segments are the quarters of the lab's 256 addresses, each large enough for every host.
const SEGMENTS_MAX: u8 = 4;
const SEGMENT_SIZE: u8 = 64;
/// Network namespace and interface names are short.
const NAME_BYTES_MAX: usize = 8;

/// How large a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Shape {
    /// Store members (1, 3 or 5), each with an API server, a scheduler and controllers beside it.
    #[arg(long, default_value_t = 3)]
    pub members: u8,
    /// Hosts that run pods.
    #[arg(long, default_value_t = 3)]
    pub nodes: u8,
    /// Network segments (1 to 4) that the hosts are dealt out to in turn; a router joins them, and pods cross it by VXLAN.
    #[arg(long, default_value_t = 1)]
    pub segments: u8,
}

/// One host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// `h1`, `h2`, ...
    pub name: String,
    /// 1, 2, ...
    pub index: u8,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The segment that it is on: 0, 1, ...
    #[serde(default)]
    pub segment: u8,
    /// What runs on it, in order of start.
    pub roles: Vec<Role>,
}

/// A lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The lab's name; prefix of its namespaces.
    pub name: String,
    /// The lab's folder.
    pub dir: PathBuf,
    /// First three bytes of the hosts' addresses.
    pub subnet: [u8; 3],
    /// How many segments the hosts are on.
    #[serde(default = "one")]
    pub segments: u8,
    /// The hosts.
    pub hosts: Vec<Host>,
}

fn one() -> u8 {
    1
}

impl Plan {
    pub(super) fn new(dir: &Path, name: &str, shape: Shape) -> Result<Self> {
        if !matches!(shape.members, 1 | 3 | 5) {
            bail!("a store has 1, 3 or 5 members, not {}", shape.members);
        }
        let count = shape.members.max(shape.nodes);
        if shape.nodes == 0 || count > HOSTS_MAX {
            bail!("a lab has 1 to {HOSTS_MAX} nodes");
        }
        if shape.segments == 0 || shape.segments > SEGMENTS_MAX {
            bail!("a lab has 1 to {SEGMENTS_MAX} segments");
        }
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !plain {
            bail!("a lab's name is 1 to {NAME_BYTES_MAX} lower-case letters and digits");
        }
        // Labs beside each other get networks of their own; 192.168.100 to .227.
        let hash = name
            .bytes()
            .fold(7_u8, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte));
        let subnet = [192, 168, 100 + hash % 128];
        let host = |index: u8| {
            let mut roles = Vec::new();
            if index <= shape.members {
                roles.extend([
                    Role::Store,
                    Role::Apiserver,
                    Role::Scheduler,
                    Role::Controllers,
                ]);
            }
            if index <= shape.nodes {
                roles.extend([Role::NodeAgent, Role::Proxy]);
            }
            let segment = (index - 1) % shape.segments;
            let last = segment * SEGMENT_SIZE + index;
            Host {
                name: format!("h{index}"),
                index,
                ip: Ipv4Addr::new(subnet[0], subnet[1], subnet[2], last),
                segment,
                roles,
            }
        };
        let dir = std::path::absolute(dir)?;
        Ok(Self {
            name: name.to_owned(),
            dir,
            subnet,
            segments: shape.segments,
            hosts: (1..=count).map(host).collect(),
        })
    }

    /// A host's folder.
    pub fn host_dir(&self, host: &Host) -> PathBuf {
        self.dir.join(&host.name)
    }

    /// The address beside the hosts: bridge, registry, kubectl.
    pub fn beside(&self) -> Ipv4Addr {
        self.gateway(0)
    }

    /// The address beside the hosts of a segment, which is also their way to the other segments.
    pub(super) fn gateway(&self, segment: u8) -> Ipv4Addr {
        let last = if self.segments == 1 {
            254
        } else {
            segment * SEGMENT_SIZE + SEGMENT_SIZE - 2
        };
        Ipv4Addr::new(self.subnet[0], self.subnet[1], self.subnet[2], last)
    }

    /// Length of a segment's prefix.
    pub(super) fn prefix(&self) -> u8 {
        if self.segments == 1 { 24 } else { 26 }
    }

    /// Parent of the cgroups of a host's pods.
    pub fn cgroup_prefix(&self, host: &Host) -> String {
        format!("/corten-lab/{}/{}", self.name, host.name)
    }

    pub(super) fn pki(&self) -> Result<Pki> {
        let pki = Pki::ensure(&self.dir.join("pki"))?;
        let masters = self
            .hosts
            .iter()
            .filter(|host| host.roles.contains(&Role::Apiserver));
        let names = ServerNames {
            dns: self.hosts.iter().map(|host| host.name.clone()).collect(),
            ips: masters.map(|host| IpAddr::V4(host.ip)).collect(),
        };
        pki.apiserver(&names, Networks::default().kubernetes())?;
        pki.control_plane()?;
        for host in &self.hosts {
            pki.store(&host.name, &[IpAddr::V4(host.ip)])?;
            pki.node(&host.name, &[IpAddr::V4(host.ip)])?;
        }
        Ok(pki)
    }

    /// The settings of a host's roles.
    pub fn settings(&self, host: &Host) -> Result<HostSettings> {
        let dir = self.host_dir(host);
        let with = |role: Role| self.hosts.iter().filter(move |h| h.roles.contains(&role));
        // The API server on the same host first: a host that is cut off keeps talking to its own.
        let own = with(Role::Apiserver).filter(|h| h.name == host.name);
        let others = with(Role::Apiserver).filter(|h| h.name != host.name);
        let servers = own
            .chain(others)
            .map(|h| format!("https://{}:{}", h.ip, ports::API))
            .collect();
        Ok(HostSettings {
            name: host.name.clone(),
            ip: host.ip,
            data_dir: dir.join("data"),
            run_dir: dir.join("run"),
            pod_log_dir: dir.join("pods-log"),
            pki: self.pki()?,
            cgroup_prefix: self.cgroup_prefix(host),
            registries: Some(dir.join("registries")),
            networks: Networks::default(),
            servers,
            members: with(Role::Store)
                .map(|h| Member {
                    name: h.name.clone(),
                    ip: h.ip,
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_spread_and_sizes_checked() {
        let shape = Shape {
            members: 3,
            nodes: 4,
            segments: 1,
        };
        let plan = Plan::new(Path::new("/x"), "lab", shape).expect("fits");
        assert_eq!(plan.hosts.len(), 4);
        assert_eq!(plan.hosts[3].roles, [Role::NodeAgent, Role::Proxy]);
        assert_eq!(plan.hosts[0].roles.len(), 6);
        for (members, nodes, segments, name) in [
            (2, 3, 1, "lab"),
            (3, 0, 1, "lab"),
            (3, 3, 0, "lab"),
            (3, 3, 5, "lab"),
            (3, 3, 1, "a-b"),
            (3, 3, 1, "much-too-long"),
        ] {
            let shape = Shape {
                members,
                nodes,
                segments,
            };
            assert!(
                Plan::new(Path::new("/x"), name, shape).is_err(),
                "{members} {nodes} {segments} {name}"
            );
        }
    }

    #[test]
    fn segments_share_no_addresses() {
        let shape = Shape {
            members: 1,
            nodes: 5,
            segments: 2,
        };
        let plan = Plan::new(Path::new("/x"), "lab", shape).expect("fits");
        let places: Vec<(u8, u8)> = plan
            .hosts
            .iter()
            .map(|host| (host.segment, host.ip.octets()[3]))
            .collect();
        assert_eq!(places, [(0, 1), (1, 66), (0, 3), (1, 68), (0, 5)]);
        let gateways = [0, 1].map(|segment| plan.gateway(segment).octets()[3]);
        assert_eq!((gateways, plan.prefix()), ([62, 126], 26));
        assert_eq!(plan.beside(), plan.gateway(0));
    }

    #[test]
    fn a_disk_shared_with_others_closed_the_cluster() {
        let dir = tempfile::tempdir().expect("temp dir");
        let shape = Shape {
            members: 1,
            nodes: 1,
            segments: 1,
        };
        let plan = Plan::new(dir.path(), "lab", shape).expect("fits");
        let settings = plan.settings(&plan.hosts[0]).expect("settings");
        let node = settings.node_agent(Path::new("/x"));
        // A machine of 250 GB with 20 left has room for all that a lab does.
        assert!(node.pressure_disk_percent < 8, "nodes are tainted");
        assert!(node.image_gc_high_threshold > 92, "images are removed");
        assert!(node.image_gc_low_threshold < node.image_gc_high_threshold);
    }
}
