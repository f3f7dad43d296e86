//! How long a Job waits before it makes up for failed pods: ten seconds after the first, then twice as long each time, up
//! to ten minutes; a pod that succeeds ends the row.
//!
//! Pods that are deleted take their failure with them, so failures are remembered here. After a restart, what pods still
//! show is what is known.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use parking_lot::Mutex;

use crate::pods;

/// The wait after the first failure. Upstream's number.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait. Upstream's number.
const LONGEST: Duration = Duration::from_secs(600);
/// With so many failures in a row the wait does not grow any more.
const KEPT: usize = 8;

/// The failures in a row of one Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// When, and the pod's uid, so that none is counted twice.
    failed: BTreeSet<(Timestamp, String)>,
    succeeded: Option<Timestamp>,
}

impl Record {
    /// Takes in what pods show. Any number of times.
    pub(super) fn note<'a>(
        &mut self,
        failed: impl Iterator<Item = &'a Pod>,
        succeeded: impl Iterator<Item = &'a Pod>,
    ) {
        for pod in failed {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            // The end of a pod may be told more exactly later on.
            self.failed.retain(|(_, known)| *known != uid);
            self.failed.insert((ended(pod), uid));
        }
        self.succeeded = succeeded.map(ended).max().max(self.succeeded);
        let succeeded = self.succeeded;
        self.failed
            .retain(|(at, _)| succeeded.is_none_or(|succeeded| *at > succeeded));
        while self.failed.len() > KEPT {
            self.failed.pop_first();
        }
    }

    /// How long to wait from now.
    pub(super) fn remaining(&self, now: Timestamp) -> Duration {
        let last = self.failed.last().map(|(at, _)| *at);
        last.map_or(Duration::ZERO, |last| wait(self.failed.len(), last, now))
    }
}

/// What is left at `now` of the wait for the given number of failures in a row.
pub(super) fn wait(failures: usize, last: Timestamp, now: Timestamp) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 2_u32.saturating_pow(doublings);
    let whole = FIRST.saturating_mul(factor).min(LONGEST);
    match Duration::try_from(now.duration_since(last)) {
        Ok(passed) => whole.saturating_sub(passed),
        Err(_) => whole, // the clock of the node is ahead of ours
    }
}

/// The records of all Jobs, by uid. An entry lives as long as the Job does, or until it is over.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, Record>>);

impl Failures {
    /// Takes in what the pods of a Job show, and gives all that is known.
    pub(super) fn update(&self, job: &str, note: impl FnOnce(&mut Record)) -> Record {
        let mut records = self.0.lock();
        let record = records.entry(job.to_owned()).or_default();
        note(record);
        let known = record.clone();
        if known == Record::default() {
            records.remove(job);
        }
        known
    }

    pub(super) fn forget(&self, job: &str) {
        self.0.lock().remove(job);
    }
}

/// When a pod came to its end: by its containers, else since it is not ready, else by its deletion.
pub(super) fn ended(pod: &Pod) -> Timestamp {
    by_containers(pod)
        .or_else(|| by_readiness(pod))
        .or_else(|| by_deletion(pod))
        .or_else(|| Some(pod.metadata.creation_timestamp.as_ref()?.0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The end of the last container; sidecars end after the others.
fn by_containers(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let inits = pod.spec.iter().flat_map(|spec| &spec.init_containers);
    let sidecars: Vec<&str> = inits
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let end = |status: &ContainerStatus| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.as_ref().map(|at| at.0)
    };
    let inits = status.init_container_statuses.iter().flatten();
    let sidecars = inits.filter(|status| sidecars.contains(&status.name.as_str()));
    let all = status.container_statuses.iter().flatten().chain(sidecars);
    let ends: Option<Vec<Timestamp>> = all.map(end).collect();
    ends?.into_iter().max()
}

fn by_readiness(pod: &Pod) -> Option<Timestamp> {
    let ready = pods::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
    ready.last_transition_time.as_ref().map(|at| at.0)
}

fn by_deletion(pod: &Pod) -> Option<Timestamp> {
    let due = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    due.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ended: &str) -> Pod {
        let state = json!({"terminated": {"exitCode": 1, "finishedAt": ended}});
        let statuses = json!([{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]);
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name}, "spec": {"containers": []},
            "status": {"containerStatuses": statuses},
        }))
        .expect("pod")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("time")
    }

    #[test]
    fn waits_double_up_to_ten_minutes() {
        let now = at("2026-01-01T00:00:00Z");
        let waits: Vec<u64> = (1..10).map(|n| wait(n, now, now).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        let later = at("2026-01-01T00:00:08Z");
        assert_eq!(wait(1, now, later), Duration::from_secs(2));
        assert_eq!(wait(1, now, at("2026-01-01T00:00:11Z")), Duration::ZERO);
        // A node's clock may be ahead.
        assert_eq!(wait(1, later, now), Duration::from_secs(10));
    }

    #[test]
    fn a_success_ends_the_row_and_a_deleted_pod_still_counts() {
        let mut record = Record::default();
        let (a, b) = (
            pod("a", "2026-01-01T00:00:00Z"),
            pod("b", "2026-01-01T00:01:00Z"),
        );
        record.note([&a].into_iter(), std::iter::empty());
        record.note([&b].into_iter(), std::iter::empty());
        record.note([&b].into_iter(), std::iter::empty());
        let now = at("2026-01-01T00:01:05Z");
        assert_eq!(record.remaining(now), Duration::from_secs(15));
        let success = pod("c", "2026-01-01T00:00:30Z");
        record.note(std::iter::empty(), [&success].into_iter());
        assert_eq!(record.remaining(now), Duration::from_secs(5));
        record.note([&a, &b].into_iter(), std::iter::empty());
        assert_eq!(record.remaining(now), Duration::from_secs(5), "a is over");
    }

    #[test]
    fn the_end_of_a_pod_is_found() {
        let pod = |status: Value, metadata: Value| -> Pod {
            let object =
                json!({"metadata": metadata, "spec": {"containers": []}, "status": status});
            serde_json::from_value(object).expect("pod")
        };
        let running = json!([{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"running": {}}}]);
        let unready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:03Z"}]);
        let going =
            json!({"deletionTimestamp": "2026-01-01T00:00:34Z", "deletionGracePeriodSeconds": 30});
        let cases = [
            (
                pod(
                    json!({"containerStatuses": running, "conditions": unready}),
                    going.clone(),
                ),
                3,
            ),
            (pod(json!({}), going), 4),
            (
                pod(
                    json!({}),
                    json!({"creationTimestamp": "2026-01-01T00:00:05Z"}),
                ),
                5,
            ),
        ];
        for (pod, second) in cases {
            let expected = format!("2026-01-01T00:00:0{second}Z");
            assert_eq!(ended(&pod).to_string(), expected);
        }
    }
}
