//! What the node does when it runs short of memory: it ends one pod, looks again, and goes on until the shortage is over.
//! Which pod is a pure choice. Disk and process ids are only shown: nothing is ended for them.

use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use crate::agent::Workers;
use crate::context::NodeContext;
use crate::pod::Event;
use crate::pod::status::phase_is_over;
use crate::pressure::{Gauge, Limits, Observed, Pressures};
use crate::spec::resources::pod_request;
use crate::traits::PodRef;
use crate::worker::WorkerHandle;

/// How often the node looks at itself, as upstream does.
const ROUND: Duration = Duration::from_secs(10);
/// Pods from this priority on keep the node itself going and are never ended.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// The reason that a pod's status shows.
pub const REASON: &str = "Evicted";

/// Watches the node and ends pods.
pub(crate) struct Evictor {
    pub(crate) context: Arc<NodeContext>,
    pub(crate) workers: Workers,
    pub(crate) limits: Limits,
    /// Told what the node is short of.
    pub(crate) pressures: watch::Sender<Pressures>,
}

/// A running pod and its memory.
struct Candidate {
    worker: WorkerHandle,
    pod: Arc<Pod>,
    used: i64,
}

impl Evictor {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut gauge = Gauge::default();
        let mut leaving: Option<WorkerHandle> = None;
        loop {
            let observed = self.observe();
            let short = Pressures::of(&observed, &self.limits);
            let now = self.context.now().mono;
            let shown = gauge.shown(short, self.limits.hold, now);
            self.pressures.send_if_modified(|known| {
                let changed = *known != shown;
                *known = shown;
                changed
            });
            // The memory of a pod that is on its way out counts as given back: one at a time.
            if leaving.as_ref().is_some_and(is_quiet) {
                leaving = None;
            }
            if short.memory && leaving.is_none() {
                leaving = self.evict(&observed).await;
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }

    fn observe(&self) -> Observed {
        let context = &self.context;
        let allocatable = context.allocatable.get("memory").copied();
        Observed::now(
            &context.data_dir,
            &context.cgroups,
            &context.cgroup_prefix,
            allocatable.unwrap_or(i64::MAX),
        )
    }

    async fn evict(&self, observed: &Observed) -> Option<WorkerHandle> {
        let candidates = self.candidates();
        let pods: Vec<(&Pod, i64)> = candidates.iter().map(|c| (&*c.pod, c.used)).collect();
        let Some(at) = victim(&pods) else {
            tracing::warn!(
                available = observed.memory_available,
                "the node is short of memory, and runs no pod that may be ended"
            );
            return None;
        };
        let chosen = &candidates[at];
        let mib = |bytes: i64| bytes / (1 << 20);
        let message = format!(
            "The node was low on resource: memory. {}Mi were available, {}Mi are wanted. The pod used {}Mi and requests {}Mi.",
            mib(observed.memory_available),
            mib(self.limits.memory_bytes),
            mib(chosen.used),
            mib(pod_request(&chosen.pod, "memory")),
        );
        tracing::warn!(pod = %PodRef::of(&chosen.pod), message, "evicting a pod");
        chosen.worker.send(Event::Evicted { message }).await;
        Some(chosen.worker.clone())
    }

    fn candidates(&self) -> Vec<Candidate> {
        let workers: Vec<WorkerHandle> = self.workers.read().values().cloned().collect();
        let found = workers.into_iter().filter_map(|worker| {
            let view = worker.view()?;
            let runs = view.containers.iter().any(|container| container.running);
            let over = phase_is_over(&view.pod) || view.pod.metadata.deletion_timestamp.is_some();
            if !runs || over {
                return None;
            }
            let group = self.context.pod_cgroup(&worker.pod_ref.uid);
            let used = self.context.cgroups.stats(&group).memory_working_set_bytes;
            Some(Candidate {
                pod: view.pod.clone(),
                used: i64::try_from(used).unwrap_or(i64::MAX),
                worker,
            })
        });
        found.collect()
    }
}

fn is_quiet(worker: &WorkerHandle) -> bool {
    worker
        .view()
        .is_none_or(|view| !view.containers.iter().any(|container| container.running))
}

/// The pod to end: one that uses more than it requests before one that does not, then the lowest priority, then the one that
/// exceeds its request the most. None when all are critical.
fn victim(pods: &[(&Pod, i64)]) -> Option<usize> {
    let priority = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    let candidates = pods
        .iter()
        .enumerate()
        .filter(|(_, (pod, _))| priority(pod) < CRITICAL_PRIORITY);
    candidates
        .min_by_key(|(_, (pod, used))| {
            let over = used.saturating_sub(pod_request(pod, "memory"));
            (over <= 0, priority(pod), std::cmp::Reverse(over))
        })
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(request: &str, priority: i32) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"memory": request}}});
        serde_json::from_value(json!({"spec": {"priority": priority, "containers": [container]}}))
            .expect("a pod")
    }

    #[test]
    fn who_is_ended_first() {
        let (small, large) = (pod("10", 0), pod("1000", 0));
        let (low, high) = (pod("10", -5), pod("10", 100));
        let critical = pod("0", CRITICAL_PRIORITY);
        for (pods, expected) in [
            // Over the request comes before within it, however much is used.
            (vec![(&large, 900), (&small, 20)], Some(1)),
            // Then priority.
            (vec![(&high, 900), (&small, 20), (&low, 11)], Some(2)),
            // Then by how much.
            (vec![(&small, 20), (&small, 30)], Some(1)),
            // All within: still someone.
            (vec![(&high, 5), (&large, 900)], Some(1)),
            (vec![(&critical, 5000), (&high, 5)], Some(1)),
            (vec![(&critical, 5000)], None),
            (vec![], None),
        ] {
            assert_eq!(victim(&pods), expected, "{pods:?}");
        }
    }
}
