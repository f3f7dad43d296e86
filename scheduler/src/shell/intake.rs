//! From what the watches bring to the cluster's picture and the queue: what changed, and whom that could help. It decides
//! no placement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use corten_client::cache::Change;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Namespace, Node, Pod, PodSpec, PodStatus, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Event, State};
use crate::core::disruption::Budget;
use crate::core::explain::waits;
use crate::core::node::NodeSpec;
use crate::core::pod::{PodInfo, Siblings};
use crate::core::resources::pod_requests;
use crate::core::selector::Selector;

/// The default scheduler's name: pods that name none are its.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Drops what decides no placement: most of a pod's bytes.
pub(super) fn strip_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        let init = spec.init_containers.iter_mut().flatten();
        spec.containers
            .iter_mut()
            .chain(init)
            .for_each(strip_container);
        spec.ephemeral_containers = None;
    }
    let own = pod.spec.as_ref().map(sizes).unwrap_or_default();
    if let Some(status) = &mut pod.status {
        strip_statuses(&mut status.container_statuses, &own);
        strip_statuses(&mut status.init_container_statuses, &own);
        status.ephemeral_container_statuses = None;
    }
}

type Requests = BTreeMap<String, Quantity>;

/// What each container asks for.
fn sizes(spec: &PodSpec) -> BTreeMap<String, Requests> {
    let init = spec.init_containers.iter().flatten();
    let size = |container: &Container| {
        let requests = container.resources.as_ref()?.requests.clone()?;
        Some((container.name.clone(), requests))
    };
    spec.containers
        .iter()
        .chain(init)
        .filter_map(size)
        .collect()
}

/// Of the statuses, only those of containers whose size changes decide anything: what they have, and what was promised.
fn strip_statuses(statuses: &mut Option<Vec<ContainerStatus>>, own: &BTreeMap<String, Requests>) {
    let Some(all) = statuses else { return };
    all.retain(|status| {
        let has = status.resources.as_ref().map(|has| &has.requests);
        let asked = own.get(&status.name);
        let differs = |amounts: &Option<Requests>| amounts.as_ref() != asked;
        has.is_some_and(differs) || differs(&status.allocated_resources)
    });
    for status in &mut *all {
        *status = ContainerStatus {
            name: std::mem::take(&mut status.name),
            resources: status.resources.take(),
            allocated_resources: status.allocated_resources.take(),
            ..ContainerStatus::default()
        };
    }
    if all.is_empty() {
        *statuses = None;
    }
}

fn strip_container(container: &mut Container) {
    *container = Container {
        name: std::mem::take(&mut container.name),
        image: container.image.take(),
        ports: container.ports.take(),
        resources: container.resources.take(),
        restart_policy: container.restart_policy.take(),
        ..Container::default()
    };
}

impl State {
    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::Pod(change) => self.pod(change),
            Event::Node(change) => self.node(&change),
            Event::Namespace(change) => self.namespace(&change),
            Event::Budget(change) => self.budget(&change),
            Event::Service(change) => self.service(&change),
            Event::Bound(_) | Event::Look | Event::Stop => {}
        }
    }

    fn pod(&mut self, change: Change<Pod>) {
        match change {
            Change::Added(pod) => self.pod_is(None, &pod),
            Change::Updated { old, new } => self.pod_is(Some(&old), &new),
            Change::Deleted(pod) => self.pod_gone(&pod.metadata),
        }
    }

    fn pod_is(&mut self, old: Option<&Pod>, pod: &Pod) {
        if is_done(pod) {
            return self.pod_gone(&pod.metadata);
        }
        let unchanged = old.is_some_and(|old| same_asks(old, pod));
        match node_of(pod) {
            Some(node) => {
                let was_there = old.is_some_and(|old| node_of(old) == Some(node));
                if !(unchanged && was_there) {
                    self.pod_placed(pod, node);
                }
            }
            None if pod.metadata.deletion_timestamp.is_some() => self.pod_gone(&pod.metadata),
            None if self.is_ours(pod) => self.pod_pending(pod, !unchanged),
            None => {}
        }
    }

    fn pod_placed(&mut self, pod: &Pod, node: &str) {
        let info = Arc::new(PodInfo::read(pod));
        self.queue.remove(&info.uid);
        self.assumed.remove(&info.uid);
        let before = self.cluster.remove_pod(&info.uid);
        self.cluster.add_pod(&info, node);
        let shrank = before.is_some_and(|before| before.requests != info.requests);
        let room = if shrank { waits::ROOM } else { 0 };
        self.queue.wake(waits::PODS | room, Instant::now());
    }

    fn pod_pending(&mut self, pod: &Pod, asks_changed: bool) {
        let mut info = PodInfo::read(pod);
        if self.assumed.contains(&info.uid) {
            // An update from before our binding.
            return;
        }
        if info.owner.is_none() {
            info.default_siblings = self.service_siblings(&info);
        }
        let info = Arc::new(info);
        if let Some(node) = &info.nominated {
            self.cluster.nominate(&info, node);
        }
        self.queue.add(info, asks_changed, Instant::now());
    }

    fn pod_gone(&mut self, meta: &ObjectMeta) {
        let uid = meta.uid.as_deref().unwrap_or_default();
        self.assumed.remove(uid);
        self.queue.remove(uid);
        let cleared = self.cluster.clear_nomination(uid).is_some();
        if self.cluster.remove_pod(uid).is_some() || cleared {
            self.queue.wake(waits::ROOM | waits::PODS, Instant::now());
        }
    }

    /// Takes an assumed pod off its node again.
    pub(super) fn unassume(&mut self, uid: &str) {
        if self.assumed.remove(uid) && self.cluster.remove_pod(uid).is_some() {
            self.queue.wake(waits::ROOM | waits::PODS, Instant::now());
        }
    }

    fn node(&mut self, change: &Change<Node>) {
        let name = change.object().metadata.name.as_deref().unwrap_or_default();
        if let Change::Deleted(_) = change {
            self.cluster.remove_node(name);
            self.queue.wake(waits::PODS, Instant::now());
            return;
        }
        let changed = self.cluster.set_node(name, NodeSpec::read(change.object()));
        let mut bits = 0;
        if changed.added {
            bits |= waits::ROOM | waits::NODE | waits::PODS;
        }
        if changed.labels {
            bits |= waits::NODE | waits::PODS;
        }
        if changed.taints {
            bits |= waits::NODE | waits::PODS;
        }
        if changed.room {
            bits |= waits::ROOM;
        }
        if bits != 0 {
            self.queue.wake(bits, Instant::now());
        }
    }

    fn namespace(&mut self, change: &Change<Namespace>) {
        let meta = &change.object().metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let labels = match change {
            Change::Deleted(_) => None,
            _ => Some(meta.labels.clone().unwrap_or_default()),
        };
        if self.cluster.set_namespace(name, labels) {
            self.queue.wake(waits::PODS, Instant::now());
        }
    }

    fn budget(&mut self, change: &Change<PodDisruptionBudget>) {
        let meta = &change.object().metadata;
        let key = (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        );
        match change {
            Change::Deleted(_) => self.budgets.remove(&key),
            _ => self.budgets.insert(key, Budget::read(change.object())),
        };
    }

    fn service(&mut self, change: &Change<Service>) {
        let meta = &change.object().metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        let selector = change
            .object()
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        let selector = selector.filter(|selector| !selector.is_empty());
        let services = self.services.entry(namespace.clone()).or_default();
        match (change, selector) {
            (Change::Added(_) | Change::Updated { .. }, Some(selector)) => {
                services.insert(name, Selector::labels(selector));
            }
            _ => {
                services.remove(&name);
            }
        }
        if services.is_empty() {
            self.services.remove(&namespace);
        }
    }

    /// Pods of the first Service that selects this one.
    fn service_siblings(&self, pod: &PodInfo) -> Option<Siblings> {
        let services = self.services.get(&pod.namespace)?;
        let selector = services
            .values()
            .find(|selector| selector.matches(&pod.labels))?;
        Some(Siblings::Selected {
            namespace: pod.namespace.clone(),
            selector: selector.clone(),
        })
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let named = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.scheduler_name.as_deref());
        named.unwrap_or(DEFAULT_SCHEDULER) == self.scheduler_name
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

fn is_done(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether its node says something of its size that its spec does not.
fn is_sized(pod: &Pod) -> bool {
    let says = |status: &PodStatus| {
        status.container_statuses.is_some() || status.init_container_statuses.is_some()
    };
    pod.status.as_ref().is_some_and(says)
}

/// Whether an update leaves alone all that decides placements.
fn same_asks(old: &Pod, new: &Pod) -> bool {
    let nominated = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|status| status.nominated_node_name.clone())
    };
    old.spec == new.spec
        && old.metadata.labels == new.metadata.labels
        && old.metadata.deletion_timestamp.is_some() == new.metadata.deletion_timestamp.is_some()
        && nominated(old) == nominated(new)
        && (!is_sized(old) && !is_sized(new) || pod_requests(old) == pod_requests(new))
        && is_done(old) == is_done(new)
}
