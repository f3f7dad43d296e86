//! Node life cycle: owns the taints and, of silent nodes, the conditions. Watches Nodes, Leases of `kube-node-lease` and
//! pods; writes `nodes/status`, `nodes` (taints) and `pods/status` (not ready).
//!
//! ```text
//!  heartbeats (lease or status changed) ── silent for 50 s ── conditions Unknown ── taints ── pods not ready
//! ```
//!
//! A run writes one of these and the next follows from what it wrote. When every node is silent the fault is likelier on
//! our side: then no node gets a taint that evicts.

mod heartbeats;
mod marks;

use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::events::EventKind;
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::{BY_NODE, truth};
use crate::pods;
pub use heartbeats::Heartbeats;

/// Where nodes renew their leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The controller over its caches.
pub struct NodeLifecycle {
    /// All nodes.
    pub nodes: Cache<Node>,
    /// Leases, at least those of [`LEASE_NAMESPACE`].
    pub leases: Cache<Lease>,
    /// All pods, indexed by [`BY_NODE`].
    pub pods: Cache<Pod>,
    /// When each node was last heard of.
    pub heartbeats: Heartbeats,
    /// How long a node may be silent.
    pub grace: Duration,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The node, unless it is gone.
    pub node: Option<Arc<Node>>,
    /// How long it has not been heard of.
    pub silent: Duration,
    /// How long it may be silent.
    pub grace: Duration,
    /// Whether every node is silent.
    pub all_silent: bool,
    /// The pods on it.
    pub pods: Vec<Arc<Pod>>,
}

impl NodeLifecycle {
    /// Keys to wake for a changed node: itself, and all others when it changes whether any node is heard of.
    pub fn of_node(&self, change: &Change<Node>) -> Vec<ObjectName> {
        let node = change.object();
        let name = node.metadata.name.clone().unwrap_or_default();
        if matches!(change, Change::Deleted(_)) {
            self.heartbeats.forget(&name);
        } else {
            self.heartbeats.node(&name, marks::heartbeat(node));
        }
        let flipped = change
            .old()
            .is_some_and(|old| (truth(old, "Ready") == "True") != (truth(node, "Ready") == "True"));
        if flipped {
            return self
                .nodes
                .list()
                .iter()
                .map(|node| ObjectName::of(&**node))
                .collect();
        }
        vec![ObjectName::of(&**node)]
    }

    /// Notes a renewal; wakes its node only if that is held for silent.
    pub fn of_lease(&self, change: &Change<Lease>) -> Vec<ObjectName> {
        let lease = change.object();
        if lease.metadata.namespace.as_deref() != Some(LEASE_NAMESPACE)
            || matches!(change, Change::Deleted(_))
        {
            return Vec::new();
        }
        let name = lease.metadata.name.clone().unwrap_or_default();
        let renewed = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref())
            .map(|time| time.0);
        self.heartbeats.lease(&name, renewed);
        let held_for_silent = self
            .nodes
            .get("", &name)
            .is_some_and(|node| truth(&node, "Ready") == "Unknown");
        held_for_silent
            .then(|| ObjectName::new("", name))
            .into_iter()
            .collect()
    }
}

impl Controller for NodeLifecycle {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(node) = self.nodes.get_named(key) else {
            return View::default();
        };
        let mut all_silent = true;
        self.nodes.for_each(|other| {
            let name = other.metadata.name.as_deref().unwrap_or_default();
            all_silent &=
                truth(other, "Ready") == "Unknown" || self.heartbeats.silent(name) >= self.grace;
        });
        View {
            silent: self.heartbeats.silent(&key.name),
            grace: self.grace,
            all_silent,
            pods: self.pods.by_index(BY_NODE, &key.name),
            node: Some(node),
        }
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let Some(node) = view
            .node
            .as_ref()
            .filter(|node| node.metadata.deletion_timestamp.is_none())
        else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        let is_silent = view.silent >= view.grace;
        if is_silent {
            if let Some(status) = marks::unknown(node, now) {
                if truth(node, "Ready") == "True" {
                    let name = node.metadata.name.as_deref().unwrap_or_default();
                    let message = format!("Node {name} status is now: NodeNotReady");
                    plan.push(Action::event(
                        &**node,
                        EventKind::Normal,
                        "NodeNotReady",
                        message,
                    ));
                }
                plan.push(Action::update_status(&status));
                return plan;
            }
        } else {
            // One more, so that the look is not a moment too early.
            plan.requeue(view.grace - view.silent + Duration::from_millis(50));
        }
        let taints = marks::taints(node, view.all_silent, now);
        if taints.as_slice()
            != node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default()
        {
            let version = &node.metadata.resource_version;
            let patch =
                json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            plan.push(Action::merge(&**node, patch));
        }
        if is_silent && truth(node, "Ready") == "Unknown" {
            for pod in view.pods.iter().filter(|pod| pods::is_ready(pod)) {
                plan.push(Action::update_status(&marks::not_ready(pod, now)));
                plan.push(Action::event(
                    &**pod,
                    EventKind::Warning,
                    "NodeNotReady",
                    "Node is not ready",
                ));
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests;
