//! The whole picture: nodes in slots, pods on them, and the counts kept beside. One owner changes it; placing only reads
//! (and fills caches). Invariant: a pod is on at most one node, and every count agrees with what is on the nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::groups::{Groups, Namespaces};
use super::node::{Extra, NodeInfo, NodeSpec};
use super::pod::PodInfo;
use super::selector::Labels;
use super::statics::Statics;
use super::topology::Topologies;

/// What about a node changed, for those who wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    pub added: bool,
    pub labels: bool,
    pub taints: bool,
    pub room: bool,
}

impl NodeChange {
    /// Whether anything that decides placements changed.
    pub fn any(self) -> bool {
        self.added || self.labels || self.taints || self.room
    }
}

/// The state that placements are decided on.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub(super) nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    free: Vec<usize>,
    /// Slots of pods by uid.
    placed: HashMap<String, usize>,
    pub(super) reservations: Reservations,
    /// How many placed pods have which priority: whether there is anyone to evict at all.
    priorities: BTreeMap<i32, usize>,
    pub(super) namespaces: Namespaces,
    pub(super) groups: Groups,
    pub(super) topologies: Topologies,
    pub(super) statics: Statics,
    /// How many nodes have an image, by its name.
    pub(super) images: HashMap<String, usize>,
    existing: usize,
    /// Where the next search begins, so that all nodes get their turn.
    pub(super) next_start: usize,
}

impl Cluster {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many nodes exist.
    pub fn len(&self) -> usize {
        self.existing
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.existing == 0
    }

    /// The node in a slot.
    pub fn node(&self, slot: usize) -> &NodeInfo {
        &self.nodes[slot]
    }

    /// A node by its name, if it exists.
    pub fn node_named(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name
            .get(name)
            .map(|slot| &self.nodes[*slot])
            .filter(|node| node.spec.is_some())
    }

    /// The slot of a node that exists.
    pub fn slot(&self, name: &str) -> Option<usize> {
        self.by_name
            .get(name)
            .copied()
            .filter(|slot| self.nodes[*slot].spec.is_some())
    }

    /// Slots of existing nodes.
    pub fn slots(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|slot| self.nodes[*slot].spec.is_some())
    }

    /// Where the next search begins; also a fair place for others to begin.
    pub fn next_search_offset(&self) -> usize {
        self.next_start
    }

    /// The node that a pod is on.
    pub fn node_of(&self, uid: &str) -> Option<&NodeInfo> {
        self.placed.get(uid).map(|slot| &self.nodes[*slot])
    }

    /// Adds a node or takes over its new state.
    pub fn set_node(&mut self, name: &str, spec: NodeSpec) -> NodeChange {
        let slot = self.slot_for(name);
        let before = self.nodes[slot].spec.take();
        let change = match &before {
            None => NodeChange {
                added: true,
                ..NodeChange::default()
            },
            Some(before) => NodeChange {
                added: false,
                labels: before.labels != spec.labels,
                taints: before.taints != spec.taints || before.unschedulable != spec.unschedulable,
                room: before.allocatable != spec.allocatable
                    || before.pods_limit != spec.pods_limit,
            },
        };
        self.count_images(before.as_ref(), Some(&spec));
        self.existing += usize::from(before.is_none());
        self.nodes[slot].spec = Some(spec);
        if change.added || change.labels || change.taints {
            self.statics.forget_node(slot);
        }
        if change.added || change.labels {
            self.topologies.update(slot, &self.nodes[slot]);
        }
        change
    }

    /// Removes a node. Pods that are said to be on it stay counted until they go.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.slot(name) else { return };
        let before = self.nodes[slot].spec.take();
        self.count_images(before.as_ref(), None);
        self.existing -= 1;
        self.statics.forget_node(slot);
        self.topologies.update(slot, &self.nodes[slot]);
        self.free_if_empty(slot);
    }

    /// Counts a pod in on a node (which need not exist yet). A pod that was counted elsewhere, or as it was before, moves.
    pub fn add_pod(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        let slot = self.slot_for(node);
        self.nodes[slot].add(pod);
        *self.priorities.entry(pod.priority).or_default() += 1;
        self.placed.insert(pod.uid.clone(), slot);
        self.groups.adjust(pod, slot, 1, &self.namespaces);
        self.clear_nomination(&pod.uid);
    }

    /// Counts a pod out.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let slot = self.placed.remove(uid)?;
        let pod = self.nodes[slot].remove(uid)?;
        if let Some(count) = self.priorities.get_mut(&pod.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&pod.priority);
            }
        }
        self.groups.adjust(&pod, slot, -1, &self.namespaces);
        self.free_if_empty(slot);
        Some(pod)
    }

    /// Takes over a namespace's labels.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        let before = match labels.clone() {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
        if before == labels {
            return false;
        }
        self.groups.forget_namespace_selectors();
        true
    }

    /// Reserves room on a node for a pod whose victims are going.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.reservations.clear(&pod.uid);
        self.reservations
            .by_node
            .entry(node.to_owned())
            .or_default()
            .push(Arc::clone(pod));
    }

    /// Ends a reservation; the node it was for.
    pub fn clear_nomination(&mut self, uid: &str) -> Option<String> {
        self.reservations.clear(uid)
    }

    /// Pods that wait for a node.
    pub fn nominated_to(&self, node: &str) -> &[Arc<PodInfo>] {
        self.reservations
            .by_node
            .get(node)
            .map_or(&[], Vec::as_slice)
    }

    /// Whether any placed pod is less important than this.
    pub fn has_lower_priority(&self, priority: i32) -> bool {
        self.priorities
            .first_key_value()
            .is_some_and(|(lowest, _)| *lowest < priority)
    }

    fn slot_for(&mut self, name: &str) -> usize {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(NodeInfo::default());
            self.nodes.len() - 1
        });
        self.nodes[slot] = NodeInfo::unknown(name);
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    fn free_if_empty(&mut self, slot: usize) {
        let node = &self.nodes[slot];
        if node.spec.is_none() && node.pods.is_empty() {
            self.by_name.remove(&node.name);
            self.free.push(slot);
        }
    }

    fn count_images(&mut self, before: Option<&NodeSpec>, after: Option<&NodeSpec>) {
        if before.map(|spec| &spec.images) == after.map(|spec| &spec.images) {
            return;
        }
        for image in before.into_iter().flat_map(|spec| spec.images.keys()) {
            if let Some(count) = self.images.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(image);
                }
            }
        }
        for image in after.into_iter().flat_map(|spec| spec.images.keys()) {
            *self.images.entry(image.clone()).or_default() += 1;
        }
    }
}

/// Room kept for pods whose victims are going, by node.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    by_node: HashMap<String, Vec<Arc<PodInfo>>>,
}

impl Reservations {
    /// What pods that wait for the node, and come before `pod`, will take there.
    pub fn before(&self, node: &NodeInfo, pod: &PodInfo) -> Option<Extra> {
        if self.by_node.is_empty() {
            return None;
        }
        let mut extra = Extra::default();
        for waiting in self.by_node.get(&node.name)? {
            if waiting.uid != pod.uid && waiting.priority >= pod.priority {
                extra.count += 1;
                extra.requests.add(&waiting.requests, 1);
                extra.ports.extend(waiting.ports.iter().cloned());
            }
        }
        (extra.count > 0).then_some(extra)
    }

    fn clear(&mut self, uid: &str) -> Option<String> {
        let holds = |pods: &[Arc<PodInfo>]| pods.iter().any(|pod| pod.uid == uid);
        let node = self
            .by_node
            .iter()
            .find(|(_, pods)| holds(pods))
            .map(|(node, _)| node.clone())?;
        let pods = self.by_node.get_mut(&node)?;
        pods.retain(|pod| pod.uid != uid);
        if pods.is_empty() {
            self.by_node.remove(&node);
        }
        Some(node)
    }
}
