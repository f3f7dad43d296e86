//! Cluster addresses and node ports of Services: one key in the store per number in use, written in the same transaction as
//! the Service that uses it. The key of an address is that of its IPAddress.
//!
//! Upstream keeps one bitmap per range; a key per number needs no lock, no repair after a crash between two writes, and two
//! servers collide only when they pick the same number. Free numbers are guessed from the cached Services; the store's guard
//! decides. Invariant: a number is held by at most one Service, and is released in the transaction that gives it up.

mod addresses;
mod pick;
mod repair;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use corten_api::field::{FieldError, FieldPath};
use corten_api::kinds::core::service::{needs_cluster_ip, needs_node_ports};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::{Value, json};

pub use addresses::Known;
pub use pick::PortRange;
pub use repair::repair;

use self::addresses::{IP_PREFIX, ip_address};
use crate::cache::Snapshot;
use crate::storage::{Guard, Op, Txn};

/// Below it lie the keys of the node ports in use.
pub(crate) const PORT_PREFIX: &str = "/registry/corten/nodeports/";

/// The ranges to allocate from.
#[derive(Debug, Clone)]
pub struct Allocators {
    pub service_cidr: Ipv4Net,
    pub node_ports: PortRange,
}

/// What a write of a Service needs besides the Service.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub txn: Txn,
    /// Keys whose number the client asked for, with the error to give when it is taken.
    demanded: BTreeMap<String, FieldError>,
}

impl Plan {
    /// The error about the first of the taken keys that the client itself asked for.
    pub fn demanded<'a>(&self, taken: impl Iterator<Item = &'a str>) -> Option<FieldError> {
        taken
            .filter_map(|key| self.demanded.get(key))
            .next()
            .cloned()
    }
}

impl Allocators {
    /// Fills in the numbers that `new` lacks, and plans the keys to take and to give back. `services` and `known` are what
    /// is known of the others; `key` names the Service in the keys' values.
    pub fn plan(
        &self,
        services: &Snapshot,
        known: &Known,
        key: &str,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Plan, FieldError> {
        let held = old.map(keys_of).unwrap_or_default();
        let mut plan = Plan::default();
        let wanted = match new {
            Some(new) => {
                // Fields of the client; what it left out is filled in below and may be picked again.
                plan.demanded = errors_if_taken(new);
                self.check_ranges(known, &held, new)?;
                self.fill(services, known, new)?;
                keys_of(new)
            }
            None => Vec::new(),
        };
        for taken in wanted.iter().filter(|key| !held.contains(key)) {
            let value = value_of(taken, key, Timestamp::now());
            plan.txn.guards.push(Guard::Absent(taken.clone()));
            plan.txn.ops.push(Op::Put {
                key: taken.clone(),
                value,
                ttl: None,
            });
        }
        for released in held.iter().filter(|key| !wanted.contains(key)) {
            plan.txn.ops.push(Op::Delete {
                key: released.clone(),
            });
        }
        Ok(plan)
    }

    /// Numbers that are held already stay, whatever has become of their range.
    fn check_ranges(
        &self,
        known: &Known,
        held: &[String],
        service: &Value,
    ) -> Result<(), FieldError> {
        let spec = &service["spec"];
        if let Some(text) = spec["clusterIP"]
            .as_str()
            .filter(|ip| !matches!(*ip, "" | "None"))
            && needs_cluster_ip(service)
            && !held.contains(&format!("{IP_PREFIX}{text}"))
        {
            let inside = text.parse::<Ipv4Addr>().is_ok_and(|ip| known.contains(ip));
            if !inside {
                let why = format!(
                    "failed to allocate IP {text}: the provided network does not match the current range"
                );
                return Err(FieldError::invalid(&ip_path(), json!([text]), why));
            }
        }
        for (index, port) in node_ports(service) {
            let kept = held.contains(&format!("{PORT_PREFIX}{port}"));
            if !kept && !self.node_ports.contains(port) {
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {}",
                    self.node_ports
                );
                return Err(FieldError::invalid(&port_path(index), port, why));
            }
        }
        Ok(())
    }

    fn fill(
        &self,
        services: &Snapshot,
        known: &Known,
        service: &mut Value,
    ) -> Result<(), FieldError> {
        fill_cluster_ip(known, service)?;
        if !needs_node_ports(service) {
            return Ok(());
        }
        let mut mine: Vec<u16> = node_ports(service).map(|(_, port)| port).collect();
        let mut by_port: BTreeMap<i64, u16> = BTreeMap::new();
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            if let (Some(number), Some(node_port)) = (port["port"].as_i64(), node_port_of(port)) {
                by_port.insert(number, node_port);
            }
        }
        let mut used = None;
        let ports = service["spec"].get_mut("ports");
        let Some(ports) = ports.and_then(Value::as_array_mut) else {
            return Ok(());
        };
        for (index, port) in ports.iter_mut().enumerate() {
            if node_port_of(port).is_some() {
                continue;
            }
            let number = port["port"].as_i64().unwrap_or(0);
            // The same port in another protocol shares its node port.
            let chosen = match by_port.get(&number) {
                Some(shared) => *shared,
                None => {
                    let used = used.get_or_insert_with(|| pick::ports_in_use(services));
                    self.node_ports
                        .free(|port| used.contains(&port) || mine.contains(&port))
                        .ok_or_else(|| {
                            FieldError::internal(
                                &port_path(index),
                                "failed to allocate a nodePort: range is full",
                            )
                        })?
                }
            };
            mine.push(chosen);
            by_port.insert(number, chosen);
            port["nodePort"] = chosen.into();
        }
        Ok(())
    }
}

fn fill_cluster_ip(known: &Known, service: &mut Value) -> Result<(), FieldError> {
    if !needs_cluster_ip(service) {
        return Ok(());
    }
    let given = service["spec"]["clusterIP"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    let chosen = if given.is_empty() {
        let full =
            || FieldError::internal(&ip_path(), "failed to allocate a serviceIP: range is full");
        known.free().ok_or_else(full)?.to_string()
    } else {
        given
    };
    let spec = &mut service["spec"];
    let single = spec["clusterIPs"].as_array().is_none_or(Vec::is_empty);
    if single {
        spec["clusterIPs"] = json!([chosen]);
    }
    spec["clusterIP"] = chosen.into();
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    Ok(())
}
/// What lies at the key of a number that a Service holds.
fn value_of(key: &str, service: &str, now: Timestamp) -> Bytes {
    match key.strip_prefix(IP_PREFIX) {
        Some(ip) => ip_address(ip, service, now),
        None => Bytes::from(json!({"service": service}).to_string()),
    }
}

/// The keys of all numbers that a Service holds.
pub(crate) fn keys_of(service: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    if needs_cluster_ip(service)
        && let Some(ip) = service["spec"]["clusterIP"]
            .as_str()
            .and_then(|ip| ip.parse::<IpAddr>().ok())
    {
        keys.push(format!("{IP_PREFIX}{ip}"));
    }
    for (_, port) in node_ports(service) {
        let key = format!("{PORT_PREFIX}{port}");
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn errors_if_taken(service: &Value) -> BTreeMap<String, FieldError> {
    let mut errors = BTreeMap::new();
    if let Some(ip) = service["spec"]["clusterIP"]
        .as_str()
        .and_then(|ip| ip.parse::<IpAddr>().ok())
    {
        let why = format!("failed to allocate IP {ip}: provided IP is already allocated");
        errors.insert(
            format!("{IP_PREFIX}{ip}"),
            FieldError::invalid(
                &FieldPath::new("spec").child("clusterIPs"),
                json!([ip.to_string()]),
                why,
            ),
        );
    }
    for (index, port) in node_ports(service) {
        let why = "provided port is already allocated";
        errors.insert(
            format!("{PORT_PREFIX}{port}"),
            FieldError::invalid(&port_path(index), port, why),
        );
    }
    errors
}

/// The node ports of a Service with the index of their port; those of the health check have none.
fn node_ports(service: &Value) -> impl Iterator<Item = (usize, u16)> + '_ {
    let ports = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate();
    ports.filter_map(|(index, port)| Some((index, node_port_of(port)?)))
}

fn node_port_of(port: &Value) -> Option<u16> {
    let number = port["nodePort"].as_u64()?;
    u16::try_from(number).ok().filter(|number| *number > 0)
}

fn ip_path() -> FieldPath {
    FieldPath::new("spec").child("clusterIPs")
}

fn port_path(index: usize) -> FieldPath {
    FieldPath::new("spec")
        .child("ports")
        .index(index)
        .child("nodePort")
}
