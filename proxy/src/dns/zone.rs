//! The names of the cluster, after the Kubernetes DNS specification 1.1: Services, their ports, their endpoints by host
//! name, pods by address, and the way back from addresses. A lookup in the caches; no IO.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use corten_client::cache::Cache;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::sync::BY_SERVICE;

/// Index of Services by cluster address.
pub const BY_CLUSTER_IP: &str = "clusterIP";
/// Index of slices by the addresses in them.
pub const BY_ADDRESS: &str = "address";
/// How long clients may keep an answer: short, since endpoints move. CoreDNS's default for clusters.
const TTL_SECONDS: u32 = 5;

/// The key of [`BY_CLUSTER_IP`].
pub fn cluster_ip_of(service: &Service) -> Vec<String> {
    service
        .spec
        .iter()
        .filter_map(|spec| spec.cluster_ip.clone())
        .filter(|ip| ip != "None")
        .collect()
}

/// The keys of [`BY_ADDRESS`].
pub fn addresses_of(slice: &EndpointSlice) -> Vec<String> {
    slice
        .endpoints
        .iter()
        .filter_map(|e| e.addresses.first().cloned())
        .collect()
}

/// What is known of a name.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// Records of the wanted type; empty when the name exists without them.
    Records(Vec<Record>),
    /// The name stands for another one, which the rest of the answer is about.
    Alias {
        /// What says so.
        record: Box<Record>,
        /// The other name.
        target: Name,
    },
    /// Not known yet: the caches are still empty. Saying no now would be kept by clients.
    NotReady,
    /// No such name in the cluster.
    NxDomain,
    /// Not a name of the cluster.
    NotOurs,
}

/// The cluster's zone over live caches.
#[derive(Clone)]
pub struct Zone {
    /// The cluster's domain, as in `cluster.local.`
    pub domain: Name,
    /// All Services, indexed by [`BY_CLUSTER_IP`].
    pub services: Cache<Service>,
    /// All slices, indexed by [`BY_SERVICE`] and [`BY_ADDRESS`].
    pub slices: Cache<EndpointSlice>,
    /// The cluster's reverse ranges: pods and Services.
    pub reverse: Vec<ipnet::Ipv4Net>,
}

impl Zone {
    /// Answers one question.
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Answer {
        if let Ok(address) = name.parse_arpa_name() {
            return self.reverse_lookup(name, address.addr(), kind);
        }
        if !self.domain.zone_of(name) {
            return Answer::NotOurs;
        }
        let depth = usize::from(name.num_labels()) - usize::from(self.domain.num_labels());
        let labels: Vec<String> = name
            .iter()
            .take(depth)
            .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
            .collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => Answer::Records(if kind == RecordType::SOA {
                vec![self.soa()]
            } else {
                Vec::new()
            }),
            ["svc" | "pod"] => Answer::Records(Vec::new()),
            ["dns-version"] if kind == RecordType::TXT => text(name, "1.1.0"),
            [pod, _namespace, "pod"] => pod_address(name, pod, kind),
            [_, .., "svc"] if !self.is_ready() => Answer::NotReady,
            [rest @ .., namespace, "svc"] => self.service(name, rest, namespace, kind),
            _ => Answer::NxDomain,
        }
    }

    /// Whether what the caches do not hold is known not to exist.
    fn is_ready(&self) -> bool {
        self.services.is_synced() && self.slices.is_synced()
    }

    /// The record that goes with negative answers, and says how long they may be kept.
    pub fn soa(&self) -> Record {
        let prefixed = |label: &str| {
            Name::from_ascii(label)
                .and_then(|n| n.append_domain(&self.domain))
                .unwrap_or_default()
        };
        let soa = SOA::new(
            prefixed("ns.dns"),
            prefixed("hostmaster"),
            1,
            7_200,
            1_800,
            86_400,
            TTL_SECONDS,
        );
        Record::from_rdata(self.domain.clone(), TTL_SECONDS, RData::SOA(soa))
    }

    fn service(&self, name: &Name, rest: &[&str], namespace: &str, kind: RecordType) -> Answer {
        let Some((service_name, prefix)) = rest.split_last() else {
            // The namespace itself: a name without records, if anything is in it.
            let exists = !self.services.list_namespace(namespace).is_empty();
            return if exists {
                Answer::Records(Vec::new())
            } else {
                Answer::NxDomain
            };
        };
        let Some(service) = self.services.get(namespace, service_name) else {
            return Answer::NxDomain;
        };
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec
                .external_name
                .as_deref()
                .and_then(|n| Name::from_utf8(format!("{n}.")).ok());
            return match (prefix, target) {
                ([], Some(target)) => Answer::Alias {
                    record: Box::new(Record::from_rdata(
                        name.clone(),
                        TTL_SECONDS,
                        RData::CNAME(CNAME(target.clone())),
                    )),
                    target,
                },
                _ => Answer::NxDomain,
            };
        }
        let cluster_ip = spec
            .cluster_ip
            .as_deref()
            .and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        let base = self.service_name(namespace, service_name);
        match (prefix, cluster_ip) {
            ([], Some(ip)) => address(name, &[ip], kind),
            ([], None) => {
                let found = self.endpoints(&service, namespace, service_name);
                if found.is_empty() {
                    return Answer::NxDomain;
                }
                address(name, &found.iter().map(|e| e.ip).collect::<Vec<_>>(), kind)
            }
            ([port, protocol], _) if port.starts_with('_') && protocol.starts_with('_') => self
                .srv(
                    name,
                    &base,
                    &service,
                    cluster_ip,
                    (&port[1..], &protocol[1..]),
                    kind,
                ),
            ([host], None) => {
                let found = self.endpoints(&service, namespace, service_name);
                let ips: Vec<_> = found
                    .iter()
                    .filter(|e| e.host == *host)
                    .map(|e| e.ip)
                    .collect();
                if ips.is_empty() {
                    Answer::NxDomain
                } else {
                    address(name, &ips, kind)
                }
            }
            _ => Answer::NxDomain,
        }
    }

    fn srv(
        &self,
        name: &Name,
        base: &Name,
        service: &Arc<Service>,
        cluster_ip: Option<Ipv4Addr>,
        (port, protocol): (&str, &str),
        kind: RecordType,
    ) -> Answer {
        let meta = &service.metadata;
        let (namespace, service_name) = (
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let found = ports.filter(|p| {
            p.name.as_deref() == Some(port)
                && p.protocol
                    .as_deref()
                    .unwrap_or("TCP")
                    .eq_ignore_ascii_case(protocol)
        });
        let Some(found) = found.into_iter().next() else {
            return Answer::NxDomain;
        };
        if kind != RecordType::SRV && kind != RecordType::ANY {
            return Answer::Records(Vec::new());
        }
        let record = |port: u16, target: Name| {
            Record::from_rdata(
                name.clone(),
                TTL_SECONDS,
                RData::SRV(SRV::new(0, 100, port, target)),
            )
        };
        if cluster_ip.is_some() {
            let port = u16::try_from(found.port).unwrap_or_default();
            return Answer::Records(vec![record(port, base.clone())]);
        }
        let records = self
            .endpoints(service, namespace, service_name)
            .into_iter()
            .filter_map(|endpoint| {
                let target = Name::from_ascii(&endpoint.host)
                    .and_then(|n| n.append_domain(base))
                    .ok()?;
                let number = endpoint
                    .ports
                    .iter()
                    .find(|(n, _)| n == port)
                    .map(|(_, number)| *number)?;
                Some(record(number, target))
            });
        Answer::Records(records.collect())
    }

    /// Endpoints of a headless Service: ready ones, or all with `publishNotReadyAddresses`.
    fn endpoints(&self, service: &Service, namespace: &str, name: &str) -> Vec<Host> {
        let all = service
            .spec
            .as_ref()
            .and_then(|s| s.publish_not_ready_addresses)
            .unwrap_or(false);
        let mut hosts = Vec::new();
        for slice in self
            .slices
            .by_index(BY_SERVICE, &format!("{namespace}/{name}"))
        {
            let ports: Vec<(String, u16)> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| {
                    Some((
                        p.name.clone().unwrap_or_default(),
                        u16::try_from(p.port?).ok()?,
                    ))
                })
                .collect();
            let usable =
                |e: &&Endpoint| all || e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            hosts.extend(
                slice
                    .endpoints
                    .iter()
                    .filter(usable)
                    .filter_map(|e| Host::of(e, &ports)),
            );
        }
        hosts.sort_by_key(|host| host.ip);
        hosts.dedup_by(|a, b| a.ip == b.ip && a.host == b.host);
        hosts
    }

    fn service_name(&self, namespace: &str, service: &str) -> Name {
        let text = format!("{service}.{namespace}.svc");
        Name::from_ascii(text)
            .and_then(|n| n.append_domain(&self.domain))
            .unwrap_or_default()
    }

    fn reverse_lookup(&self, name: &Name, ip: IpAddr, kind: RecordType) -> Answer {
        let IpAddr::V4(ip) = ip else {
            return Answer::NotOurs;
        };
        if !self.reverse.iter().any(|net| net.contains(&ip)) {
            return Answer::NotOurs;
        }
        if !self.is_ready() {
            return Answer::NotReady;
        }
        let names = self.names_of(ip);
        if names.is_empty() {
            return Answer::NxDomain;
        }
        if kind != RecordType::PTR && kind != RecordType::ANY {
            return Answer::Records(Vec::new());
        }
        let record =
            |target| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target)));
        Answer::Records(names.into_iter().map(record).collect())
    }

    fn names_of(&self, ip: Ipv4Addr) -> Vec<Name> {
        let text = ip.to_string();
        let of = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            )
        };
        let services = self.services.by_index(BY_CLUSTER_IP, &text);
        if let Some(service) = services.first() {
            let (namespace, name) = of(&service.metadata);
            return vec![self.service_name(&namespace, &name)];
        }
        let mut names = Vec::new();
        for slice in self.slices.by_index(BY_ADDRESS, &text) {
            let Some(key) = crate::sync::service_of(&slice).pop() else {
                continue;
            };
            let Some((namespace, service)) = key.split_once('/') else {
                continue;
            };
            let base = self.service_name(namespace, service);
            let found = slice
                .endpoints
                .iter()
                .find(|e| e.addresses.first() == Some(&text));
            let host = found.and_then(|e| Host::of(e, &[])).map(|h| h.host);
            names.extend(host.and_then(|h| {
                Name::from_ascii(h)
                    .and_then(|n| n.append_domain(&base))
                    .ok()
            }));
        }
        names.dedup();
        names
    }
}

struct Host {
    ip: Ipv4Addr,
    host: String,
    ports: Vec<(String, u16)>,
}

impl Host {
    /// An endpoint's host name is its own, or is made from its address.
    fn of(endpoint: &Endpoint, ports: &[(String, u16)]) -> Option<Self> {
        let ip: Ipv4Addr = endpoint.addresses.first()?.parse().ok()?;
        let host = endpoint
            .hostname
            .clone()
            .unwrap_or_else(|| ip.to_string().replace('.', "-"));
        Some(Self {
            ip,
            host,
            ports: ports.to_vec(),
        })
    }
}

fn one(name: &Name, data: RData) -> Answer {
    Answer::Records(vec![Record::from_rdata(name.clone(), TTL_SECONDS, data)])
}

fn text(name: &Name, value: &str) -> Answer {
    one(
        name,
        RData::TXT(hickory_proto::rr::rdata::TXT::new(vec![value.to_owned()])),
    )
}

fn address(name: &Name, ips: &[Ipv4Addr], kind: RecordType) -> Answer {
    let records = match kind {
        RecordType::A | RecordType::ANY => ips
            .iter()
            .map(|ip| Record::from_rdata(name.clone(), TTL_SECONDS, RData::A(A(*ip))))
            .collect(),
        _ => Vec::new(),
    };
    Answer::Records(records)
}

/// `10-244-0-7.default.pod`: the address in the name, whether or not such a pod exists (as the specification allows).
fn pod_address(name: &Name, pod: &str, kind: RecordType) -> Answer {
    if let Ok(ip) = pod.replace('-', ".").parse::<Ipv4Addr>() {
        return address(name, &[ip], kind);
    }
    match pod.replace('-', ":").parse::<std::net::Ipv6Addr>() {
        Ok(ip) if kind == RecordType::AAAA => one(name, RData::AAAA(AAAA(ip))),
        Ok(_) => Answer::Records(Vec::new()),
        Err(_) => Answer::NxDomain,
    }
}

#[cfg(test)]
mod tests;
