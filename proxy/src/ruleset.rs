//! From the model to nftables: pure. A rule set is chains (name to rules), verdict-map elements and affinity sets; two of
//! them differ by a script that touches only what changed, so an update costs what it changes.
//!
//! ```text
//!  prerouting / output ─ vmap @services (address . protocol . port) ─▶ svc-* ─ numgen vmap ─▶ ep-* ─ dnat
//!                      └ vmap @nodeports (protocol . port), local addresses ─▶ ext-* ──────▶ ep-*
//!  forward / input / output ─ vmap @closed ─▶ reject          postrouting ─ mark 0x4000 ─▶ masquerade
//! ```

mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::model::{Endpoint, Model, PortName, Protocol, ServicePort};

pub use render::{diff, full};

/// Mark on packets that must leave with this node's address; the bit that kube-proxy uses, so that tools know it.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// What the rules know of this node and cluster.
#[derive(Clone, Debug)]
pub struct Scope {
    /// All pods of the cluster: their traffic to a Service keeps its source address.
    pub pod_cidr: Ipv4Net,
    /// All cluster addresses of Services: no Service may claim one as its external address.
    pub service_cidr: Ipv4Net,
    /// Addresses that are answered on this node itself (cluster DNS) and get no rules.
    pub node_local: BTreeSet<Ipv4Addr>,
}

impl Scope {
    /// Whether an external address is one that Services may have. Anyone who may write a Service can set them, so they must
    /// not reach what belongs to others.
    fn admits(&self, external: Ipv4Addr) -> bool {
        !self.service_cidr.contains(&external) && !self.node_local.contains(&external)
    }
}

/// Key of an element of the `services` and `closed` maps.
pub type ServiceKey = (Ipv4Addr, Protocol, u16);
/// Key of an element of the `nodeports` and `closed-nodeports` maps.
pub type NodePortKey = (Protocol, u16);

/// The wanted (or applied) state of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Chains beside the fixed ones, with their rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Address and port to the chain that serves it.
    pub services: BTreeMap<ServiceKey, String>,
    /// Node port to the chain that serves it.
    pub nodeports: BTreeMap<NodePortKey, String>,
    /// Addresses that must be refused: no endpoints.
    pub closed: BTreeSet<ServiceKey>,
    /// Node ports that must be refused.
    pub closed_nodeports: BTreeSet<NodePortKey>,
    /// Affinity sets: name to seconds.
    pub affinity: BTreeMap<String, u32>,
}

/// Computes the whole rule set.
pub fn compute(model: &Model, scope: &Scope) -> Ruleset {
    let mut rules = Ruleset::default();
    let ports: Vec<_> = model
        .iter()
        .filter(|(_, port)| !scope.node_local.contains(&port.cluster_ip))
        .map(|(name, port)| (chain_id(name, port.protocol), port))
        .collect();
    // Cluster addresses are handed out once; external ones are claimed, so they come after all of them and take nothing.
    for (id, port) in &ports {
        add_cluster(&mut rules, id, port, scope);
    }
    for (id, port) in &ports {
        add_external(&mut rules, id, port, scope);
    }
    rules
}

fn add_cluster(rules: &mut Ruleset, id: &str, port: &ServicePort, scope: &Scope) {
    let key = (port.cluster_ip, port.protocol, port.port);
    let internal = port.internal();
    if internal.is_empty() {
        rules.closed.insert(key);
        return;
    }
    let chain = format!("svc-{id}");
    let body = balance(rules, id, port, &internal, vec![from_outside(scope)]);
    rules.chains.insert(chain.clone(), body);
    rules.services.insert(key, chain);
}

/// Answers to clients beyond the pods must come back through this node.
fn from_outside(scope: &Scope) -> String {
    format!("ip saddr != {} jump mark-masquerade", scope.pod_cidr)
}

fn add_external(rules: &mut Ruleset, id: &str, port: &ServicePort, scope: &Scope) {
    let keys: Vec<ServiceKey> = port
        .external_ips
        .iter()
        .filter(|ip| scope.admits(**ip))
        .map(|ip| (*ip, port.protocol, port.port))
        .filter(|key| !rules.services.contains_key(key) && !rules.closed.contains(key))
        .collect();
    let node_key = port.node_port.map(|node_port| (port.protocol, node_port));
    if keys.is_empty() && node_key.is_none() {
        return;
    }
    if port.cluster().is_empty() {
        rules.closed.extend(keys);
        rules.closed_nodeports.extend(node_key);
        return;
    }
    let chain = format!("ext-{id}");
    let body = if port.external_local {
        local_only(rules, id, port, scope)
    } else {
        let opening = vec!["jump mark-masquerade".to_owned()];
        balance(rules, id, port, &port.external(), opening)
    };
    rules.chains.insert(chain.clone(), body);
    if let Some(key) = node_key {
        rules.nodeports.insert(key, chain.clone());
    }
    let guarded = guard(rules, id, port, chain);
    rules
        .services
        .extend(keys.into_iter().map(|key| (key, guarded.clone())));
}

/// externalTrafficPolicy Local: what comes from outside keeps its address and stays on this node, or is dropped without a
/// word: a load balancer then takes another node, where a refusal would reach the client. Pods and this node itself are not
/// outside; they are served by all endpoints, as at the cluster address.
fn local_only(rules: &mut Ruleset, id: &str, port: &ServicePort, scope: &Scope) -> Vec<String> {
    let everywhere = if port.internal_local {
        let chain = format!("all-{id}");
        let body = balance(rules, id, port, &port.cluster(), vec![from_outside(scope)]);
        rules.chains.insert(chain.clone(), body);
        chain
    } else {
        format!("svc-{id}") // the cluster has endpoints, so it is there
    };
    let within = vec![
        format!("ip saddr {} goto {everywhere}", scope.pod_cidr),
        format!("fib saddr type local goto {everywhere}"),
    ];
    let here = port.external();
    if here.is_empty() {
        let drop = "drop".to_owned();
        return within.into_iter().chain([drop]).collect();
    }
    balance(rules, id, port, &here, within)
}

/// Load-balancer addresses may be limited to source ranges.
fn guard(rules: &mut Ruleset, id: &str, port: &ServicePort, chain: String) -> String {
    if port.source_ranges.is_empty() {
        return chain;
    }
    let ranges: Vec<String> = port.source_ranges.iter().map(ToString::to_string).collect();
    let guarded = format!("lb-{id}");
    let body = vec![
        format!("ip saddr {{ {} }} goto {chain}", ranges.join(", ")),
        "meta mark set meta mark or 0x8000".to_owned(),
    ];
    rules.chains.insert(guarded.clone(), body);
    guarded
}

/// The rules that choose an endpoint, and the endpoints' own chains.
fn balance(
    rules: &mut Ruleset,
    id: &str,
    port: &ServicePort,
    endpoints: &[Endpoint],
    opening: Vec<String>,
) -> Vec<String> {
    let mut body = opening;
    let mut targets = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let chain = format!("ep-{id}-{}-{}", hex_ip(endpoint.ip), endpoint.port);
        let mut rule = vec![format!("ip saddr {} jump mark-masquerade", endpoint.ip)]; // hairpin: a pod to itself
        if let Some(seconds) = port.affinity_seconds {
            let set = format!("aff-{id}-{}-{}", hex_ip(endpoint.ip), endpoint.port);
            rule.push(format!("update @{set} {{ ip saddr }}"));
            body.push(format!("ip saddr @{set} goto {chain}"));
            rules.affinity.insert(set, seconds);
        }
        rule.push(format!(
            "meta l4proto {} dnat to {}:{}",
            port.protocol, endpoint.ip, endpoint.port
        ));
        rules.chains.insert(chain.clone(), rule);
        targets.push(chain);
    }
    match targets.as_slice() {
        [only] => body.push(format!("goto {only}")),
        many => {
            let arms: Vec<String> = many
                .iter()
                .enumerate()
                .map(|(i, chain)| format!("{i} : goto {chain}"))
                .collect();
            body.push(format!(
                "numgen random mod {} vmap {{ {} }}",
                many.len(),
                arms.join(", ")
            ));
        }
    }
    body
}

fn hex_ip(ip: Ipv4Addr) -> String {
    format!("{:08x}", u32::from(ip))
}

/// nft names are limited to 128 bytes and a small alphabet, Service names are not: a 64-bit FNV-1a of the full name.
fn chain_id(name: &PortName, protocol: Protocol) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{name}/{protocol}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;
