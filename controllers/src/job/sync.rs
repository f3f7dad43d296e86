//! One run of a Job: what it sees, and the order of its parts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use corten_client::events::EventKind;
use corten_client::object::controller_of;
use corten_client::runner::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::backoff::Record;
use super::claim::{self, Mine};
use super::failure_policy::{self, Verdict};
use super::indexes::Indexes;
use super::{Jobs, conditions, has_finalizer, manage, matches, outcome, pod, track};
use crate::pods::{self, BY_CONTROLLER};

/// What a run depends on.
pub(super) struct Seen {
    pub(super) job: Arc<Job>,
    /// Pods that the Job manages.
    owned: Vec<Arc<Pod>>,
    /// Pods that match and nobody manages.
    orphans: Vec<Arc<Pod>>,
    record: Record,
}

impl Seen {
    pub(super) fn of(controller: &Jobs, job: Arc<Job>) -> Self {
        let meta = &job.metadata;
        let uid = meta.uid.as_deref().unwrap_or_default();
        let owned = controller.pods.by_index(BY_CONTROLLER, uid);
        let free = |pod: &Arc<Pod>| {
            controller_of(&pod.metadata).is_none()
                && pod.metadata.deletion_timestamp.is_none()
                && matches(&job, pod)
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let mut orphans = controller.pods.list_namespace(namespace);
        orphans.retain(free);
        // A pod that we deleted ourselves lost its finalizer before: its end is no failure.
        let failed = owned.iter().filter(|pod| match has_finalizer(pod) {
            true => has_failed(job.spec.as_ref(), pod),
            false => pods::phase(pod) == "Failed" && pod.metadata.deletion_timestamp.is_none(),
        });
        let succeeded = owned.iter().filter(|pod| pods::phase(pod) == "Succeeded");
        let record = controller.failures.update(uid, |record| {
            record.note(failed.map(AsRef::as_ref), succeeded.map(AsRef::as_ref));
        });
        Self {
            owned,
            orphans,
            record,
            job,
        }
    }
}

/// A run, and what its parts ask of it.
pub(super) struct Run<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) record: &'a Record,
    pub(super) now: Timestamp,
    /// The Job's pods; in order of their indexes, where they have some.
    pub(super) pods: Vec<Mine>,
    /// The status as it is.
    pub(super) status: JobStatus,
    /// Pods that the status names as succeeded, and does not count yet.
    pub(super) named_succeeded: HashSet<String>,
    /// Pods that the status names as failed, and does not count yet.
    pub(super) named_failed: HashSet<String>,
    /// Since when the Job counts as running.
    pub(super) started: Option<Timestamp>,
    /// Pods that succeeded, or indexes; those that are not in the counters yet included.
    pub(super) succeeded: i32,
    /// Pods that failed and count; those that are not in the counters yet included.
    pub(super) failed: i32,
    /// What an Indexed Job knows of its indexes.
    pub(super) indexes: Option<Indexes>,
}

impl<'a> Run<'a> {
    fn of(seen: &'a Seen, spec: &'a JobSpec, mut pods: Vec<Mine>, now: Timestamp) -> Self {
        let job = &*seen.job;
        let status = job.status.clone().unwrap_or_default();
        if is_indexed(spec) {
            pods.sort_by_key(|mine| mine.index);
        }
        let mut run = Self {
            job,
            spec,
            record: &seen.record,
            now,
            pods,
            started: started(spec, &status, now),
            named_succeeded: named(&status, |all| all.succeeded.as_ref()),
            named_failed: named(&status, |all| all.failed.as_ref()),
            status,
            succeeded: 0,
            failed: 0,
            indexes: None,
        };
        let failed = run.fresh(&run.named_failed, |pod| has_failed(Some(spec), pod));
        let failed = count(failed.filter(|mine| run.verdict(&mine.pod).counts()));
        run.failed = run.status.failed.unwrap_or(0) + failed + count(&run.named_failed);
        let succeeded = run.fresh(&run.named_succeeded, |pod| pods::phase(pod) == "Succeeded");
        let succeeded = count(succeeded) + count(&run.named_succeeded);
        run.succeeded = run.status.succeeded.unwrap_or(0) + succeeded;
        run.indexes = is_indexed(spec).then(|| Indexes::of(&run));
        if let Some(indexes) = &run.indexes {
            run.succeeded = indexes.succeeded.total();
        }
        run
    }

    /// Pods of a kind that are neither counted nor named in the status.
    fn fresh(
        &self,
        named: &HashSet<String>,
        is: impl Fn(&Pod) -> bool,
    ) -> impl Iterator<Item = &Mine> {
        self.pods.iter().filter(move |mine| {
            mine.tracked && self.is_valid(mine) && !named.contains(mine.uid()) && is(&mine.pod)
        })
    }

    /// Whether the pod has an index that the Job has, if the Job has indexes.
    pub(super) fn is_valid(&self, mine: &Mine) -> bool {
        !is_indexed(self.spec) || mine.index.is_some_and(|index| index < self.completions())
    }

    /// How many indexes there are.
    pub(super) fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend.unwrap_or(false)
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Mine> {
        self.pods.iter().filter(|mine| pods::is_active(&mine.pod))
    }

    /// Pods on their way out that have not ended.
    pub(super) fn terminating(&self) -> impl Iterator<Item = &Mine> {
        self.pods.iter().filter(|mine| {
            mine.pod.metadata.deletion_timestamp.is_some() && !pods::is_finished(&mine.pod)
        })
    }

    pub(super) fn has_failed(&self, pod: &Pod) -> bool {
        has_failed(Some(self.spec), pod)
    }

    pub(super) fn verdict(&self, pod: &Pod) -> Verdict {
        failure_policy::judge(self.spec.pod_failure_policy.as_ref(), pod)
    }
}

fn named(
    status: &JobStatus,
    list: fn(&UncountedTerminatedPods) -> Option<&Vec<String>>,
) -> HashSet<String> {
    let named = status.uncounted_terminated_pods.as_ref().and_then(list);
    named.into_iter().flatten().cloned().collect()
}

pub(super) fn count<T>(items: impl IntoIterator<Item = T>) -> i32 {
    i32::try_from(items.into_iter().count()).unwrap_or(i32::MAX)
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether a pod on its way out is made up for only when it has ended.
pub(super) fn waits_for_the_end(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Whether the pod failed, or will not come to another end that we wait for.
fn has_failed(spec: Option<&JobSpec>, pod: &Pod) -> bool {
    let going = pod.metadata.deletion_timestamp.is_some();
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => going && !spec.is_some_and(waits_for_the_end),
    }
}

/// A Job that is resumed starts anew: its deadline is about the time that it runs without a break.
fn started(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Timestamp> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let was_suspended = conditions::holding(conditions, "Suspended").is_some();
    let before = status.start_time.as_ref().map(|time| time.0);
    match spec.suspend.unwrap_or(false) {
        true => before,
        false if was_suspended => Some(now),
        false => before.or(Some(now)),
    }
}

pub(super) fn plan(seen: &Seen, now: Timestamp) -> Plan {
    let job = &*seen.job;
    let Some(spec) = &job.spec else {
        return Plan::nothing();
    };
    if !matches!(
        spec.completion_mode.as_deref(),
        None | Some("NonIndexed" | "Indexed")
    ) {
        let message = "Skipped Job sync because completion mode is unknown";
        let reason = "UnknownCompletionMode";
        return Plan::of([Action::event(job, EventKind::Warning, reason, message)]);
    }
    let mut plan = Plan::nothing();
    let pods = claim::claim(job, &seen.owned, &seen.orphans, &mut plan);
    let run = Run::of(seen, spec, pods, now);
    let decided = outcome::decided(&run);
    if decided.is_none() {
        wake_at_deadline(&run, &mut plan);
    }
    let managed = (decided.is_none() && job.metadata.deletion_timestamp.is_none())
        .then(|| manage::decide(&run, &mut plan));
    let finish = decided.or_else(|| outcome::completed(&run));
    let untracked = track::update(&run, finish.as_ref(), managed.is_some(), &mut plan);
    // From here on a pod that is in the way of nothing else must not hold up the others.
    for mine in &run.pods {
        let goes = finish.is_some() && pods::is_active(&mine.pod);
        let counted = untracked.contains(mine.uid());
        if goes || counted {
            plan.begin_group();
        }
        if goes {
            delete(job, &mine.pod, &mut plan);
        }
        if counted {
            plan.push(pod::untrack(&mine.pod));
        }
    }
    if let Some(managed) = managed {
        managed.carry_out(job, &mut plan);
    }
    plan
}

fn wake_at_deadline(run: &Run<'_>, plan: &mut Plan) {
    let (Some(seconds), Some(started), false) = (
        run.spec.active_deadline_seconds,
        run.started,
        run.is_suspended(),
    ) else {
        return;
    };
    let left = i128::from(seconds) * 1000 - (run.now.duration_since(started)).as_millis();
    plan.requeue(Duration::from_millis(u64::try_from(left).unwrap_or(0)));
}

pub(super) fn delete(job: &Job, pod: &Pod, plan: &mut Plan) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Deleted pod: {name}");
    plan.push(Action::delete(pod));
    plan.push(Action::event(
        job,
        EventKind::Normal,
        "SuccessfulDelete",
        message,
    ));
}
