//! How long failed pods stay before they are replaced: without a back-off, a node that refuses a pod and this controller
//! would keep each other busy. Invariant: the first failure of a template on a node waits for nothing; each further one
//! twice as long as the one before.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::pod;

/// Between the first failure and the second.
const FIRST: Duration = Duration::from_secs(1);
/// Never longer.
const LAST: Duration = Duration::from_secs(15 * 60);
/// A node that was quiet for so long begins anew.
const QUIET: Duration = Duration::from_secs(2 * 15 * 60);

/// Of one template on one node.
#[derive(Clone, Copy, Debug)]
struct Failure {
    /// When the pod that failed last may be replaced.
    due: Instant,
    /// How long the next one waits after that.
    next: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    owner: String,
    hash: String,
    node: String,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<Place, Failure>,
    /// When each failed pod may be replaced, by uid.
    pods: HashMap<String, Instant>,
}

/// The last failures, by owner, template and node. In memory only: a new process begins without back-off.
#[derive(Debug, Default)]
pub struct FailedPods(Mutex<Known>);

impl FailedPods {
    /// How long a failed pod of this owner is to stay yet. It counts as a failure when it is asked about for the first
    /// time.
    pub(super) fn wait(&self, owner: &str, pod: &Pod) -> Duration {
        let now = Instant::now();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut known = self.0.lock();
        if let Some(due) = known.pods.get(uid) {
            return due.saturating_duration_since(now);
        }
        // Bounded by what failed of late: failures are rare, so the pass over all is too.
        known.places.retain(|_, last| now < last.due + QUIET);
        known.pods.retain(|_, due| now < *due + QUIET);
        let place = Place {
            owner: owner.to_owned(),
            hash: pod::hash(pod).to_owned(),
            node: pod::target_node(pod).unwrap_or_default().to_owned(),
        };
        let failure = match known.places.get(&place) {
            Some(last) => Failure {
                due: now.max(last.due + last.next),
                next: (last.next * 2).min(LAST),
            },
            None => Failure {
                due: now,
                next: FIRST,
            },
        };
        known.places.insert(place, failure);
        known.pods.insert(uid.to_owned(), failure.due);
        failure.due.saturating_duration_since(now)
    }

    /// A set is gone.
    pub(super) fn forget(&self, owner: &str) {
        let mut known = self.0.lock();
        known.places.retain(|place, _| place.owner != owner);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failed(uid: &str, node: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid, "labels": {"controller-revision-hash": "h"}},
            "spec": {"containers": [], "nodeName": node}, "status": {"phase": "Failed"},
        }))
        .expect("pod")
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_waits_twice_as_long() {
        let failures = FailedPods::default();
        let mut waits = Vec::new();
        for index in 0..4 {
            let pod = failed(&format!("p{index}"), "n");
            let wait = failures.wait("ds", &pod);
            tokio::time::advance(wait).await;
            assert_eq!(failures.wait("ds", &pod), Duration::ZERO);
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4]);
        // Another node, another set, and a node that was quiet, begin anew.
        assert_eq!(failures.wait("ds", &failed("q", "m")), Duration::ZERO);
        assert_eq!(failures.wait("other", &failed("r", "n")), Duration::ZERO);
        tokio::time::advance(QUIET).await;
        assert_eq!(failures.wait("ds", &failed("s", "n")), Duration::ZERO);
        failures.forget("ds");
        assert_eq!(failures.wait("ds", &failed("t", "n")), Duration::ZERO);
    }
}
