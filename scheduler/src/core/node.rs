//! A node as the scheduler sees it: what it is (labels, taints, room) and what it has promised. Invariant: `requested`
//! and `ports` are exactly the sums over `pods`.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::pod::{HostPort, PodInfo};
use super::resources::Resources;
use super::selector::Labels;

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

/// What a Node object says, as far as it decides placements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSpec {
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pods_limit: usize,
    /// Sizes of images that are there, by each of their names.
    pub images: HashMap<String, i64>,
}

impl NodeSpec {
    /// Reads a Node.
    pub fn read(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let pods = allocatable
            .and_then(|map| map.get("pods"))
            .and_then(|pods| pods.0.parse().ok());
        let mut images = HashMap::new();
        for image in status
            .and_then(|status| status.images.as_ref())
            .into_iter()
            .flatten()
        {
            for name in image.names.iter().flatten() {
                images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        let taints = spec.and_then(|spec| spec.taints.as_ref());
        Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: taints
                .into_iter()
                .flatten()
                .map(|taint| Taint {
                    key: taint.key.clone(),
                    value: taint.value.clone().unwrap_or_default(),
                    effect: taint.effect.clone(),
                })
                .collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: Resources::read(allocatable),
            pods_limit: pods.unwrap_or(0),
            images,
        }
    }
}

/// A node and what is on it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: String,
    /// `None` for a node that pods name but that does not exist (yet, or any more).
    pub spec: Option<NodeSpec>,
    pub requested: Resources,
    pub score_requested: (i64, i64),
    pub pods: HashMap<String, Arc<PodInfo>>,
    ports: Vec<HostPort>,
}

impl NodeInfo {
    /// A node of which only the name is known.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Counts a pod in.
    pub fn add(&mut self, pod: &Arc<PodInfo>) {
        self.requested.add(&pod.requests, 1);
        self.score_requested.0 += pod.score_requests.0;
        self.score_requested.1 += pod.score_requests.1;
        self.ports.extend(pod.ports.iter().cloned());
        let before = self.pods.insert(pod.uid.clone(), Arc::clone(pod));
        debug_assert!(before.is_none(), "a pod is counted once");
    }

    /// Counts a pod out.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.add(&pod.requests, -1);
        self.score_requested.0 -= pod.score_requests.0;
        self.score_requested.1 -= pod.score_requests.1;
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|used| used == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }

    /// Whether a host port that the pod wants is taken.
    pub fn port_taken(&self, pod: &PodInfo) -> bool {
        pod.ports
            .iter()
            .any(|port| self.ports.iter().any(|used| used.conflicts(port)))
    }

    /// Whether the pod's requests fit beside what is promised and `extra`.
    pub fn fits(&self, pod: &PodInfo, extra: Option<&Extra>) -> bool {
        let Some(spec) = &self.spec else { return false };
        let count = self.pods.len() + extra.map_or(0, |extra| extra.count);
        if count + 1 > spec.pods_limit {
            return false;
        }
        let Some(extra) = extra else {
            return fits_beside(&pod.requests, &spec.allocatable, &self.requested);
        };
        let mut used = self.requested.clone();
        used.add(&extra.requests, 1);
        fits_beside(&pod.requests, &spec.allocatable, &used)
    }
}

/// What pods that are nominated to a node will take there.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    pub count: usize,
    pub requests: Resources,
    pub ports: Vec<HostPort>,
}

fn fits_beside(wanted: &Resources, total: &Resources, used: &Resources) -> bool {
    let room = |wanted: i64, total: i64, used: i64| wanted <= 0 || wanted <= total - used;
    room(wanted.cpu_milli, total.cpu_milli, used.cpu_milli)
        && room(wanted.memory, total.memory, used.memory)
        && room(wanted.ephemeral, total.ephemeral, used.ephemeral)
        && (wanted.extended.is_empty() || wanted.exceeding(total, used).next().is_none())
}
