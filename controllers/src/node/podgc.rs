//! Pod garbage: removes pods that no node agent will ever finish. Looks at Nodes and pods every 20 seconds; writes
//! `pods/status` (DisruptionTarget) and deletes without grace: pods of nodes that are gone, terminating pods that were
//! never bound, terminating pods of nodes that people declared out of service, and the oldest finished pods beyond a
//! threshold.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_client::cache::{Cache, Change};
use corten_client::client::DeleteOptions;
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::eviction::{disruption_target, with_condition};
use super::{node_of, taints, truth};
use crate::pods;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be missing before its pods are: the caches of nodes and pods are not equally fast.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Finished pods that may stay, for their logs and status. Upstream's number.
const TERMINATED_MAX: usize = 12_500;
/// Set by people on a node that will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The controller over its caches.
pub struct PodGarbage {
    /// All nodes.
    pub nodes: Cache<Node>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// Since when nodes that pods name are missing.
    pub missing: Mutex<HashMap<String, Instant>>,
    /// Finished pods that may stay.
    pub terminated_max: usize,
}

/// A pod and why it goes, unless it only counts as finished.
#[derive(Clone, Debug)]
pub enum Suspect {
    /// Its node has been missing for long enough.
    Orphaned(Arc<Pod>),
    /// It was to go before it was ever bound.
    Unbound(Arc<Pod>),
    /// It was to go, and its node is out of service.
    OutOfService(Arc<Pod>),
    /// It has ended.
    Finished(Arc<Pod>),
}

impl PodGarbage {
    /// A collector with upstream's threshold.
    pub fn new(nodes: Cache<Node>, pods: Cache<Pod>) -> Self {
        Self {
            nodes,
            pods,
            missing: Mutex::default(),
            terminated_max: TERMINATED_MAX,
        }
    }

    /// The one key: woken by nodes that go, else by time.
    pub fn of_node(&self, change: &Change<Node>) -> Vec<()> {
        if matches!(change, Change::Deleted(_)) {
            vec![()]
        } else {
            Vec::new()
        }
    }

    fn suspect(&self, pod: &Arc<Pod>, gone: &HashMap<String, bool>) -> Option<Suspect> {
        let terminating = pod.metadata.deletion_timestamp.is_some();
        let Some(node) = node_of(pod).pop() else {
            return terminating.then(|| Suspect::Unbound(Arc::clone(pod)));
        };
        if gone.get(&node).copied().unwrap_or(false) {
            return Some(Suspect::Orphaned(Arc::clone(pod)));
        }
        let out_of_service = |node: &Node| {
            truth(node, "Ready") != "True" && taints(node).any(|t| t.key == OUT_OF_SERVICE)
        };
        if terminating
            && self
                .nodes
                .get("", &node)
                .is_some_and(|node| out_of_service(&node))
        {
            return Some(Suspect::OutOfService(Arc::clone(pod)));
        }
        (pods::is_finished(pod) && !terminating).then(|| Suspect::Finished(Arc::clone(pod)))
    }

    /// Nodes that pods name and that do not exist, and whether their quarantine is over.
    fn gone(&self, pods: &[Arc<Pod>]) -> HashMap<String, bool> {
        let now = Instant::now();
        let mut missing = self.missing.lock();
        let mut gone = HashMap::new();
        for name in pods.iter().filter_map(|pod| node_of(pod).pop()) {
            if !gone.contains_key(&name) && self.nodes.get("", &name).is_none() {
                let since = *missing.entry(name.clone()).or_insert(now);
                gone.insert(name, now.saturating_duration_since(since) >= QUARANTINE);
            }
        }
        missing.retain(|name, _| gone.contains_key(name));
        gone
    }
}

impl Controller for PodGarbage {
    type Key = ();
    type View = Vec<Suspect>;

    fn name(&self) -> &'static str {
        "pod-garbage-collector-controller"
    }

    fn view(&self, (): &()) -> Vec<Suspect> {
        let pods = self.pods.list();
        let gone = self.gone(&pods);
        pods.iter()
            .filter_map(|pod| self.suspect(pod, &gone))
            .collect()
    }

    fn plan(&self, suspects: &Vec<Suspect>, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        plan.requeue(PERIOD);
        let mut finished = Vec::new();
        for suspect in suspects {
            match suspect {
                Suspect::Orphaned(pod) => {
                    let node = node_of(pod).pop().unwrap_or_default();
                    plan.begin_group();
                    // A pod that runs would be told dead: the cache's word is not enough.
                    plan.push(Action::expect_gone::<Node>("", &node));
                    let message = "PodGC: node no longer exists";
                    remove(pod, Some(message), now, &mut plan);
                }
                Suspect::Unbound(pod) => {
                    plan.begin_group();
                    remove(pod, None, now, &mut plan);
                }
                Suspect::OutOfService(pod) => {
                    plan.begin_group();
                    remove(pod, Some("PodGC: node is out of service"), now, &mut plan);
                }
                Suspect::Finished(pod) => finished.push(pod),
            }
        }
        let excess = finished.len().saturating_sub(self.terminated_max);
        finished.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for pod in &finished[..excess] {
            plan.begin_group();
            remove(pod, None, now, &mut plan);
        }
        plan
    }
}

/// Deletes at once. A pod that was cut off is marked and failed first, so that its owner learns why.
fn remove(pod: &Pod, cut_off: Option<&str>, now: Timestamp, plan: &mut Plan) {
    if let Some(message) = cut_off.filter(|_| !pods::is_finished(pod)) {
        let mark = disruption_target("DeletionByPodGC", message, now);
        let mut failed = with_condition(pod, mark).unwrap_or_else(|| pod.clone());
        failed.status.get_or_insert_default().phase = Some("Failed".to_owned());
        plan.push(Action::update_status(&failed));
    }
    plan.push(Action::delete_with(pod, DeleteOptions::default().grace(0)));
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, extra: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            pod["metadata"][key] = value.clone();
        }
        serde_json::from_value(pod).expect("pod")
    }

    fn controller(pods: Vec<Pod>) -> PodGarbage {
        let taints = json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]);
        let node = |name: &str, spec: Value| {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("node")
        };
        let nodes = [
            node("n1", json!({})),
            node("broken", json!({"taints": taints})),
        ];
        let nodes = Cache::fixed(nodes, CacheOptions::all());
        PodGarbage {
            terminated_max: 2,
            ..PodGarbage::new(nodes, Cache::fixed(pods, CacheOptions::all()))
        }
    }

    fn words(controller: &PodGarbage) -> Vec<String> {
        let plan = controller.plan(&controller.view(&()), Timestamp::UNIX_EPOCH);
        assert_eq!(plan.requeue_after, Some(PERIOD));
        plan.actions.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_a_node_that_stays_away_are_failed_and_removed() {
        let controller = controller(vec![
            pod("a", "n1", "Running", json!({})),
            pod("b", "away", "Running", json!({})),
        ]);
        assert!(words(&controller).is_empty());
        tokio::time::advance(Duration::from_secs(41)).await;
        assert_eq!(
            words(&controller),
            [
                "expect no nodes away",
                "update pods d/b (status)",
                "delete pods d/b"
            ]
        );
    }

    #[test]
    fn terminating_pods_that_no_node_will_finish_go() {
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let pods = vec![
            pod("bound", "n1", "Running", going.clone()),
            pod("out", "broken", "Running", going.clone()),
            pod("unbound", "", "Pending", going),
            pod("waiting", "", "Pending", json!({})),
        ];
        assert_eq!(
            words(&controller(pods)),
            [
                "update pods d/out (status)",
                "delete pods d/out",
                "delete pods d/unbound"
            ]
        );
    }

    #[test]
    fn the_oldest_finished_pods_go_beyond_the_threshold() {
        let finished = |name: &str, hour: u8| {
            pod(
                name,
                "n1",
                "Succeeded",
                json!({"creationTimestamp": format!("2026-01-01T{hour:02}:00:00Z")}),
            )
        };
        let pods = vec![finished("a", 3), finished("b", 1), finished("c", 2)];
        assert_eq!(words(&controller(pods)), ["delete pods d/b"]);
    }
}
