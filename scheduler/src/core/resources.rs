//! Amounts of resources: what containers ask for and what nodes can give. Integers in base units: thousandths for
//! cpu, bytes for memory and ephemeral storage, counts for the rest.

use std::collections::BTreeMap;
use std::str::FromStr;

use corten_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// What a container that asks for nothing counts as in scores, so that such pods spread too.
const DEFAULT_CPU_MILLI: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// A sum of resources. `pods` is not among them: a node counts its pods itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub cpu_milli: i64,
    pub memory: i64,
    pub ephemeral: i64,
    /// Everything else (huge pages, devices); rarely more than one or two.
    pub extended: BTreeMap<String, i64>,
}

type Map = BTreeMap<String, ApiQuantity>;

impl Resources {
    /// Reads the API's form. What is not a quantity counts as nothing (the API server refuses such objects).
    pub fn read(map: Option<&Map>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in map.into_iter().flatten() {
            let Ok(quantity) = Quantity::from_str(&quantity.0) else {
                continue;
            };
            match name.as_str() {
                "cpu" => resources.cpu_milli = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral = quantity.value(),
                "pods" => {}
                _ => {
                    resources.extended.insert(name.clone(), quantity.value());
                }
            }
        }
        resources
    }

    /// Adds `other`, `sign` times.
    pub fn add(&mut self, other: &Self, sign: i64) {
        self.cpu_milli += sign * other.cpu_milli;
        self.memory += sign * other.memory;
        self.ephemeral += sign * other.ephemeral;
        for (name, amount) in &other.extended {
            let sum = self.extended.entry(name.clone()).or_default();
            *sum += sign * amount;
            if *sum == 0 {
                self.extended.remove(name);
            }
        }
    }

    /// The larger of both, resource by resource.
    pub fn raise_to(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        for (name, amount) in &other.extended {
            let mine = self.extended.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }

    /// The names of resources of which `self` asks more than `allocatable` less `used` leaves.
    pub fn exceeding<'a>(
        &'a self,
        allocatable: &'a Self,
        used: &'a Self,
    ) -> impl Iterator<Item = Shortage<'a>> {
        let basic = [
            ("cpu", self.cpu_milli, allocatable.cpu_milli, used.cpu_milli),
            ("memory", self.memory, allocatable.memory, used.memory),
            (
                "ephemeral-storage",
                self.ephemeral,
                allocatable.ephemeral,
                used.ephemeral,
            ),
        ];
        let extended = self.extended.iter().map(|(name, wanted)| {
            let of = |resources: &Self| resources.extended.get(name).copied().unwrap_or(0);
            (name.as_str(), *wanted, of(allocatable), of(used))
        });
        basic
            .into_iter()
            .chain(extended)
            .filter(|(_, wanted, total, used)| *wanted > 0 && *wanted > total - used)
            .map(|(name, wanted, total, used)| Shortage {
                name,
                wanted,
                total,
                used,
            })
    }
}

/// A resource that does not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage<'a> {
    pub name: &'a str,
    pub wanted: i64,
    pub total: i64,
    pub used: i64,
}

/// What a pod asks for: the larger of what runs together later and what runs while it is set up, plus overhead.
/// Restartable init containers (sidecars) run from their start to the end.
pub fn pod_requests(pod: &Pod) -> Resources {
    combine(pod, &|container| held(pod, container))
}

/// The same as (cpu, memory) for scores, with defaults for containers that ask for nothing.
pub fn pod_score_requests(pod: &Pod) -> (i64, i64) {
    let sum = combine(pod, &|container| {
        let requests = requests_of(container);
        let mut resources = held(pod, container);
        let asks = |name: &str| requests.is_some_and(|requests| requests.contains_key(name));
        if !asks("cpu") {
            resources.cpu_milli = resources.cpu_milli.max(DEFAULT_CPU_MILLI);
        }
        if !asks("memory") {
            resources.memory = resources.memory.max(DEFAULT_MEMORY);
        }
        resources
    });
    (sum.cpu_milli, sum.memory)
}

fn requests_of(container: &Container) -> Option<&Map> {
    container.resources.as_ref()?.requests.as_ref()
}

/// What a container takes of its node. While its size changes that is the larger of what it asks for, what the node has
/// promised and what it has; what a node can never give is not counted.
fn held(pod: &Pod, container: &Container) -> Resources {
    let asked = Resources::read(requests_of(container));
    let Some(status) = status_of(pod, &container.name) else {
        return asked;
    };
    let Some(has) = &status.resources else {
        return asked;
    };
    let mut most = Resources::read(has.requests.as_ref());
    most.raise_to(&Resources::read(status.allocated_resources.as_ref()));
    if !is_infeasible(pod) {
        most.raise_to(&asked);
    }
    most
}

/// The status of a container that can change its size: of an ordinary one or a sidecar.
fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let init = spec.init_containers.iter().flatten();
    let list = match init.into_iter().find(|container| container.name == name) {
        None => status.container_statuses.as_ref()?,
        Some(container) if sidecar(&container) => status.init_container_statuses.as_ref()?,
        Some(_) => return None,
    };
    list.iter().find(|status| status.name == name)
}

fn is_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let pending = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodResizePending");
    pending.is_some_and(|pending| pending.reason.as_deref() == Some("Infeasible"))
}

fn combine(pod: &Pod, of: &dyn Fn(&Container) -> Resources) -> Resources {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container), 1);
    }
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own, 1);
            peak.raise_to(&sidecars);
        } else {
            let mut now = sidecars.clone();
            now.add(&own, 1);
            peak.raise_to(&now);
        }
    }
    running.add(&sidecars, 1);
    running.raise_to(&peak);
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if let Some(whole) = whole {
        // What is asked for the pod as a whole counts instead of the sum of its containers.
        let asked = Resources::read(Some(whole));
        if whole.contains_key("cpu") {
            running.cpu_milli = asked.cpu_milli;
        }
        if whole.contains_key("memory") {
            running.memory = asked.memory;
        }
        running.extended.extend(asked.extended);
    }
    running.add(&Resources::read(spec.overhead.as_ref()), 1);
    running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// (cpu in thousandths, memory) of a pod that asks for 500m and 100 bytes.
    fn counted(has: &str, promised: &str, reason: &str) -> (i64, i64) {
        let requests = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "100"}});
        let pod = json!({
            "metadata": {},
            "spec": {
                "initContainers": [{"name": "i", "resources": requests("100m")}],
                "containers": [{"name": "c", "resources": requests("500m")}],
            },
            "status": {
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "initContainerStatuses": [{"name": "i", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "resources": requests("9")}],
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "resources": requests(has), "allocatedResources": {"cpu": promised}}],
            },
        });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let requests = pod_requests(&pod);
        assert_eq!(
            pod_score_requests(&pod),
            (requests.cpu_milli, requests.memory)
        );
        (requests.cpu_milli, requests.memory)
    }

    #[test]
    fn a_pod_that_changes_its_size_counts_as_the_larger_one() {
        for (has, promised, reason, cpu) in [
            ("500m", "500m", "", 500),
            ("800m", "500m", "", 800),
            ("100m", "900m", "", 900),
            ("100m", "100m", "Deferred", 500),
            ("100m", "200m", "Infeasible", 200),
        ] {
            assert_eq!(
                counted(has, promised, reason),
                (cpu, 100),
                "{has} {promised}"
            );
        }
    }
}
