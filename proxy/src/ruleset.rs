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
    /// Addresses that are answered on this node itself (cluster DNS) and get no rules.
    pub node_local: BTreeSet<Ipv4Addr>,
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
    for (name, port) in model {
        if !scope.node_local.contains(&port.cluster_ip) {
            add_port(&mut rules, name, port, scope);
        }
    }
    rules
}

fn add_port(rules: &mut Ruleset, name: &PortName, port: &ServicePort, scope: &Scope) {
    let id = chain_id(name, port.protocol);
    let cluster_key = (port.cluster_ip, port.protocol, port.port);
    let internal = port.internal();
    if internal.is_empty() {
        rules.closed.insert(cluster_key);
    } else {
        let chain = format!("svc-{id}");
        let from_outside = format!("ip saddr != {} jump mark-masquerade", scope.pod_cidr);
        let body = balance(rules, &id, port, &internal, vec![from_outside]);
        rules.chains.insert(chain.clone(), body);
        rules.services.insert(cluster_key, chain);
    }
    if port.external_ips.is_empty() && port.node_port.is_none() {
        return;
    }
    add_external(rules, &id, port);
}

fn add_external(rules: &mut Ruleset, id: &str, port: &ServicePort) {
    let external = port.external();
    let keys = port
        .external_ips
        .iter()
        .map(|ip| (*ip, port.protocol, port.port));
    let node_key = port.node_port.map(|node_port| (port.protocol, node_port));
    if external.is_empty() {
        rules.closed.extend(keys);
        rules.closed_nodeports.extend(node_key);
        return;
    }
    let chain = format!("ext-{id}");
    // With policy Local the client's address is kept, and the answer leaves by this node anyway.
    let opening = if port.external_local {
        Vec::new()
    } else {
        vec!["jump mark-masquerade".to_owned()]
    };
    let body = balance(rules, id, port, &external, opening);
    rules.chains.insert(chain.clone(), body);
    if let Some(key) = node_key {
        rules.nodeports.insert(key, chain.clone());
    }
    let guarded = guard(rules, id, port, chain);
    rules
        .services
        .extend(keys.map(|key| (key, guarded.clone())));
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
