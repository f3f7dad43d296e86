//! Tells why a pod waits (condition and event), and evicts victims. Runs beside the loop, several calls at once, from a
//! bounded queue: a report that finds no room is dropped, and comes again with the pod's next attempt.

use std::sync::Arc;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::cache::Cache;
use corten_client::client::{DeleteOptions, Patch};
use corten_client::events::{EventKind, Recorder};
use corten_client::{Client, Error};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::bind::reference;
use crate::core::pod::PodInfo;

/// Reports waiting; one per unschedulable pod and attempt.
const BACKLOG: usize = 16_384;
/// Reports carried out at once.
const AT_ONCE: usize = 32;

/// What is to be told and done about a pod that fits nowhere.
pub(super) struct Report {
    pub(super) pod: Arc<PodInfo>,
    pub(super) message: String,
    /// The node that will be cleared for it.
    pub(super) nominated: Option<String>,
    /// The node that was promised to it helps no longer.
    pub(super) gives_up: bool,
    /// Who has to go for it.
    pub(super) victims: Vec<Arc<PodInfo>>,
    /// The condition says so already: only the event is repeated.
    pub(super) told_before: bool,
}

enum Job {
    NoFit(Report),
    ClearNomination(Arc<PodInfo>),
}

/// The way to the reporting task.
pub(super) struct Reporter {
    jobs: mpsc::Sender<Job>,
}

struct Worker {
    client: Client,
    /// To see that a report has come too late.
    pods: Cache<Pod>,
    recorder: Recorder,
    scheduler_name: String,
}

impl Reporter {
    pub(super) fn start(
        client: Client,
        pods: Cache<Pod>,
        recorder: Recorder,
        scheduler_name: &str,
        shutdown: &Shutdown,
    ) -> Self {
        let (jobs, receiver) = mpsc::channel(BACKLOG);
        let worker = Arc::new(Worker {
            client,
            pods,
            recorder,
            scheduler_name: scheduler_name.to_owned(),
        });
        let shutdown = shutdown.clone();
        spawn("report", TaskKind::Background, async move {
            let jobs = futures::stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|job: Job| (job, receiver))
            });
            let all = jobs.for_each_concurrent(AT_ONCE, |job| {
                let worker = Arc::clone(&worker);
                async move { worker.carry_out(job).await }
            });
            tokio::select! {
                biased;
                () = shutdown.wait() => {}
                () = all => {}
            }
        });
        Self { jobs }
    }

    /// Sends a report; whether there was room.
    pub(super) fn send(&self, report: Report) -> bool {
        self.jobs.try_send(Job::NoFit(report)).is_ok()
    }

    /// Takes back the promise of a node.
    pub(super) fn clear_nomination(&self, pod: &Arc<PodInfo>) {
        // If there is no room, the stale name in the status does no harm: it is a hint.
        let _ = self.jobs.try_send(Job::ClearNomination(Arc::clone(pod)));
    }
}

impl Worker {
    async fn carry_out(&self, job: Job) {
        match job {
            Job::ClearNomination(pod) => {
                self.patch(&pod, json!({"status": {"nominatedNodeName": null}}))
                    .await;
            }
            Job::NoFit(report) if self.is_late(&report.pod) => {
                let pod = report.pod.full_name();
                tracing::debug!(pod, "a report came too late");
            }
            Job::NoFit(report) => {
                if !report.told_before {
                    self.patch(&report.pod, unschedulable(&report)).await;
                }
                let regarding = reference(&report.pod);
                self.recorder.record(
                    regarding,
                    EventKind::Warning,
                    "FailedScheduling",
                    report.message.clone(),
                );
                let evictions = report
                    .victims
                    .iter()
                    .map(|victim| self.evict(victim, &report));
                futures::future::join_all(evictions).await;
            }
        }
    }

    /// Marks a victim for its owner to see, then deletes it with its grace period.
    async fn evict(&self, victim: &Arc<PodInfo>, report: &Report) {
        let node = report.nominated.as_deref().unwrap_or_default();
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{}: preempting to accommodate a higher priority pod", self.scheduler_name),
            "lastTransitionTime": now(),
        });
        self.patch(victim, json!({"status": {"conditions": [condition]}}))
            .await;
        let options = DeleteOptions::uid(&victim.uid);
        let deleted = self
            .client
            .delete::<Pod>(&victim.namespace, &victim.name, &options)
            .await;
        match deleted {
            Ok(_) => {
                let message = format!("Preempted by pod {} on node {node}", report.pod.uid);
                self.recorder
                    .record(reference(victim), EventKind::Normal, "Preempted", message);
            }
            Err(Error::NotFound(_) | Error::Conflict(_)) => {}
            Err(error) => {
                tracing::warn!(pod = victim.full_name(), %error, "victim not deleted");
            }
        }
    }

    fn is_late(&self, pod: &PodInfo) -> bool {
        let held = self.pods.get(&pod.namespace, &pod.name);
        has_moved_on(held.as_deref(), pod)
    }

    async fn patch(&self, pod: &PodInfo, patch: Value) {
        let patch = Patch::Strategic(of_exactly(pod, patch));
        match self
            .client
            .patch_status::<Pod>(&pod.namespace, &pod.name, &patch)
            .await
        {
            // Gone, or another one of the name: then it is not about this one.
            Ok(_) | Err(Error::NotFound(_) | Error::Conflict(_)) => {}
            Err(error) => tracing::warn!(pod = pod.full_name(), %error, "pod status not written"),
        }
    }
}

/// Reports wait in a queue: meanwhile the pod may have got a node, or have gone and come again.
fn has_moved_on(held: Option<&Pod>, pod: &PodInfo) -> bool {
    // Nothing is held before the pod is seen, and after it has gone: the server knows then.
    let Some(held) = held else { return false };
    let node = held
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref());
    held.metadata.uid.as_deref() != Some(pod.uid.as_str())
        || node.is_some_and(|node| !node.is_empty())
}

/// The patch for this pod and no other of its name.
fn of_exactly(pod: &PodInfo, mut patch: Value) -> Value {
    patch["metadata"] = json!({"uid": pod.uid});
    patch
}

fn unschedulable(report: &Report) -> Value {
    let condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": report.message,
        "lastTransitionTime": now(),
    });
    let mut status = json!({"conditions": [condition]});
    if let Some(node) = &report.nominated {
        status["nominatedNodeName"] = json!(node);
    } else if report.gives_up {
        status["nominatedNodeName"] = Value::Null;
    }
    json!({"status": status})
}

/// Times of conditions have whole seconds.
fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, node: Option<&str>) -> Pod {
        let pod = json!({"metadata": {"namespace": "a", "name": "p", "uid": uid}, "spec": {"containers": [], "nodeName": node}});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_late_report_told_a_bound_pod_or_its_successor_that_it_fits_nowhere() {
        let info = Arc::new(PodInfo::read(&pod("u1", None)));
        for (held, late) in [
            (None, false),
            (Some(pod("u1", None)), false),
            (Some(pod("u1", Some("n1"))), true),
            (Some(pod("u2", None)), true),
        ] {
            assert_eq!(has_moved_on(held.as_ref(), &info), late);
        }
        let mut report = Report {
            pod: Arc::clone(&info),
            message: "why".to_owned(),
            nominated: None,
            gives_up: false,
            victims: Vec::new(),
            told_before: false,
        };
        let patch = of_exactly(&info, unschedulable(&report));
        assert_eq!(patch["metadata"], json!({"uid": "u1"}));
        let promise = |patch: &Value| patch["status"].get("nominatedNodeName").cloned();
        assert_eq!(promise(&patch), None);
        report.gives_up = true;
        assert_eq!(promise(&unschedulable(&report)), Some(Value::Null));
    }
}
