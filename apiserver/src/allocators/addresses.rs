//! Cluster addresses: the ranges that they come from, and the IPAddress that tells who holds one.
//!
//! The IPAddress is the claim itself: it lies where the kind keeps its objects and is written with the Service, so what
//! people read there is never older or newer than what Services have. Upstream writes it first and the Service after it.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::kinds::networking::GROUP;
use corten_api::meta::{self, Uid};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::{Caches, Snapshot};

/// Below it lie the IPAddresses.
pub(crate) const IP_PREFIX: &str = "/registry/ipaddresses/";
/// Who made an IPAddress; those of others are not ours to remove.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// The IPAddress of a Service's address; `service` is its `namespace/name`.
pub(super) fn ip_address(ip: &str, service: &str, now: Timestamp) -> Bytes {
    let (namespace, name) = service.split_once('/').unwrap_or(("", service));
    let (key, value) = MANAGED_BY;
    let mut object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": ip, "generation": 1, "labels": {FAMILY: "IPv4", key: value}},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    });
    meta::set_uid(&mut object, &Uid::random());
    meta::set_creation_timestamp(&mut object, now);
    Bytes::from(object.to_string())
}

/// Whether a stored IPAddress was made for a Service.
pub(super) fn is_ours(stored: &[u8]) -> bool {
    let object: Value = serde_json::from_slice(stored).unwrap_or_default();
    let (key, value) = MANAGED_BY;
    object["metadata"]["labels"][key] == value
}

/// All that is known of addresses and ranges at one moment, from the cache.
pub struct Known {
    /// Ranges that may be taken from, the server's own first.
    ranges: Vec<Ipv4Net>,
    taken: Arc<Snapshot>,
}

impl Known {
    /// The server's own range and those of the ServiceCIDRs that are ready.
    pub fn of(caches: &Caches, own: Ipv4Net) -> Option<Self> {
        let more = caches.named(GROUP, "servicecidrs")?.snapshot();
        let more = more.iter().filter_map(|item| {
            let object = item.value();
            is_ready(&object).then(|| ranges_of(&object))
        });
        let mut ranges = vec![own];
        ranges.extend(more.flatten().filter(|range| *range != own));
        let taken = caches.named(GROUP, "ipaddresses")?.snapshot();
        Some(Self { ranges, taken })
    }

    pub(crate) fn contains(&self, ip: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(&ip))
    }

    /// An address that nobody holds, as far as known.
    pub(super) fn free(&self) -> Option<Ipv4Addr> {
        let names = self.taken.iter().map(|item| &*item.name);
        let taken: HashSet<Ipv4Addr> = names.filter_map(|name| name.parse().ok()).collect();
        let free = |range: &Ipv4Net| super::pick::free_ip(*range, |ip| taken.contains(&ip));
        self.ranges.iter().find_map(free)
    }
}

fn ranges_of(object: &Value) -> Vec<Ipv4Net> {
    let ranges = object["spec"]["cidrs"].as_array();
    let texts = ranges.into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// A range that is going, or that nobody has looked at yet, gives no addresses.
fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    object["metadata"]["deletionTimestamp"].is_null()
        && conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
