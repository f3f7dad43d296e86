//! DaemonSet: owns one pod on every node that fits, and the ControllerRevisions that tell them apart. Watches DaemonSets,
//! pods, revisions and nodes; creates, deletes, adopts and releases pods, writes `daemonsets/status`.
//!
//! ```text
//!  pods, revisions ── keep ── current revision ── manage: missing, failed, surplus and misplaced pods
//!                                              └─ nothing of that to do: rolling update
//!                         ── prune history ── status
//! ```
//!
//! Invariant: which node a pod is for is said in the pod, by `spec.nodeName` or by its affinity to the node's name; binding
//! is the scheduler's.

mod failures;
mod manage;
mod placement;
mod pod;
mod rolling;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::events::EventKind;
use corten_client::runner::{Action, Controller, Failed, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

pub use self::failures::FailedPods;
use self::placement::{Placement, Verdict};
use crate::history::{self, History, Revisions, Versioned};
use crate::ownership;
use crate::pods::{self, BY_CONTROLLER};

/// The controller over its caches.
pub struct DaemonSets {
    /// All DaemonSets.
    pub sets: Cache<DaemonSet>,
    /// All pods, indexed by [`BY_CONTROLLER`].
    pub pods: Cache<Pod>,
    /// All nodes.
    pub nodes: Cache<Node>,
    /// All ControllerRevisions, indexed by [`BY_CONTROLLER`].
    pub revisions: Cache<ControllerRevision>,
    /// How long failed pods stay.
    pub failures: FailedPods,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The set, unless it is gone.
    pub set: Option<Arc<DaemonSet>>,
    /// Pods that it manages.
    pub owned: Vec<Arc<Pod>>,
    /// Pods that match and nobody manages.
    pub orphans: Vec<Arc<Pod>>,
    /// Its revisions.
    pub revisions: Revisions,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// How long failed pods are to stay yet, by uid.
    pub waits: BTreeMap<String, Duration>,
}

impl Versioned for DaemonSet {
    const HASH_LABEL: &'static str = pod::HASH_LABEL;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn collisions(&self) -> i32 {
        let status = self.status.as_ref();
        status
            .and_then(|status| status.collision_count)
            .unwrap_or(0)
    }
}

fn min_ready_seconds(set: &DaemonSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

fn matches(set: &DaemonSet, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    selector.is_some_and(|selector| pods::selects(selector, labels))
}

fn selects_all(set: &DaemonSet) -> bool {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    selector.is_none_or(|selector| *selector == LabelSelector::default())
}

/// What a plan knows of the world: the pods by the node that they are for, and where pods belong.
struct World<'a> {
    set: &'a DaemonSet,
    /// Every node, by name.
    verdicts: BTreeMap<&'a str, Verdict>,
    /// Pods that count, by the node that they are for; that node may be gone.
    by_node: BTreeMap<String, Vec<&'a Arc<Pod>>>,
    /// Marks pods of the current template.
    hash: &'a str,
    waits: &'a BTreeMap<String, Duration>,
    now: Timestamp,
}

impl World<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, min_ready_seconds(self.set), self.now)
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod::is_updated(pod, self.set, self.hash)
    }

    fn pods_on(&self, node: &str) -> &[&Arc<Pod>] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// Nodes that ought to have a pod.
    fn wanted(&self) -> impl Iterator<Item = &str> {
        let all = self.verdicts.iter();
        all.filter(|(_, verdict)| **verdict == Verdict::Runs)
            .map(|(name, _)| *name)
    }
}

impl DaemonSets {
    /// Keys to wake for a changed DaemonSet.
    pub fn of_set(&self, change: &Change<DaemonSet>) -> Vec<ObjectName> {
        let set = change.object();
        if change.is_removed() {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            self.failures.forget(uid);
        }
        vec![ObjectName::of(&**set)]
    }

    /// Keys to wake for a changed pod: its manager before and after, or whoever might adopt it.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        ownership::woken(&self.sets, change, matches)
    }

    /// Keys to wake for a changed revision.
    pub fn of_revision(&self, change: &Change<ControllerRevision>) -> Vec<ObjectName> {
        history::woken(&self.sets, change)
    }

    /// Keys to wake for a node that comes, goes, or suits other sets than before.
    pub fn of_node(&self, change: &Change<Node>) -> Vec<ObjectName> {
        let node = change.object();
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
        let old = change.old();
        // Heartbeats are by far the most changes, and say nothing here.
        if old.is_some_and(|old| {
            old.metadata.labels == node.metadata.labels && taints(old) == taints(node)
        }) {
            return Vec::new();
        }
        let concerned = |set: &Arc<DaemonSet>| {
            let placement = Placement::of(set);
            old.is_none_or(|old| placement.judge(old) != placement.judge(node))
        };
        let sets = self.sets.list();
        let concerned = sets.iter().filter(|set| concerned(set));
        concerned.map(|set| ObjectName::of(&**set)).collect()
    }
}

impl Controller for DaemonSets {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(set) = self.sets.get_named(key) else {
            return View::default();
        };
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let owned = self.pods.by_index(BY_CONTROLLER, uid);
        let failed = owned.iter().filter(|pod| {
            pods::phase(pod) == "Failed" && pod.metadata.deletion_timestamp.is_none()
        });
        let waits = failed
            .map(|pod| {
                let wait = self.failures.wait(uid, pod);
                (pod.metadata.uid.clone().unwrap_or_default(), wait)
            })
            .collect();
        View {
            orphans: ownership::free(&self.pods, &key.namespace, |pod| matches(&set, pod)),
            revisions: Revisions::of(&*set, &self.revisions),
            nodes: self.nodes.list(),
            waits,
            owned,
            set: Some(set),
        }
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let Some(set) = view.set.as_deref() else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        if selects_all(set) {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            let event = Action::event(set, EventKind::Warning, "SelectingAll", message);
            return Plan::of([event]);
        }
        if set.metadata.deletion_timestamp.is_some() {
            // Its history may go before its pods: their numbers would be wrong.
            return plan;
        }
        let history = History::keep(set, &view.revisions, &mut plan);
        let fits = |pod: &Pod| matches(set, pod);
        let mine = ownership::keep(set, &view.owned, &view.orphans, fits, &mut plan);
        label(&history, &mut plan);
        let Some(current) = history.current(set, &mut plan) else {
            return plan;
        };
        if merge_equal(&history, &current, &mine, &mut plan) {
            // The pods' labels are read again when they are right.
            return plan;
        }
        let nodes = view.nodes.iter();
        let placement = Placement::of(set);
        let world = World {
            set,
            verdicts: nodes
                .map(|node| (placement::name(node), placement.judge(node)))
                .collect(),
            by_node: by_node(&mine),
            hash: hash_of(&current),
            waits: &view.waits,
            now,
        };
        if !manage::manage(&world, &mut plan) {
            rolling::roll(&world, &mut plan);
        }
        plan.begin_group();
        prune(set, &history, &current, &mine, &mut plan);
        plan.begin_group();
        status::update(&world, &mut plan);
        plan
    }

    fn after_failure(&self, view: &View, failed: &[Failed], _now: Timestamp) -> Plan {
        let Some(set) = view.set.as_deref() else {
            return Plan::nothing();
        };
        if let Some(counted) = history::collision(set, failed, &self.revisions) {
            return Plan::of([counted]);
        }
        let mut plan = Plan::nothing();
        for failure in failed {
            let (target, reason, verb) = match &failure.tried {
                Action::Create { target, .. } => (target, "FailedCreate", "creating"),
                Action::Delete { target, .. } => (target, "FailedDelete", "deleting"),
                _ => continue,
            };
            // In a namespace that goes there is nothing to tell.
            if target.resource == "pods" && !failure.error.has_cause("NamespaceTerminating") {
                let message = format!("Error {verb}: {}", failure.error);
                plan.push(Action::event(set, EventKind::Warning, reason, message));
            }
        }
        plan
    }
}

/// The pods that count, by the node that they are for. A finished one that is on its way out is not ours to wait for.
fn by_node(mine: &[Arc<Pod>]) -> BTreeMap<String, Vec<&Arc<Pod>>> {
    let mut by_node: BTreeMap<String, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in mine {
        if pods::is_finished(pod) && pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if let Some(node) = pod::target_node(pod) {
            by_node.entry(node.to_owned()).or_default().push(pod);
        }
    }
    by_node
}

/// The hash that pods of a revision carry; its name where an earlier writer left none.
fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(pod::HASH_LABEL))
        .map_or_else(|| history::name_of(revision), String::as_str)
}

/// Gives revisions their hash as a label where it is missing.
fn label(history: &History, plan: &mut Plan) {
    for revision in history.all() {
        let labels = revision.metadata.labels.as_ref();
        if !labels.is_some_and(|labels| labels.contains_key(pod::HASH_LABEL)) {
            let labels = json!({pod::HASH_LABEL: history::name_of(revision)});
            plan.push(Action::merge(
                &**revision,
                json!({"metadata": {"labels": labels}}),
            ));
        }
    }
}

/// Of several revisions of the same template one remains, and pods of the others become its pods; whether there were any.
fn merge_equal(
    history: &History,
    current: &ControllerRevision,
    mine: &[Arc<Pod>],
    plan: &mut Plan,
) -> bool {
    let others = history.all().iter().filter(|other| {
        other.metadata.name != current.metadata.name && history::data::is_equal(other, current)
    });
    let mut any = false;
    for other in others {
        any = true;
        for pod in mine.iter().filter(|pod| pod::hash(pod) == hash_of(other)) {
            let labels = json!({pod::HASH_LABEL: hash_of(current)});
            plan.push(Action::merge(
                &**pod,
                json!({"metadata": {"labels": labels}}),
            ));
        }
        plan.push(Action::delete(&**other));
    }
    any
}

/// Drops old revisions beyond `revisionHistoryLimit` that no pod is of.
fn prune(
    set: &DaemonSet,
    history: &History,
    current: &ControllerRevision,
    mine: &[Arc<Pod>],
    plan: &mut Plan,
) {
    let spec = set.spec.as_ref();
    let limit = spec.and_then(|s| s.revision_history_limit);
    let limit = usize::try_from(limit.unwrap_or(history::LIMIT)).unwrap_or(0);
    let live: BTreeSet<&str> = mine.iter().map(|pod| pod::hash(pod)).collect();
    let is_current = |other: &ControllerRevision| other.metadata.name == current.metadata.name;
    let old = history.all().iter().filter(|other| !is_current(other));
    let excess = old.count().saturating_sub(limit);
    let is_live = |other: &ControllerRevision| is_current(other) || live.contains(hash_of(other));
    history.prune(excess, is_live, plan);
}

#[cfg(test)]
mod tests;
