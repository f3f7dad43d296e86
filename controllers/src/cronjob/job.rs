//! The Jobs that a CronJob makes: how they are named, and how one of them is known again.

use corten_client::object::controller_reference;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Annotation: the time that a Job is for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The name of the Job for a time.
pub(super) fn name(cron_job: &CronJob, time: Timestamp) -> String {
    let name = cron_job.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", time.as_second().div_euclid(60))
}

/// The time that a Job of this CronJob is for, unless somebody else made it.
pub(super) fn scheduled(cron_job: &CronJob, job: &Job) -> Option<Timestamp> {
    let annotations = job.metadata.annotations.as_ref()?;
    let time: Timestamp = annotations.get(SCHEDULED)?.parse().ok()?;
    (job.metadata.name.as_deref() == Some(name(cron_job, time).as_str())).then_some(time)
}

pub(super) fn of(
    cron_job: &CronJob,
    spec: &CronJobSpec,
    name: String,
    (time, zone): (Timestamp, &TimeZone),
) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_owned(), rfc3339(time, zone));
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron_job.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

fn rfc3339(time: Timestamp, zone: &TimeZone) -> String {
    let time = time.to_zoned(zone.clone());
    let format = match time.offset().seconds() {
        0 => "%Y-%m-%dT%H:%M:%SZ",
        _ => "%Y-%m-%dT%H:%M:%S%:z",
    };
    time.strftime(format).to_string()
}
