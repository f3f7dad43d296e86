//! What the endpoint controllers ask of Services and their pods: which belong together, which port a name means on a
//! pod, which changes matter. Pure.

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;

/// Carried by what describes a Service without a cluster address.
pub(crate) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Whether this is a Service whose endpoints are found by its selector.
pub(crate) fn selects_pods(service: &Service) -> bool {
    let Some(spec) = &service.spec else {
        return false;
    };
    let external = spec.type_.as_deref() == Some("ExternalName");
    !external
        && spec
            .selector
            .as_ref()
            .is_some_and(|selector| !selector.is_empty())
}

/// Whether the Service has no address of its own.
pub(crate) fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        == Some("None")
}

/// Whether pods count before they are ready.
pub(crate) fn publishes_unready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false)
}

/// The ports of a Service.
pub(crate) fn ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten())
}

/// The pods that a Service selects.
pub(crate) fn pods_of(service: &Service, pods: &Cache<Pod>) -> Vec<Arc<Pod>> {
    let Some(selector) = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
    else {
        return Vec::new();
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = pods.list_namespace(namespace);
    found.retain(|pod| pods::selects_map(selector, pod.metadata.labels.as_ref()));
    found
}

/// The Services that a changed pod is an endpoint of, before or after; none if the change does not show.
pub(crate) fn of_pod(services: &Cache<Service>, change: &Change<Pod>) -> Vec<ObjectName> {
    let pod = change.object();
    if change.old().is_some_and(|old| same_endpoint(old, pod)) {
        return Vec::new();
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut keys = Vec::new();
    for service in services.list_namespace(namespace) {
        let Some(selector) = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref())
        else {
            continue;
        };
        let takes = |pod: &Pod| pods::selects_map(selector, pod.metadata.labels.as_ref());
        if takes(pod) || change.old().is_some_and(|old| takes(old)) {
            keys.push(ObjectName::of(&*service));
        }
    }
    keys
}

fn same_endpoint(a: &Pod, b: &Pod) -> bool {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    a.metadata.labels == b.metadata.labels
        && a.metadata.uid == b.metadata.uid
        && a.metadata.deletion_timestamp.is_some() == b.metadata.deletion_timestamp.is_some()
        && addresses(a).eq(addresses(b))
        && node(a) == node(b)
        && pods::is_ready(a) == pods::is_ready(b)
        && pods::is_finished(a) == pods::is_finished(b)
}

/// The addresses of a pod, the main one first.
pub(crate) fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status
        .into_iter()
        .flat_map(|status| status.pod_ips.iter().flatten())
        .map(|ip| ip.ip.as_str());
    let listed =
        status.is_some_and(|status| status.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty()));
    let only = status
        .and_then(|status| status.pod_ip.as_deref())
        .filter(|_| !listed);
    all.chain(only).filter(|ip| !ip.is_empty())
}

/// The name under which DNS knows the pod below the Service, if it has one.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let below = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname
        .clone()
        .filter(|name| below && !name.is_empty())
}

/// The number that a Service's port has on a pod; `None` if the pod has no port of that name.
pub(crate) fn port_on(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec
                .containers
                .iter()
                .chain(sidecars)
                .flat_map(|c| c.ports.iter().flatten());
            let found = ports.find(|candidate| {
                candidate.name.as_ref() == Some(name)
                    && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
            })?;
            Some(found.container_port)
        }
    }
}
