//! Node IPAM: gives every node its range of pod addresses. Watches Nodes; writes `spec.podCIDR` and `spec.podCIDRs`, once
//! per node.
//!
//! There is one key for all nodes: a plan sees every range that is taken, so two nodes never get the same. A range is free
//! again when its node is gone.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use corten_client::cache::{Cache, Change};
use corten_client::events::EventKind;
use corten_client::runner::{Action, Controller, Plan};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

/// The controller over its cache.
pub struct NodeIpam {
    /// All nodes.
    pub nodes: Cache<Node>,
    /// Addresses of all pods.
    pub cluster: Ipv4Net,
    /// Length of a node's prefix.
    pub node_prefix: u8,
}

impl NodeIpam {
    /// The one key, if the change is about a range.
    pub fn of_node(&self, change: &Change<Node>) -> Vec<()> {
        let matters = matches!(change, Change::Deleted(_)) || cidr(change.object()).is_none();
        if matters { vec![()] } else { Vec::new() }
    }
}

fn cidr(node: &Node) -> Option<&str> {
    let spec = node.spec.as_ref()?;
    let listed = spec
        .pod_cidrs
        .as_ref()
        .and_then(|list| list.first())
        .map(String::as_str);
    spec.pod_cidr
        .as_deref()
        .or(listed)
        .filter(|text| !text.is_empty())
}

impl Controller for NodeIpam {
    type Key = ();
    type View = Vec<Arc<Node>>;

    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn view(&self, (): &()) -> Vec<Arc<Node>> {
        self.nodes.list()
    }

    fn plan(&self, nodes: &Vec<Arc<Node>>, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let taken: Vec<Ipv4Net> = nodes
            .iter()
            .filter_map(|node| cidr(node)?.parse().ok())
            .collect();
        let mut free = Free::new(self.cluster, self.node_prefix, &taken);
        let without = nodes
            .iter()
            .filter(|node| cidr(node).is_none() && node.metadata.deletion_timestamp.is_none());
        for node in without {
            plan.begin_group();
            let Some(range) = free.next() else {
                let message = format!(
                    "Node {} has no range left of {}",
                    node.metadata.name.as_deref().unwrap_or_default(),
                    self.cluster
                );
                plan.push(Action::event(
                    &**node,
                    EventKind::Warning,
                    "CIDRNotAvailable",
                    message,
                ));
                continue;
            };
            let range = range.to_string();
            // The revision says that nobody gave it another one meanwhile.
            let version = &node.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"podCIDR": range, "podCIDRs": [range]}});
            plan.push(Action::merge(&**node, patch));
        }
        plan
    }
}

/// The free ranges, lowest first.
struct Free {
    cluster: Ipv4Net,
    prefix: u8,
    next: u64,
    taken: HashSet<u64>,
}

impl Free {
    fn new(cluster: Ipv4Net, prefix: u8, taken: &[Ipv4Net]) -> Self {
        let (base, size) = (
            u64::from(cluster.network().to_bits()),
            1_u64 << (32 - u32::from(prefix.min(32))),
        );
        let mut indexes = HashSet::new();
        for range in taken
            .iter()
            .filter(|range| cluster.contains(&range.network()))
        {
            // A range of another length than ours takes all of ours that it touches.
            let first = (u64::from(range.network().to_bits()) - base) / size;
            let last = (u64::from(range.broadcast().to_bits()) - base) / size;
            indexes.extend(first..=last);
        }
        Self {
            cluster,
            prefix,
            next: 0,
            taken: indexes,
        }
    }
}

impl Iterator for Free {
    type Item = Ipv4Net;

    fn next(&mut self) -> Option<Ipv4Net> {
        let count = 1_u64 << u32::from(self.prefix.saturating_sub(self.cluster.prefix_len()));
        while self.next < count {
            let index = self.next;
            self.next += 1;
            if !self.taken.contains(&index) {
                let size = 1_u64 << (32 - u32::from(self.prefix.min(32)));
                let bits = u64::from(self.cluster.network().to_bits()) + index * size;
                return Ipv4Net::new(Ipv4Addr::from_bits(u32::try_from(bits).ok()?), self.prefix)
                    .ok();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use corten_client::client::Patch;

    use super::*;

    fn node(name: &str, cidr: Option<&str>) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": name, "uid": name}, "spec": {"podCIDR": cidr}}),
        )
        .expect("node")
    }

    /// The ranges that a plan gives out, and `-` for an event.
    fn given(cluster: &str, nodes: Vec<Node>) -> Vec<String> {
        let cluster = cluster.parse().expect("range");
        let controller = NodeIpam {
            nodes: Cache::fixed(nodes, CacheOptions::all()),
            cluster,
            node_prefix: 24,
        };
        let plan = controller.plan(&controller.view(&()), Timestamp::UNIX_EPOCH);
        let text = |action: &Action| match action {
            Action::Patch {
                patch: Patch::Merge(patch),
                ..
            } => patch["spec"]["podCIDRs"][0]
                .as_str()
                .unwrap_or("?")
                .to_owned(),
            _ => "-".to_owned(),
        };
        plan.actions.iter().map(text).collect()
    }

    #[test]
    fn nodes_get_the_lowest_free_ranges() {
        let nodes = vec![
            node("a", Some("10.244.1.0/24")),
            node("b", None),
            node("c", None),
            node("d", Some("10.0.0.0/24")),
        ];
        assert_eq!(
            given("10.244.0.0/16", nodes),
            ["10.244.0.0/24", "10.244.2.0/24"]
        );
        assert_eq!(
            given(
                "10.244.0.0/16",
                vec![node("a", Some("10.244.0.0/23")), node("b", None)]
            ),
            ["10.244.2.0/24"]
        );
    }

    #[test]
    fn an_exhausted_cluster_says_so() {
        let nodes = vec![node("a", None), node("b", None), node("c", None)];
        assert_eq!(
            given("10.244.0.0/23", nodes),
            ["10.244.0.0/24", "10.244.1.0/24", "-"]
        );
    }
}
