//! From pods to endpoints, grouped by what a slice can hold: one address family and one set of ports. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};

use crate::{pods, services};

/// Endpoints that may share slices.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) family: String,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// The groups that describe a Service. A Service without endpoints has one empty group per family, so that there is a
/// slice that says so.
pub(super) fn groups(
    service: &Service,
    pods: &[Arc<Pod>],
    zones: &BTreeMap<String, String>,
) -> Vec<Group> {
    let mut all = Vec::new();
    for family in families(service) {
        let mut of_family: Vec<Group> = Vec::new();
        for pod in pods.iter().filter(|pod| !pods::is_finished(pod)) {
            let Some(address) = services::addresses(pod).find(|ip| family_of(ip) == family) else {
                continue;
            };
            let Some(ports) = ports_of(service, pod) else {
                continue;
            };
            let endpoint = endpoint(service, pod, address, zones);
            match of_family.iter_mut().find(|group| group.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => of_family.push(Group {
                    family: family.clone(),
                    ports,
                    endpoints: vec![endpoint],
                }),
            }
        }
        if of_family.is_empty() {
            of_family.push(Group {
                family,
                ports: Vec::new(),
                endpoints: Vec::new(),
            });
        }
        all.append(&mut of_family);
    }
    all
}

fn families(service: &Service) -> Vec<String> {
    let listed = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.clone())
        .filter(|list| !list.is_empty());
    listed.unwrap_or_else(|| vec!["IPv4".to_owned()])
}

pub(super) fn family_of(address: &str) -> &'static str {
    if address.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    }
}

/// The ports of the Service on this pod; `None` if it has ports and the pod offers none of them.
fn ports_of(service: &Service, pod: &Pod) -> Option<Vec<EndpointPort>> {
    let wanted = services::ports(service).count();
    let found: Vec<EndpointPort> = services::ports(service)
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(services::port_on(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    let portless = wanted == 0 && services::is_headless(service);
    (!found.is_empty() || portless).then_some(found)
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    address: &str,
    zones: &BTreeMap<String, String>,
) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            // Who does not know `terminating` must not send new work to a pod that goes.
            ready: Some(services::publishes_unready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: services::hostname(service, pod),
        zone: node.as_ref().and_then(|node| zones.get(node).cloned()),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}
