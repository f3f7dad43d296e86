//! From pods to subsets. A port belongs to the set of addresses that offer it; ports of equal sets share a subset, so
//! that the form is the same whatever the order of pods. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Pod, Service,
};

use crate::{pods, services};

/// Addresses of one object: upstream's limit. Who needs more reads slices.
pub(super) const MAX_ADDRESSES: usize = 1_000;

/// Subsets, and whether some addresses did not fit.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) subsets: Vec<EndpointSubset>,
    pub(super) truncated: bool,
}

/// An address by its place in the list, and whether it is ready.
type Offer = (usize, bool);

pub(super) fn of(service: &Service, pods: &[Arc<Pod>]) -> Found {
    let publish = services::publishes_unready(service);
    let mut candidates: Vec<(&Pod, bool)> = Vec::new();
    for pod in pods.iter().filter(|pod| !pods::is_finished(pod)) {
        if publish || pod.metadata.deletion_timestamp.is_none() {
            candidates.push((pod, publish || pods::is_ready(pod)));
        }
    }
    candidates.retain(|(pod, _)| address_of(service, pod).is_some());
    let truncated = candidates.len() > MAX_ADDRESSES;
    candidates.sort_by_key(|(_, ready)| !ready); // the sort is stable: ready ones stay in order of name
    candidates.truncate(MAX_ADDRESSES);

    let mut offers: BTreeMap<PortKey, Vec<Offer>> = BTreeMap::new();
    for (index, (pod, ready)) in candidates.iter().enumerate() {
        for key in ports_of(service, pod) {
            offers.entry(key).or_default().push((index, *ready));
        }
    }
    let mut by_offer: BTreeMap<Vec<Offer>, Vec<PortKey>> = BTreeMap::new();
    for (port, offer) in offers {
        by_offer.entry(offer).or_default().push(port);
    }
    let subset = |(offer, ports): (Vec<Offer>, Vec<PortKey>)| {
        let addresses = |wanted: bool| {
            let chosen = offer.iter().filter(|(_, ready)| *ready == wanted);
            let list: Vec<_> = chosen
                .filter_map(|(index, _)| address(service, candidates[*index].0))
                .collect();
            (!list.is_empty()).then_some(list)
        };
        let ports: Vec<EndpointPort> = ports.into_iter().flatten().map(PortOf::into_port).collect();
        EndpointSubset {
            addresses: addresses(true),
            not_ready_addresses: addresses(false),
            ports: (!ports.is_empty()).then_some(ports),
        }
    };
    Found {
        subsets: by_offer.into_iter().map(subset).collect(),
        truncated,
    }
}

/// `None` stands for a headless Service without ports.
type PortKey = Option<PortOf>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PortOf {
    name: Option<String>,
    port: i32,
    protocol: String,
    app_protocol: Option<String>,
}

impl PortOf {
    fn into_port(self) -> EndpointPort {
        EndpointPort {
            name: self.name,
            port: self.port,
            protocol: Some(self.protocol),
            app_protocol: self.app_protocol,
        }
    }
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<PortKey> {
    if services::ports(service).next().is_none() {
        return if services::is_headless(service) {
            vec![None]
        } else {
            Vec::new()
        };
    }
    let ports = services::ports(service).filter_map(|port| {
        Some(Some(PortOf {
            name: port.name.clone().filter(|name| !name.is_empty()),
            port: services::port_on(pod, port)?,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: port.app_protocol.clone(),
        }))
    });
    ports.collect()
}

/// Endpoints hold one family: the Service's first.
fn address_of<'a>(service: &Service, pod: &'a Pod) -> Option<&'a str> {
    let families = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.as_ref());
    let six = families
        .and_then(|list| list.first())
        .is_some_and(|family| family == "IPv6");
    services::addresses(pod).find(|ip| ip.contains(':') == six)
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: address_of(service, pod)?.to_owned(),
        hostname: services::hostname(service, pod),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}
