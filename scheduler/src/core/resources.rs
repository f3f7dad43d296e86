//! Amounts of resources: what containers ask for and what nodes can give. Integers in base units: thousandths for
//! cpu, bytes for memory and ephemeral storage, counts for the rest.

use std::collections::BTreeMap;
use std::str::FromStr;

use corten_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
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
pub fn pod_requests(spec: &PodSpec) -> Resources {
    combine(spec, &|container| {
        Resources::read(
            container
                .resources
                .as_ref()
                .and_then(|res| res.requests.as_ref()),
        )
    })
}

/// The same as (cpu, memory) for scores, with defaults for containers that ask for nothing.
pub fn pod_score_requests(spec: &PodSpec) -> (i64, i64) {
    let sum = combine(spec, &|container| {
        let requests = container
            .resources
            .as_ref()
            .and_then(|res| res.requests.as_ref());
        let mut resources = Resources::read(requests);
        let asks = |name: &str| requests.is_some_and(|requests| requests.contains_key(name));
        if !asks("cpu") {
            resources.cpu_milli = DEFAULT_CPU_MILLI;
        }
        if !asks("memory") {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    });
    (sum.cpu_milli, sum.memory)
}

fn combine(spec: &PodSpec, of: &dyn Fn(&Container) -> Resources) -> Resources {
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
