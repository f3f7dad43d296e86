//! Values of the downward API: fields of the pod, and numbers of its containers. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::PodFacts;
use crate::spec::{SpecError, containers, quantity};

/// The value of a downward API field.
pub fn field_value(
    pod: &Pod,
    field: &ObjectFieldSelector,
    facts: &PodFacts,
) -> Result<String, SpecError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let join = |ips: &[IpAddr]| {
        ips.iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    let text = match field.field_path.as_str() {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => join(&facts.host_ips),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => join(&facts.pod_ips),
        path => {
            let lookup = |prefix: &str, map: &Option<BTreeMap<String, String>>| {
                let key = path
                    .strip_prefix(prefix)?
                    .strip_prefix("['")?
                    .strip_suffix("']")?;
                Some(
                    map.as_ref()
                        .and_then(|m| m.get(key).cloned())
                        .unwrap_or_default(),
                )
            };
            lookup("metadata.labels", &meta.labels)
                .or_else(|| lookup("metadata.annotations", &meta.annotations))
                .ok_or_else(|| SpecError::Config(format!("fieldPath {path:?} is not supported")))?
        }
    };
    Ok(text)
}

/// The value of a resource field: the container's own number, or for limits what the node can give.
pub fn resource_value(
    pod: &Pod,
    container: &Container,
    field: &ResourceFieldSelector,
    facts: &PodFacts,
) -> Result<String, SpecError> {
    let named = match field.container_name.as_deref() {
        Some(name) if name != container.name => containers(pod)
            .into_iter()
            .map(|(_, container)| container)
            .find(|other| other.name == name)
            .ok_or_else(|| SpecError::Config(format!("container {name:?} not found")))?,
        _ => container.clone(),
    };
    let resources = named.resources.unwrap_or_default();
    let unknown = || {
        SpecError::Config(format!(
            "unsupported container resource: {}",
            field.resource
        ))
    };
    let (list, name) = field.resource.split_once('.').ok_or_else(unknown)?;
    let limit = || quantity::of(resources.limits.as_ref(), name);
    let base = match list {
        "limits" => limit().unwrap_or_else(|| facts.allocatable.get(name).copied().unwrap_or(0)),
        "requests" => quantity::of(resources.requests.as_ref(), name)
            .or_else(limit)
            .unwrap_or(0),
        _ => return Err(unknown()),
    };
    let divisor = field
        .divisor
        .as_ref()
        .map(|q| q.0.as_str())
        .filter(|text| *text != "0");
    let divisor = match (name, divisor) {
        ("cpu", text) => quantity::milli(text.unwrap_or("1")),
        (_, text) => quantity::whole(text.unwrap_or("1")),
    };
    let divisor = divisor.filter(|d| *d > 0).ok_or_else(unknown)?;
    Ok(base
        .div_euclid(divisor)
        .saturating_add(i64::from(base.rem_euclid(divisor) > 0))
        .to_string())
}
