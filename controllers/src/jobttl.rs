//! Job TTL: deletes Jobs that are over, `ttlSecondsAfterFinished` after their end. Watches Jobs; writes nothing else.

use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::client::{DeleteOptions, Propagation};
use corten_client::runner::{Action, Controller, Plan};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;

use crate::job::finished;

/// The controller over its cache.
pub struct JobTtl {
    /// All Jobs.
    pub jobs: Cache<Job>,
}

impl JobTtl {
    /// Keys to wake for a changed Job: only those that end by time.
    pub fn of_job(&self, change: &Change<Job>) -> Vec<ObjectName> {
        let job = change.object();
        let due = !change.is_removed() && due(job).is_some();
        due.then(|| ObjectName::of(&**job)).into_iter().collect()
    }
}

/// When the Job is to go.
fn due(job: &Job) -> Option<Timestamp> {
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended = finished(job)?.last_transition_time.as_ref()?.0;
    ended
        .checked_add(SignedDuration::from_secs(i64::from(seconds)))
        .ok()
}

impl Controller for JobTtl {
    type Key = ObjectName;
    type View = Option<Arc<Job>>;

    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn view(&self, key: &ObjectName) -> Option<Arc<Job>> {
        self.jobs.get_named(key)
    }

    fn plan(&self, job: &Option<Arc<Job>>, now: Timestamp) -> Plan {
        let Some((job, due)) = job.as_ref().and_then(|job| Some((job, due(job)?))) else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        match Duration::try_from(due.duration_since(now)) {
            Ok(left) if !left.is_zero() => plan.requeue(left),
            _ => {
                // Someone may have given it more time since: only what was looked at is deleted.
                let options = DeleteOptions {
                    resource_version: job.metadata.resource_version.clone(),
                    propagation: Some(Propagation::Foreground),
                    ..DeleteOptions::default()
                };
                plan.push(Action::delete_with(&**job, options));
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use serde_json::{Value, json};

    use super::*;

    fn plan(ttl: Value, condition: Value, deleting: Value) -> Plan {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "d", "uid": "u", "resourceVersion": "7", "deletionTimestamp": deleting},
            "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
            "status": {"conditions": [condition]},
        }))
        .expect("job");
        let controller = JobTtl {
            jobs: Cache::fixed([job], CacheOptions::all()),
        };
        let view = controller.view(&ObjectName::new("d", "j"));
        controller.plan(&view, "2026-01-01T00:01:00Z".parse().expect("time"))
    }

    #[test]
    fn a_job_goes_when_its_time_is_up() {
        let ended = |kind: &str, second: u8| json!({"type": kind, "status": "True", "lastTransitionTime": format!("2026-01-01T00:00:{second:02}Z")});
        let none = Value::Null;
        let now = json!("2026-01-01T00:00:50Z");
        let cases = [
            (json!(30), ended("Complete", 10), none.clone(), "delete"),
            (json!(30), ended("Failed", 30), none.clone(), "delete"),
            (json!(0), ended("Complete", 59), none.clone(), "delete"),
            (json!(30), ended("Complete", 40), none.clone(), "10s"),
            (json!(30), ended("Suspended", 10), none.clone(), ""),
            (none.clone(), ended("Complete", 10), none, ""),
            (json!(30), ended("Complete", 10), now, ""),
        ];
        for (ttl, condition, deleting, expected) in cases {
            let plan = plan(ttl, condition.clone(), deleting);
            let words = match (plan.actions.as_slice(), plan.requeue_after) {
                ([Action::Delete { options, .. }], None) => {
                    assert_eq!(options.uid.as_deref(), Some("u"));
                    assert_eq!(options.resource_version.as_deref(), Some("7"));
                    assert_eq!(options.propagation, Some(Propagation::Foreground));
                    "delete".to_owned()
                }
                ([], Some(after)) => format!("{}s", after.as_secs()),
                ([], None) => String::new(),
                other => panic!("{other:?}"),
            };
            assert_eq!(words, expected, "{condition}");
        }
    }
}
