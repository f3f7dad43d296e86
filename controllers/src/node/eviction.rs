//! Taint eviction: deletes pods that do not tolerate a node's `NoExecute` taints, at once or when their patience ends.
//! Watches Nodes and pods; writes `pods/status` (DisruptionTarget) and deletes pods. Keyed by node.
//!
//! A pod's patience begins when this process has seen both the taint and the pod on the node: a pod that comes later, and
//! tolerates a taint for a while, has all of that while.

mod seen;
pub(crate) mod tolerate;

use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::events::EventKind;
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{BY_NODE, node_of, taints};
use crate::pods;
pub use seen::Seen;

/// The controller over its caches.
pub struct TaintEviction {
    /// All nodes.
    pub nodes: Cache<Node>,
    /// All pods, indexed by [`BY_NODE`].
    pub pods: Cache<Pod>,
    /// Since when taints and pods are known.
    pub seen: Seen,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// Taints that evict, with their age.
    pub taints: Vec<(Taint, Duration)>,
    /// The pods on the node, with the time that they were seen there.
    pub pods: Vec<(Arc<Pod>, Duration)>,
}

fn evicting(node: &Node) -> impl Iterator<Item = &Taint> {
    taints(node).filter(|taint| taint.effect == "NoExecute")
}

impl TaintEviction {
    /// Keys to wake for a changed node.
    pub fn of_node(&self, change: &Change<Node>) -> Vec<ObjectName> {
        let node = change.object();
        let name = node.metadata.name.as_deref().unwrap_or_default();
        if matches!(change, Change::Deleted(_)) {
            self.seen.node(name, std::iter::empty());
            return Vec::new();
        }
        self.seen.node(name, evicting(node));
        let same = change
            .old()
            .is_some_and(|old| evicting(old).eq(evicting(node)));
        if same {
            Vec::new()
        } else {
            vec![ObjectName::of(&**node)]
        }
    }

    /// Keys to wake for a changed pod: its node, if that evicts.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        let pod = change.object();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if matches!(change, Change::Deleted(_)) {
            self.seen.forget_pod(uid);
            return Vec::new();
        }
        let Some(name) = node_of(pod).pop() else {
            return Vec::new();
        };
        self.seen.pod(uid);
        let evicts = self
            .nodes
            .get("", &name)
            .is_some_and(|node| evicting(&node).next().is_some());
        evicts
            .then(|| ObjectName::new("", name))
            .into_iter()
            .collect()
    }
}

impl Controller for TaintEviction {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(node) = self.nodes.get_named(key) else {
            return View::default();
        };
        let taints: Vec<_> = evicting(&node)
            .map(|taint| (taint.clone(), self.seen.taint_age(&key.name, taint)))
            .collect();
        if taints.is_empty() {
            return View::default();
        }
        let pods = self.pods.by_index(BY_NODE, &key.name).into_iter();
        let aged = pods.map(|pod| {
            let age = self
                .seen
                .pod_age(pod.metadata.uid.as_deref().unwrap_or_default());
            (pod, age)
        });
        View {
            taints,
            pods: aged.collect(),
        }
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if view.taints.is_empty() {
            return plan;
        }
        for (pod, age) in &view.pods {
            if pod.metadata.deletion_timestamp.is_some() || pods::is_finished(pod) {
                continue;
            }
            match tolerate::patience(pod, *age, &view.taints) {
                tolerate::Patience::Endless => {}
                tolerate::Patience::Left(left) if left.is_zero() => evict(pod, now, &mut plan),
                tolerate::Patience::Left(left) => plan.requeue(left),
            }
        }
        plan
    }
}

fn evict(pod: &Arc<Pod>, now: Timestamp, plan: &mut Plan) {
    let (namespace, name) = (
        pod.metadata.namespace.as_deref(),
        pod.metadata.name.as_deref(),
    );
    let message = format!(
        "Marking for deletion Pod {}/{}",
        namespace.unwrap_or_default(),
        name.unwrap_or_default()
    );
    // One pod that cannot be written must not save the others.
    plan.begin_group();
    plan.push(Action::event(
        &**pod,
        EventKind::Normal,
        "TaintManagerEviction",
        message,
    ));
    let mark = disruption_target(
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
        now,
    );
    if let Some(marked) = with_condition(pod, mark) {
        plan.push(Action::update_status(&marked));
    }
    plan.push(Action::delete(&**pod));
}

/// The condition that tells owners that a pod was ended from outside.
pub(super) fn disruption_target(reason: &str, message: &str, now: Timestamp) -> PodCondition {
    PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    }
}

/// The pod with this condition, or `None` if it has it already.
pub(super) fn with_condition(pod: &Pod, condition: PodCondition) -> Option<Pod> {
    let held = pods::condition(pod, &condition.type_);
    if held.is_some_and(|held| held.status == condition.status && held.reason == condition.reason) {
        return None;
    }
    let mut changed = pod.clone();
    let conditions = changed
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.retain(|other| other.type_ != condition.type_);
    conditions.push(condition);
    Some(changed)
}

#[cfg(test)]
mod tests;
