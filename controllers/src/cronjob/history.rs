//! Jobs that are over and beyond the limits of the history: the oldest go.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJobSpec, Job};

use crate::job::finished;

pub(super) fn superfluous<'a>(spec: &CronJobSpec, jobs: &'a [Arc<Job>]) -> Vec<&'a Job> {
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    let mut going = Vec::new();
    for (how, limit) in limits {
        let Some(limit) = limit.map(|limit| usize::try_from(limit).unwrap_or(0)) else {
            continue;
        };
        let ended = |job: &Job| finished(job).is_some_and(|condition| condition.type_ == how);
        let mut over: Vec<&Job> = jobs
            .iter()
            .map(AsRef::as_ref)
            .filter(|job| ended(job))
            .collect();
        over.sort_by_key(|job| {
            let status = job.status.as_ref();
            let started = status.and_then(|status| status.start_time.as_ref());
            // What was never started is the youngest.
            (
                started.is_none(),
                started.map(|time| time.0),
                &job.metadata.name,
            )
        });
        let excess = over.len().saturating_sub(limit);
        let old = over.into_iter().take(excess);
        // One that is on its way out needs no second word.
        going.extend(old.filter(|job| job.metadata.deletion_timestamp.is_none()));
    }
    going
}
