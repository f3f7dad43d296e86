//! Job: owns pods that run to their end. Watches Jobs and Pods; creates, deletes, adopts and releases pods, takes the
//! tracking finalizer off them, writes `jobs/status`.
//!
//! ```text
//!  pods ── adopt, release ── is it decided? ──┬── no:  fewer or more pods (`manage`)
//!                                             └── yes: the active pods go
//!       ── status (`track`): name ended pods in uncountedTerminatedPods ── take their finalizers off
//!       ── in a later run: what is named and has no finalizer goes into the counters; last, Complete or Failed
//! ```
//!
//! Invariant: an ended pod keeps its finalizer until the status names it, and is named until it is counted; so each pod is
//! counted once, whenever this process ends. The status tells what is there now, not what the run is about to do.

mod sync;

mod backoff;
mod claim;
mod conditions;
mod failure_policy;
mod indexes;
mod intervals;
mod manage;
mod orphan;
mod outcome;
mod pod;
mod removal;
mod success_policy;
mod track;

use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::events::EventKind;
use corten_client::object::controller_of;
use corten_client::queue::RetryPolicy;
use corten_client::runner::{Action, Controller, Failed, Plan};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

pub use self::backoff::Failures;
pub(crate) use self::conditions::finished;
use crate::pods::{self, BY_CONTROLLER};

/// Keeps a pod until its end is counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Stands for this controller in `spec.managedBy`.
const NAME: &str = "kubernetes.io/job-controller";

/// A lost race is tried again soon; pods that the server refuses need no more than upstream's minute.
pub const RETRY: RetryPolicy = RetryPolicy {
    min: Duration::from_millis(10),
    max: Duration::from_secs(60),
};

/// The controller over its caches.
pub struct Jobs {
    /// All Jobs.
    pub jobs: Cache<Job>,
    /// All pods, indexed by [`BY_CONTROLLER`].
    pub pods: Cache<Pod>,
    /// When pods of Jobs failed, for the back-off.
    pub failures: Failures,
}

/// What one run is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A Job and its pods.
    Job(ObjectName),
    /// A pod with our finalizer that no Job will count.
    Orphan(ObjectName),
}

/// What one plan depends on.
pub struct View(Seen);

enum Seen {
    Nothing,
    Job(sync::Seen),
    Orphan(orphan::Seen),
}

impl Jobs {
    /// Keys to wake for a changed Job. One that is over counts no more pods: they must not wait for it.
    pub fn of_job(&self, change: &Change<Job>) -> Vec<Key> {
        let job = change.object();
        let mut keys = vec![Key::Job(ObjectName::of(&**job))];
        if change.is_removed() || finished(job).is_some() {
            let uid = job.metadata.uid.as_deref().unwrap_or_default();
            self.failures.forget(uid);
            let left = self.pods.by_index(BY_CONTROLLER, uid);
            keys.extend(
                left.iter()
                    .filter(|pod| has_finalizer(pod))
                    .map(|pod| Key::Orphan(ObjectName::of(&**pod))),
            );
        }
        keys
    }

    /// Keys to wake for a changed pod: its Job before and after, or whoever might adopt it, or itself.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<Key> {
        let mut keys: Vec<Key> = std::iter::once(change.object())
            .chain(change.old())
            .filter_map(|pod| manager(pod))
            .collect();
        keys.dedup();
        if change.is_removed() {
            return keys;
        }
        let pod = change.object();
        if has_finalizer(pod) && orphan::seen(self, pod).is_some() {
            keys.push(Key::Orphan(ObjectName::of(&**pod)));
        }
        if controller_of(&pod.metadata).is_none() {
            keys.extend(
                self.adopters(pod)
                    .map(|job| Key::Job(ObjectName::of(&*job))),
            );
        }
        keys
    }

    /// Jobs that would take this pod, which nobody manages.
    fn adopters(&self, pod: &Pod) -> impl Iterator<Item = Arc<Job>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let jobs = match pod.metadata.deletion_timestamp {
            None => self.jobs.list_namespace(namespace),
            Some(_) => Vec::new(),
        };
        jobs.into_iter().filter(|job| {
            job.metadata.deletion_timestamp.is_none() && is_ours(job) && matches(job, pod)
        })
    }
}

fn manager(pod: &Pod) -> Option<Key> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job")?;
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    Some(Key::Job(ObjectName::new(namespace, owner.name.clone())))
}

fn matches(job: &Job, pod: &Pod) -> bool {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| pods::selects(selector, pod.metadata.labels.as_ref()))
}

fn has_finalizer(pod: &Pod) -> bool {
    let finalizers = pod.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

/// Whether another controller has the Job.
fn is_external(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_ref());
    manager.is_some_and(|manager| manager != NAME)
}

/// Whether there is something for us to do about the Job, now or later.
fn is_ours(job: &Job) -> bool {
    !is_external(job) && finished(job).is_none()
}

impl Controller for Jobs {
    type Key = Key;
    type View = View;

    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn view(&self, key: &Key) -> View {
        let seen = match key {
            Key::Job(name) => self
                .jobs
                .get_named(name)
                .filter(|job| is_ours(job))
                .map(|job| Seen::Job(sync::Seen::of(self, job))),
            Key::Orphan(name) => self
                .pods
                .get_named(name)
                .filter(|pod| has_finalizer(pod))
                .and_then(|pod| orphan::seen(self, &pod).map(Seen::Orphan)),
        };
        View(seen.unwrap_or(Seen::Nothing))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        match &view.0 {
            Seen::Nothing => Plan::nothing(),
            Seen::Job(seen) => sync::plan(seen, now),
            Seen::Orphan(seen) => orphan::plan(seen),
        }
    }

    fn after_failure(&self, view: &View, failed: &[Failed], _now: Timestamp) -> Plan {
        let Seen::Job(seen) = &view.0 else {
            return Plan::nothing();
        };
        let told = failed.iter().filter_map(|failure| {
            let (reason, doing) = match failure.tried {
                // In a namespace that goes there is nothing to tell.
                Action::Create { .. } if !failure.error.has_cause("NamespaceTerminating") => {
                    ("FailedCreate", "creating")
                }
                Action::Delete { .. } => ("FailedDelete", "deleting"),
                _ => return None,
            };
            let message = format!("Error {doing}: {}", failure.error);
            let job = &*seen.job;
            Some(Action::event(job, EventKind::Warning, reason, message))
        });
        Plan::of(told)
    }
}

#[cfg(test)]
mod tests;
