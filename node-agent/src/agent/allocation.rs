//! What each pod of this node was promised, and whether a wish for another size is granted. The only place that promises:
//! one task owns it, so that two wishes cannot both have the last of the room.
//!
//! Invariant: a promise is on disk before the pod's worker hears of it, and before the object that asks for more is.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::{Workers, admission};
use crate::context::NodeContext;
use crate::host::Capacity;
use crate::pod::Event;
use crate::pod::resize::{Allocation, Pending, Reason, Verdict, message};
use crate::pod::status::phase_is_over;
use crate::pod::types::Severity;
use crate::spec::resources::{QosClass, pod_request};
use crate::traits::PodRef;
use crate::worker;

/// How often wishes that wait are looked at without any news of other pods.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// The promises of this node.
pub(super) struct Allocator {
    context: Arc<NodeContext>,
    workers: Workers,
    held: BTreeMap<String, Held>,
}

/// One pod that was let in.
struct Held {
    /// As the API shows it: with what it asks for.
    pod: Arc<Pod>,
    allocation: Allocation,
    pending: Option<Pending>,
    /// Since when it waits, on the agent's clock.
    since: Duration,
}

impl Held {
    fn wants(&self) -> bool {
        let over = phase_is_over(&self.pod) || self.pod.metadata.deletion_timestamp.is_some();
        !over && Allocation::of(&self.pod) != self.allocation
    }
}

impl Allocator {
    pub(super) fn new(context: Arc<NodeContext>, workers: Workers) -> Self {
        Self {
            context,
            workers,
            held: BTreeMap::new(),
        }
    }

    /// Takes a pod in with what it was promised; a new one with what it asks for.
    pub(super) fn hold(&mut self, pod: &Arc<Pod>, allocation: Allocation) {
        let held = Held {
            allocation,
            pending: Pending::shown(pod),
            since: self.context.now().mono,
            pod: pod.clone(),
        };
        self.held.insert(PodRef::of(pod).uid, held);
    }

    pub(super) fn forget(&mut self, uid: &str) {
        self.held.remove(uid);
    }

    /// Takes a new version of a pod that is here; its wishes are judged by the next [`Allocator::settle`].
    pub(super) fn note(&mut self, pod: &Arc<Pod>) {
        if let Some(held) = self.held.get_mut(&PodRef::of(pod).uid) {
            if !held.wants() {
                held.since = self.context.now().mono;
            }
            held.pod = pod.clone();
        }
    }

    /// Whether some pod waits for room.
    pub(super) fn has_waiting(&self) -> bool {
        self.held.values().any(Held::wants)
    }

    /// The other pods that take room here, with what they were promised.
    pub(super) fn others(&self, uid: &str) -> Vec<Arc<Pod>> {
        let workers = self.workers.read();
        let counted = workers
            .iter()
            .filter(|(other, _)| *other != uid)
            .filter_map(|(other, worker)| Some((other, worker.counted()?)));
        counted
            .filter(|(_, pod)| !phase_is_over(pod))
            .map(|(other, pod)| match self.held.get(other) {
                Some(held) => held.allocation.onto(&pod),
                None => pod,
            })
            .collect()
    }

    /// Judges all wishes, the most urgent first, and tells the workers.
    pub(super) async fn settle(&mut self) {
        let mut uids: Vec<(Rank, String)> = self
            .held
            .iter()
            .filter(|(_, held)| held.wants() || held.pending.is_some())
            .map(|(uid, held)| (rank(held), uid.clone()))
            .collect();
        uids.sort();
        for (_, uid) in uids {
            if let Some(verdict) = self.judge(&uid) {
                let worker = self.workers.read().get(&uid).cloned();
                if let Some(worker) = worker {
                    worker.send(Event::Resize(verdict)).await;
                }
            }
        }
    }

    /// What is new to say of one pod.
    fn judge(&mut self, uid: &str) -> Option<Verdict> {
        let others = self.others(uid);
        let held = self.held.get_mut(uid)?;
        if !held.wants() {
            return held.pending.take().map(|_| Verdict::Settled);
        }
        let (context, pod) = (self.context.clone(), held.pod.clone());
        let now = held.allocation.onto(&pod);
        let others: Vec<&Pod> = others.iter().map(|other| &**other).collect();
        let generation = pod.metadata.generation;
        match decide(&context.allocatable, &others, &now, &pod) {
            Ok(()) => {
                let allocation = Allocation::of(&pod);
                if !keep(&context, &pod, &allocation) {
                    return None;
                }
                held.allocation = allocation.clone();
                held.pending = None;
                let text = message("started", &pod, generation, None);
                let api = &context.api;
                api.event(&pod, None, Severity::Normal, "ResizeStarted", &text);
                Some(Verdict::Allocated {
                    allocation,
                    generation,
                })
            }
            Err((reason, why)) => {
                let pending = Pending {
                    reason,
                    message: why,
                    generation,
                };
                if held.pending.as_ref() == Some(&pending) {
                    return None;
                }
                keep(&context, &pod, &held.allocation);
                let why = Some(pending.message.as_str());
                let text = message(reason.name(), &pod, generation, why);
                let api = &context.api;
                api.event(&pod, None, Severity::Warning, reason.event(), &text);
                held.pending = Some(pending.clone());
                Some(Verdict::Pending(pending))
            }
        }
    }
}

/// Writes a promise down; false when that failed, and it must not be made.
fn keep(context: &NodeContext, pod: &Pod, allocation: &Allocation) -> bool {
    let reference = PodRef::of(pod);
    let written = worker::write_allocation(&context.pod_dir(&reference.uid), allocation);
    if let Err(error) = &written {
        tracing::error!(pod = %reference, %error, "what the pod was promised could not be written down");
    }
    written.is_ok()
}

/// Whether the node can give a pod what it asks for instead of what it has now, beside what the others were promised.
fn decide(
    allocatable: &Capacity,
    others: &[&Pod],
    now: &Pod,
    wish: &Pod,
) -> Result<(), (Reason, String)> {
    for name in ["memory", "cpu"] {
        let capacity = allocatable.get(name).copied().unwrap_or(0);
        let wanted = pod_request(wish, name);
        if wanted > capacity {
            let why = format!(
                "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}"
            );
            return Err((Reason::Infeasible, why));
        }
    }
    // Giving back is possible however full the node is.
    if !grows(now, wish) {
        return Ok(());
    }
    match admission::shortage(allocatable, others, wish) {
        Some((_, why)) => Err((Reason::Deferred, why)),
        None => Ok(()),
    }
}

fn grows(now: &Pod, wish: &Pod) -> bool {
    ["memory", "cpu"]
        .into_iter()
        .any(|name| pod_request(wish, name) > pod_request(now, name))
}

/// Who is judged first: those that ask for no more than they have, then by priority, by class, and by how long they wait.
type Rank = (bool, Reverse<i32>, bool, Duration);

fn rank(held: &Held) -> Rank {
    let pod = &held.pod;
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    (
        grows(&held.allocation.onto(pod), pod),
        Reverse(priority.unwrap_or(0)),
        QosClass::of(pod) != QosClass::Guaranteed,
        held.since,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, memory: &str) -> Pod {
        let requests = json!({"cpu": cpu, "memory": memory});
        let container = json!({"name": "c", "resources": {"requests": requests}});
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}}))
            .expect("a pod")
    }

    #[test]
    fn wishes_are_granted_put_off_or_refused() {
        let allocatable: Capacity = [
            ("cpu".to_owned(), 1000),
            ("memory".to_owned(), 1000),
            ("pods".to_owned(), 10),
        ]
        .into();
        let now = pod("200m", "200");
        let lacks = "Node didn't have enough";
        for (other, wish, expected) in [
            (("500m", "500"), ("500m", "500"), Ok(())),
            (
                ("500m", "500"),
                ("501m", "500"),
                Err((
                    Reason::Deferred,
                    format!("{lacks} resource: cpu, requested: 501, used: 500, capacity: 1000"),
                )),
            ),
            (
                ("500m", "500"),
                ("100m", "600"),
                Err((
                    Reason::Deferred,
                    format!("{lacks} resource: memory, requested: 600, used: 500, capacity: 1000"),
                )),
            ),
            (
                ("0", "0"),
                ("1001m", "500"),
                Err((
                    Reason::Infeasible,
                    format!("{lacks} capacity: cpu, requested: 1001, capacity: 1000"),
                )),
            ),
            (
                ("0", "0"),
                ("1001m", "1001"),
                Err((
                    Reason::Infeasible,
                    format!("{lacks} capacity: memory, requested: 1001, capacity: 1000"),
                )),
            ),
            // The node is full; what is given back needs no room.
            (("900m", "900"), ("150m", "200"), Ok(())),
        ] {
            let (other, wish) = (pod(other.0, other.1), pod(wish.0, wish.1));
            assert_eq!(
                decide(&allocatable, &[&other], &now, &wish),
                expected,
                "{wish:?}"
            );
        }
    }

    #[test]
    fn who_is_judged_first() {
        let held = |cpu: &str, priority: i32, seconds: u64| {
            let mut wish = pod(cpu, "100");
            if let Some(spec) = &mut wish.spec {
                spec.priority = Some(priority);
            }
            Held {
                allocation: Allocation::of(&pod("200m", "100")),
                pod: Arc::new(wish),
                pending: None,
                since: Duration::from_secs(seconds),
            }
        };
        let mut guaranteed = held("300m", 5, 9);
        let mut pod = (*guaranteed.pod).clone();
        for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
            let resources = container.resources.get_or_insert_default();
            resources.limits = resources.requests.clone();
        }
        guaranteed.pod = Arc::new(pod);
        let order = [
            held("100m", 0, 9), // gives back
            held("300m", 7, 9),
            guaranteed,
            held("300m", 5, 1),
            held("300m", 5, 2),
            held("300m", 0, 0),
        ];
        let ranks: Vec<Rank> = order.iter().map(rank).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert!(order.iter().all(Held::wants));
    }
}
