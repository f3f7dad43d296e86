//! Whether this node can run a pod that was bound to it: the scheduler may have raced with others, or been passed by. Pure over
//! the pods that are here.

use k8s_openapi::api::core::v1::Pod;

use super::allocation::Allocator;
use crate::context::NodeContext;
use crate::host::Capacity;
use crate::spec::resources::pod_request;
use crate::spec::sysctls::{self, Allowed};

/// Why a pod is not run here; becomes its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) message: String,
}

/// Checks a new pod against those that are here.
pub(super) fn admit(
    context: &NodeContext,
    allocator: &Allocator,
    pod: &Pod,
) -> Result<(), Refusal> {
    let here = allocator.others(pod.metadata.uid.as_deref().unwrap_or_default());
    let others: Vec<&Pod> = here.iter().map(|other| &**other).collect();
    check_sysctls(&context.sysctls, pod)?;
    check(&context.allocatable, &others, pod)
}

fn check_sysctls(allowed: &Allowed, pod: &Pod) -> Result<(), Refusal> {
    sysctls::settings(pod, allowed)
        .map(drop)
        .map_err(|cause| Refusal {
            reason: "SysctlForbidden".to_owned(),
            message: format!("Pod was rejected: {cause}"),
        })
}

fn check(allocatable: &Capacity, others: &[&Pod], pod: &Pod) -> Result<(), Refusal> {
    let refuse = |reason: String, cause: String| {
        Err(Refusal {
            reason,
            message: format!("Pod was rejected: {cause}"),
        })
    };
    let limit = allocatable.get("pods").copied().unwrap_or(i64::MAX);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= limit {
        let cause = format!(
            "Node didn't have enough resource: pods, requested: 1, used: {count}, capacity: {limit}"
        );
        return refuse("OutOfpods".to_owned(), cause);
    }
    if let Some((name, cause)) = shortage(allocatable, others, pod) {
        return refuse(format!("OutOf{name}"), cause);
    }
    let ours = host_ports(pod);
    let theirs = others.iter().flat_map(|other| host_ports(other));
    if theirs
        .into_iter()
        .any(|port| ours.iter().any(|own| own.meets(&port)))
    {
        return refuse("NodePorts".to_owned(), "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".to_owned());
    }
    Ok(())
}

/// The first resource of which the others leave too little for a pod, and that in words.
pub(super) fn shortage(
    allocatable: &Capacity,
    others: &[&Pod],
    pod: &Pod,
) -> Option<(&'static str, String)> {
    let names = ["cpu", "memory", "ephemeral-storage"];
    names.into_iter().find_map(|name| {
        let wanted = pod_request(pod, name);
        let used: i64 = others
            .iter()
            .map(|other| pod_request(other, name))
            .fold(0, i64::saturating_add);
        let capacity = allocatable.get(name).copied().unwrap_or(0);
        let short = wanted > 0 && used.saturating_add(wanted) > capacity;
        short.then(|| {
            let cause = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            (name, cause)
        })
    })
}

/// A port on the host.
#[derive(Debug, PartialEq, Eq)]
struct HostPort {
    protocol: String,
    number: i32,
    /// The one address of the host that it is on; none for all.
    ip: Option<String>,
}

impl HostPort {
    /// Whether both cannot be had: the same port on an address of both.
    fn meets(&self, other: &Self) -> bool {
        let same_ip = match (&self.ip, &other.ip) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        same_ip && self.protocol == other.protocol && self.number == other.number
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let ports = spec
        .containers
        .iter()
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let everywhere = |ip: &String| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                number: port.host_port.filter(|number| *number > 0)?,
                ip: port.host_ip.clone().filter(|ip| !everywhere(ip)),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, port: i32) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c",
            "resources": {"requests": {"cpu": cpu}}, "ports": [{"containerPort": 1, "hostPort": port}]}]}}))
        .expect("a pod")
    }

    #[test]
    fn a_pod_with_a_setting_of_the_host_is_refused() {
        let pod = |name: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [],
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
            .expect("a pod")
        };
        let allowed = Allowed::default();
        let safe = pod("net.ipv4.tcp_syncookies");
        assert_eq!(check_sysctls(&allowed, &safe), Ok(()));
        let refusal = check_sysctls(&allowed, &pod("kernel.core_pattern")).expect_err("the host's");
        assert_eq!(refusal.reason, "SysctlForbidden");
        assert_eq!(
            refusal.message,
            "Pod was rejected: forbidden sysctl: \"kernel.core_pattern\" not allowlisted"
        );
    }

    #[test]
    fn resources_and_ports() {
        let allocatable: Capacity = [("cpu".to_owned(), 1000), ("pods".to_owned(), 2)].into();
        let (small, large) = (pod("600m", 80), pod("500m", 81));
        assert_eq!(check(&allocatable, &[], &small), Ok(()));
        let refusal = check(&allocatable, &[&small], &large).expect_err("too large");
        assert_eq!(refusal.reason, "OutOfcpu");
        assert_eq!(
            refusal.message,
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000"
        );
        let same_port = check(&allocatable, &[&pod("1m", 80)], &small).expect_err("port taken");
        assert_eq!(same_port.reason, "NodePorts");
        let on = |ip: &str| {
            let mut pod = pod("1m", 80);
            let ports = pod
                .spec
                .as_mut()
                .and_then(|spec| spec.containers[0].ports.as_mut());
            ports.expect("ports")[0].host_ip = Some(ip.to_owned());
            pod
        };
        assert_eq!(
            check(&allocatable, &[&on("127.0.0.1")], &on("192.0.2.1")),
            Ok(())
        );
        for taken in ["192.0.2.1", "0.0.0.0", ""] {
            assert!(
                check(&allocatable, &[&on(taken)], &on("192.0.2.1")).is_err(),
                "{taken}"
            );
        }
        let full = check(&allocatable, &[&pod("1m", 1), &pod("1m", 2)], &small).expect_err("full");
        assert_eq!(full.reason, "OutOfpods");
    }
}
