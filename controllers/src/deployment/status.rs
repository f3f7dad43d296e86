//! Status and conditions of a Deployment: Available, and Progressing with its deadline.

use std::time::Duration;

use corten_client::events::EventKind;
use corten_client::runner::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sets::{Set, Sets, max_unavailable, replicas};

/// Conditions that this controller sets and takes away; others are their writers'.
const OURS: [&str; 3] = ["Available", "Progressing", "ReplicaFailure"];

/// Plans the write, if the status is not what it should be.
pub(super) fn update(deployment: &Deployment, sets: &Sets, now: Timestamp, plan: &mut Plan) {
    let counts = counts(deployment, sets);
    let conditions = conditions(deployment, sets, &counts, now, plan);
    write(deployment, counts, conditions, plan);
}

/// Plans an event and the write, if needed, that say why there is no new ReplicaSet.
pub(super) fn not_created(
    deployment: &Deployment,
    sets: &Sets,
    message: String,
    now: Timestamp,
    plan: &mut Plan,
) {
    const REASON: &str = "ReplicaSetCreateError";
    let event = Action::event(deployment, EventKind::Warning, REASON, message.clone());
    plan.push(event);
    let counts = counts(deployment, sets);
    // What would come due by time does not: the key comes again as a failed one.
    let mut conditions = conditions(deployment, sets, &counts, now, &mut Plan::nothing());
    let old = deployment
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    if let Some(progressing) = conditions.iter_mut().find(|c| c.type_ == "Progressing") {
        let content = ("Progressing", "False", REASON, message);
        *progressing = set_condition(&old, content, false, now);
    }
    write(deployment, counts, conditions, plan);
}

fn write(
    deployment: &Deployment,
    counts: DeploymentStatus,
    conditions: Vec<DeploymentCondition>,
    plan: &mut Plan,
) {
    let wanted = DeploymentStatus {
        conditions: Some(conditions),
        ..counts
    };
    if deployment.status.as_ref() == Some(&wanted) {
        return;
    }
    // Only what this controller counts; a collision counted in the same run stays.
    let mut status = serde_json::to_value(&wanted).expect("a status has string keys only");
    for absent in [
        "availableReplicas",
        "readyReplicas",
        "replicas",
        "unavailableReplicas",
        "updatedReplicas",
    ] {
        status
            .as_object_mut()
            .expect("a struct")
            .entry(absent)
            .or_insert(serde_json::Value::Null);
    }
    if let Some(map) = status.as_object_mut() {
        map.remove("collisionCount");
    }
    plan.push(Action::merge_status(
        deployment,
        serde_json::json!({"status": status}),
    ));
}

fn counts(deployment: &Deployment, sets: &Sets) -> DeploymentStatus {
    let of = |count: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        sets.all()
            .filter_map(|set| set.object.status.as_ref())
            .map(count)
            .sum()
    };
    let some = |n: i32| (n > 0).then_some(n);
    let available = sets.available();
    let updated = sets
        .new
        .as_ref()
        .and_then(|set| set.object.status.as_ref())
        .map_or(0, |status| status.replicas);
    DeploymentStatus {
        replicas: some(of(|status| status.replicas)),
        updated_replicas: some(updated),
        ready_replicas: some(of(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some((sets.total() - available).max(0)),
        terminating_replicas: Some(of(|status| status.terminating_replicas.unwrap_or(0))),
        observed_generation: deployment.metadata.generation,
        collision_count: deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
        conditions: None,
    }
}

fn conditions(
    deployment: &Deployment,
    sets: &Sets,
    counts: &DeploymentStatus,
    now: Timestamp,
    plan: &mut Plan,
) -> Vec<DeploymentCondition> {
    let old = deployment
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let enough = counts.available_replicas.unwrap_or(0)
        >= replicas(deployment) - max_unavailable(deployment);
    let available = if enough {
        (
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".to_owned(),
        )
    } else {
        (
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".to_owned(),
        )
    };
    let mut conditions = vec![set_condition(&old, available, false, now)];
    conditions.extend(progressing(deployment, sets, counts, &old, now, plan));
    conditions.extend(failure(sets, &old, now));
    let foreign = |c: &&DeploymentCondition| !OURS.contains(&c.type_.as_str());
    conditions.extend(old.iter().filter(foreign).cloned());
    // The order they were in stays; new ones follow.
    conditions.sort_by_key(|c| {
        old.iter()
            .position(|o| o.type_ == c.type_)
            .unwrap_or(usize::MAX)
    });
    conditions
}

/// A failing ReplicaSet is shown on the Deployment, where people look.
fn failure(
    sets: &Sets,
    old: &[DeploymentCondition],
    now: Timestamp,
) -> Option<DeploymentCondition> {
    let conditions = |set: &Set| {
        set.object
            .status
            .as_ref()
            .and_then(|s| s.conditions.clone())
            .unwrap_or_default()
    };
    let found = sets
        .all()
        .flat_map(conditions)
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    let (reason, message) = (
        found.reason.unwrap_or_default(),
        found.message.unwrap_or_default(),
    );
    Some(set_condition(
        old,
        ("ReplicaFailure", "True", &reason, message),
        false,
        now,
    ))
}

fn progressing(
    deployment: &Deployment,
    sets: &Sets,
    counts: &DeploymentStatus,
    old: &[DeploymentCondition],
    now: Timestamp,
    plan: &mut Plan,
) -> Option<DeploymentCondition> {
    let spec = deployment.spec.as_ref()?;
    let deadline = spec
        .progress_deadline_seconds
        .filter(|seconds| *seconds < i32::MAX)?;
    let before = old.iter().find(|c| c.type_ == "Progressing");
    let was = |reason: &str| before.is_some_and(|c| c.reason.as_deref() == Some(reason));
    let say = |status: &str, reason: &str, message: String, touch: bool| {
        let content = ("Progressing", status, reason, message);
        Some(set_condition(old, content, touch, now))
    };
    if spec.paused.unwrap_or(false) {
        if was("ProgressDeadlineExceeded") {
            return before.cloned();
        }
        let message = "Deployment is paused".to_owned();
        return say("Unknown", "DeploymentPaused", message, false);
    }
    if was("DeploymentPaused") {
        let message = "Deployment is resumed".to_owned();
        return say("Unknown", "DeploymentResumed", message, true);
    }
    let subject = subject(deployment, sets);
    if sets.is_complete(deployment) && deployment.metadata.deletion_timestamp.is_none() {
        let message = format!("{subject} has successfully progressed.");
        return say("True", "NewReplicaSetAvailable", message, false);
    }
    if let Some(new) = &sets.new
        && new.object.metadata.uid.is_none()
    {
        let message = format!("Created new replica set {:?}", new.name());
        return say("True", "NewReplicaSetCreated", message, true);
    }
    let done = was("NewReplicaSetAvailable");
    if done && counts.replicas == counts.updated_replicas {
        // A rollout that came to its end does not start anew because a pod is lost or the size changes.
        return before.cloned();
    }
    if moved(deployment, counts) || before.is_none() || done {
        plan.requeue(seconds(deadline));
        let message = format!("{subject} is progressing.");
        return say("True", "ReplicaSetUpdated", message, true);
    }
    let before = before?;
    let last = before.last_update_time.as_ref().map_or(now, |time| time.0);
    let waited = now.as_second() - last.as_second();
    if was("ProgressDeadlineExceeded") || waited >= i64::from(deadline) {
        let message = format!("{subject} has timed out progressing.");
        return say("False", "ProgressDeadlineExceeded", message, false);
    }
    let left = seconds(deadline).saturating_sub(Duration::from_secs(waited.unsigned_abs()));
    plan.requeue(left + Duration::from_secs(1));
    Some(before.clone())
}

/// What the Progressing condition is about: the new set, or the Deployment while there is none.
fn subject(deployment: &Deployment, sets: &Sets) -> String {
    match &sets.new {
        Some(set) => format!("ReplicaSet {:?}", set.name()),
        None => {
            let name = deployment.metadata.name.as_deref().unwrap_or_default();
            format!("Deployment {name:?}")
        }
    }
}

fn seconds(deadline: i32) -> Duration {
    Duration::from_secs(u64::try_from(deadline).unwrap_or(1))
}

/// Whether the counts show a step since the last status.
fn moved(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let Some(old) = &deployment.status else {
        return true;
    };
    let n = |value: Option<i32>| value.unwrap_or(0);
    let old_sets = |status: &DeploymentStatus| n(status.replicas) - n(status.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || old_sets(new) < old_sets(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

/// The condition with times kept where nothing changed. `touch` renews the update time even then.
fn set_condition(
    old: &[DeploymentCondition],
    (kind, status, reason, message): (&str, &str, &str, String),
    touch: bool,
    now: Timestamp,
) -> DeploymentCondition {
    let before = old.iter().find(|condition| condition.type_ == kind);
    let same_status = before.filter(|condition| condition.status == status);
    let same = same_status
        .filter(|c| c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(&message));
    let fresh = Some(Time(now));
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.clone()),
        last_transition_time: same_status.map_or(fresh.clone(), |c| c.last_transition_time.clone()),
        last_update_time: same
            .filter(|_| !touch)
            .map_or(fresh, |c| c.last_update_time.clone()),
    }
}
