//! Requests and limits as cgroup numbers, the QoS class, and the OOM score. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;
pub use crate::cgroup::PERIOD_US as CPU_PERIOD_US;
use crate::cgroup::{GroupLimits, cpu_shares};

/// The kernel refuses quotas below 1 ms.
const CPU_QUOTA_MIN_US: i64 = 1_000;

/// The QoS class that the API also shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod, by pod-level resources when it has them, else by its init and app containers.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else {
            return Self::BestEffort;
        };
        let lists: Vec<ResourceRequirements> = match &spec.resources {
            Some(resources) if resources.limits.is_some() || resources.requests.is_some() => {
                vec![resources.clone()]
            }
            _ => spec
                .init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
                .map(|container| container.resources.clone().unwrap_or_default())
                .collect(),
        };
        let amount = |list: &Option<BTreeMap<String, Quantity>>, name: &str| {
            quantity::of(list.as_ref(), name).filter(|value| *value > 0)
        };
        let any = lists.iter().any(|r| {
            ["cpu", "memory"]
                .iter()
                .any(|n| amount(&r.limits, n).or(amount(&r.requests, n)).is_some())
        });
        if !any {
            return Self::BestEffort;
        }
        let all_equal = lists.iter().all(|r| {
            ["cpu", "memory"].iter().all(|name| {
                let limit = amount(&r.limits, name);
                limit.is_some() && amount(&r.requests, name).or(limit) == limit
            })
        });
        if all_equal {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }
}

/// What one container may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerResources {
    pub cpu_shares: u64,
    pub cpu_quota_us: Option<i64>,
    pub memory_limit_bytes: Option<i64>,
}

fn request(resources: &ResourceRequirements, name: &str) -> Option<i64> {
    quantity::of(resources.requests.as_ref(), name)
        .or_else(|| quantity::of(resources.limits.as_ref(), name))
}

fn quota(milli: i64) -> i64 {
    let period = i64::try_from(CPU_PERIOD_US).unwrap_or(i64::MAX);
    (milli.saturating_mul(period) / 1000).max(CPU_QUOTA_MIN_US)
}

/// The numbers of one container.
pub fn of_container(container: &Container) -> ContainerResources {
    of_requirements(&container.resources.clone().unwrap_or_default())
}

/// The numbers of a container's group that has these resources.
pub fn group_of(resources: &ResourceRequirements) -> GroupLimits {
    let numbers = of_requirements(resources);
    GroupLimits {
        cpu_shares: Some(numbers.cpu_shares),
        cpu_quota_us: numbers.cpu_quota_us,
        cpu_period_us: CPU_PERIOD_US,
        memory_bytes: numbers.memory_limit_bytes,
        pids: None,
    }
}

fn of_requirements(resources: &ResourceRequirements) -> ContainerResources {
    let limit = |name| quantity::of(resources.limits.as_ref(), name).filter(|v| *v > 0);
    ContainerResources {
        cpu_shares: cpu_shares(request(resources, "cpu").unwrap_or(0)),
        cpu_quota_us: limit("cpu").map(quota),
        memory_limit_bytes: limit("memory"),
    }
}

/// What a pod asks of a node: app containers and sidecars together, or its largest init step, plus overhead.
pub fn pod_request(pod: &Pod, name: &str) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let overhead = quantity::of(spec.overhead.as_ref(), name).unwrap_or(0);
    if let Some(value) = spec.resources.as_ref().and_then(|r| request(r, name)) {
        return value.saturating_add(overhead);
    }
    let of = |c: &Container| {
        c.resources
            .as_ref()
            .and_then(|r| request(r, name))
            .unwrap_or(0)
    };
    let (mut sidecars, mut peak) = (0_i64, 0_i64);
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(of(container));
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(of(container)));
        }
    }
    let apps = spec
        .containers
        .iter()
        .map(of)
        .fold(sidecars, i64::saturating_add);
    apps.max(peak).saturating_add(overhead)
}

/// The limit of the pod as a whole; None when any container is unlimited.
fn pod_limit(pod: &Pod, name: &str) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let overhead = quantity::of(spec.overhead.as_ref(), name).unwrap_or(0);
    let pod_level = spec
        .resources
        .as_ref()
        .and_then(|r| quantity::of(r.limits.as_ref(), name));
    if let Some(limit) = pod_level.filter(|limit| *limit > 0) {
        return Some(limit.saturating_add(overhead));
    }
    let of = |c: &Container| {
        quantity::of(c.resources.as_ref().and_then(|r| r.limits.as_ref()), name).filter(|v| *v > 0)
    };
    let mut apps = 0_i64;
    for container in &spec.containers {
        apps = apps.saturating_add(of(container)?);
    }
    let (mut sidecars, mut peak) = (0_i64, 0_i64);
    for container in spec.init_containers.iter().flatten() {
        let value = of(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(value);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(value));
        }
    }
    Some(
        apps.saturating_add(sidecars)
            .max(peak)
            .saturating_add(overhead),
    )
}

/// Limits of the pod's own group.
pub fn of_pod(pod: &Pod, pids_max: Option<i64>) -> GroupLimits {
    GroupLimits {
        cpu_shares: Some(cpu_shares(pod_request(pod, "cpu"))),
        cpu_quota_us: pod_limit(pod, "cpu").map(quota),
        cpu_period_us: CPU_PERIOD_US,
        memory_bytes: pod_limit(pod, "memory"),
        pids: pids_max,
    }
}

/// How readily the kernel picks this container when memory runs out, not below `floor`, which is what this process
/// may set.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory_bytes: i64, floor: i32) -> i32 {
    let critical = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0) >= 2_000_000_000;
    let wanted = match QosClass::of(pod) {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let memory = container
                .resources
                .as_ref()
                .and_then(|r| request(r, "memory"))
                .unwrap_or(0);
            let share = i128::from(memory) * 1000 / i128::from(node_memory_bytes.max(1));
            i32::try_from(1000 - share).unwrap_or(3).clamp(3, 999)
        }
    };
    wanted.max(floor)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(containers: Value, init: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers, "initContainers": init}}))
            .expect("a pod")
    }

    fn container(cpu: &str, memory: &str, limits: bool) -> Value {
        let list = json!({"cpu": cpu, "memory": memory});
        let resources = if limits {
            json!({"limits": list})
        } else {
            json!({"requests": list})
        };
        json!({"name": "c", "resources": resources})
    }

    #[test]
    fn classes_and_scores() {
        let guaranteed = pod(json!([container("1", "1Gi", true)]), json!([]));
        let burstable = pod(json!([container("1", "1Gi", false)]), json!([]));
        let best_effort = pod(json!([{"name": "c"}]), json!([]));
        let score = |pod: &Pod| {
            let container = &pod.spec.as_ref().expect("spec").containers[0];
            oom_score_adj(pod, container, 4 << 30, -1000)
        };
        assert_eq!(
            [&guaranteed, &burstable, &best_effort]
                .map(QosClass::of)
                .map(QosClass::name),
            ["Guaranteed", "Burstable", "BestEffort"]
        );
        assert_eq!(
            [&guaranteed, &burstable, &best_effort].map(score),
            [-997, 750, 1000]
        );
        let apps = &guaranteed.spec.as_ref().expect("spec").containers[0];
        assert_eq!(oom_score_adj(&guaranteed, apps, 4 << 30, 0), 0);
    }

    #[test]
    fn pod_sums() {
        let mut sidecar = container("200m", "1Mi", true);
        sidecar["restartPolicy"] = json!("Always");
        let pod = pod(
            json!([
                container("500m", "1Mi", true),
                container("100m", "1Mi", true)
            ]),
            json!([sidecar, container("1", "1Mi", true)]),
        );
        assert_eq!(pod_request(&pod, "cpu"), 1200);
        let limits = of_pod(&pod, None);
        assert_eq!(
            (limits.cpu_quota_us, limits.memory_bytes),
            (Some(120_000), Some(3 << 20))
        );
    }
}
