//! Plans of a Deployment: each table row is a state of its sets and what is written for it.

use corten_client::cache::CacheOptions;
use corten_client::client::Patch;
use serde_json::{Value, json};

use super::sets::REVISION;
use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(image: &str, replicas: i32, spec: Value) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "dep", "generation": 2},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template(image),
                 "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).expect("deployment")
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}})
}

/// A set named and imaged `image`, of `size` with `available` pods, made for a Deployment of `desired` and at most `max`.
fn set(
    image: &str,
    revision: i64,
    size: i32,
    available: i32,
    (desired, max): (i32, i32),
) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": image, "namespace": "d", "uid": image, "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:{revision:02}:00Z"), "labels": {"app": "web"},
            "annotations": {REVISION: revision.to_string(), sets::DESIRED: desired.to_string(), sets::MAX: max.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "dep", "controller": true}]},
        "spec": {"replicas": size, "selector": {"matchLabels": {"app": "web"}}, "template": template(image)},
        "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1},
    }))
    .expect("set")
}

fn plan_with(deployment: Deployment, sets: Vec<ReplicaSet>, pods: Vec<Pod>) -> Plan {
    let by_controller = || CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid);
    let controller = Deployments {
        deployments: Cache::fixed([deployment], CacheOptions::all()),
        replica_sets: Cache::fixed(
            sets,
            CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid),
        ),
        pods: Cache::fixed(pods, by_controller()),
    };
    controller.plan(
        &controller.view(&ObjectName::new("d", "web")),
        NOW.parse().expect("time"),
    )
}

fn plan(deployment: Deployment, sets: Vec<ReplicaSet>) -> Plan {
    plan_with(deployment, sets, vec![])
}

/// What is done to sets: `+size` for a new one, `name=size`, `name#revision`, `-name`.
fn changes(plan: &Plan) -> Vec<String> {
    let mut words = Vec::new();
    for action in &plan.actions {
        match action {
            Action::Create { object, .. } => words.push(format!("+{}", object["spec"]["replicas"])),
            Action::Delete { target, .. } => words.push(format!("-{}", target.name)),
            Action::Patch {
                target,
                patch: Patch::Merge(patch),
            } if target.subresource.is_empty() => {
                let name = if target.resource == "deployments" {
                    "deployment"
                } else {
                    &target.name
                };
                if let Some(size) = patch["spec"]["replicas"].as_i64() {
                    words.push(format!("{name}={size}"));
                }
                if let Some(revision) = patch["metadata"]["annotations"][REVISION].as_str() {
                    words.push(format!("{name}#{revision}"));
                }
                if patch["metadata"]["ownerReferences"].is_array() {
                    words.push(format!(
                        "{name}@{}",
                        patch["metadata"]["ownerReferences"]
                            .as_array()
                            .map_or(0, Vec::len)
                    ));
                }
            }
            _ => {}
        }
    }
    words
}

/// The status that a plan writes.
fn status(plan: &Plan) -> Value {
    let written = plan.actions.iter().find_map(|action| match action {
        Action::Patch {
            target,
            patch: Patch::Merge(patch),
        } if target.subresource == "status" => Some(patch["status"].clone()),
        _ => None,
    });
    written.unwrap_or_default()
}

fn condition(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .cloned()
        .unwrap_or_default();
    format!(
        "{} {}",
        found["status"].as_str().unwrap_or("-"),
        found["reason"].as_str().unwrap_or("-")
    )
}

#[test]
fn the_first_rollout_makes_a_full_set_of_revision_1() {
    let plan = plan(deployment("a", 3, json!({})), vec![]);
    assert_eq!(changes(&plan), ["+3", "deployment#1"]);
    let Action::Create { object, .. } = &plan.actions[0] else {
        panic!("{plan:?}")
    };
    let hash = object["metadata"]["labels"][template::HASH_LABEL]
        .as_str()
        .expect("a hash");
    assert_eq!(object["metadata"]["name"], format!("web-{hash}"));
    assert_eq!(
        object["spec"]["selector"]["matchLabels"][template::HASH_LABEL],
        hash
    );
    assert_eq!(
        object["spec"]["template"]["metadata"]["labels"][template::HASH_LABEL],
        hash
    );
    assert_eq!(object["metadata"]["annotations"][REVISION], "1");
    let status = status(&plan);
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(
        condition(&status, "Progressing"),
        "True NewReplicaSetCreated"
    );
    assert_eq!(
        condition(&status, "Available"),
        "False MinimumReplicasUnavailable"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_rolling_update_stays_within_surge_and_unavailable() {
    let one = json!(1);
    for (what, strategy, old, new, expected) in [
        (
            "the new set starts with the surge",
            rolling(one.clone(), one.clone()),
            (4, 4),
            None,
            vec!["+1", "deployment#2", "old=3"],
        ),
        (
            "no surge: an old pod goes first",
            rolling(json!(0), one.clone()),
            (4, 4),
            Some((0, 0)),
            vec!["deployment#2", "old=3"],
        ),
        (
            "the room is used",
            rolling(json!(0), one.clone()),
            (3, 3),
            Some((0, 0)),
            vec!["deployment#2", "new=1"],
        ),
        (
            "never less than all: wait for the new pod",
            rolling(one.clone(), json!(0)),
            (4, 4),
            Some((1, 0)),
            vec!["deployment#2"],
        ),
        (
            "never less than all: it came",
            rolling(one.clone(), json!(0)),
            (4, 4),
            Some((1, 1)),
            vec!["deployment#2", "old=3"],
        ),
        (
            "an unhealthy old pod may go, it serves nobody",
            rolling(one.clone(), json!(0)),
            (4, 2),
            Some((1, 1)),
            vec!["deployment#2", "old=3"],
        ),
        (
            "unhealthy old pods may go",
            rolling(one.clone(), json!(2)),
            (4, 2),
            Some((1, 1)),
            vec!["deployment#2", "old=2", "old=1"],
        ),
        (
            "percentages: surge up, unavailable down",
            rolling(json!("25%"), json!("25%")),
            (4, 4),
            None,
            vec!["+1", "deployment#2", "old=3"],
        ),
        (
            "the end",
            rolling(one.clone(), json!(0)),
            (1, 1),
            Some((4, 4)),
            vec!["deployment#2", "old=0"],
        ),
    ] {
        let mut sets = vec![set("old", 1, old.0, old.1, (4, 5))];
        sets.extend(new.map(|(size, available)| set("new", 2, size, available, (4, 5))));
        let mut found = changes(&plan(deployment("new", 4, strategy), sets));
        // Where the unavailable limit differs from the one that the sets note, the note is renewed at the same size.
        found.retain(|word| !word.starts_with("new=") || expected.contains(&word.as_str()));
        found.dedup();
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn an_undo_moves_the_old_set_to_the_top() {
    let sets = vec![set("a", 1, 0, 0, (2, 3)), set("b", 2, 2, 2, (2, 3))];
    let plan = plan(deployment("a", 2, rolling(json!(1), json!(0))), sets);
    assert_eq!(changes(&plan), ["a#3", "deployment#3", "a=1"]);
    let history = plan.actions.iter().find_map(|action| match action {
        Action::Patch {
            patch: Patch::Merge(patch),
            ..
        } => patch["metadata"]["annotations"][sets::HISTORY]
            .as_str()
            .map(str::to_owned),
        _ => None,
    });
    assert_eq!(history.as_deref(), Some("1"));
}

#[test]
fn a_paused_deployment_is_only_resized() {
    let paused = |replicas| deployment("b", replicas, json!({"paused": true}));
    let same = plan(paused(2), vec![set("a", 1, 2, 2, (2, 3))]);
    assert_eq!(changes(&same), [""; 0], "a changed template waits");
    assert_eq!(
        condition(&status(&same), "Progressing"),
        "Unknown DeploymentPaused"
    );
    assert_eq!(
        changes(&plan(paused(5), vec![set("a", 1, 2, 2, (2, 3))])),
        ["a=5"]
    );
}

#[test]
fn sets_are_scaled_in_proportion() {
    // Upstream's documented example: 10 replicas with surge 3 in the middle of a rollout become 15.
    let scaled = |replicas, strategy: Value, old: i32, new: i32, noted| {
        let sets = vec![set("old", 1, old, old, noted), set("new", 2, new, 0, noted)];
        let mut found = changes(&plan(deployment("new", replicas, strategy), sets));
        found.retain(|word| word.contains('='));
        found.sort();
        found
    };
    assert_eq!(
        scaled(15, rolling(json!(3), json!(2)), 8, 5, (10, 13)),
        ["new=7", "old=11"]
    );
    assert_eq!(
        scaled(5, rolling(json!(3), json!(2)), 8, 5, (10, 13)),
        ["new=3", "old=5"]
    );
    assert_eq!(
        scaled(0, rolling(json!(3), json!(2)), 8, 5, (10, 13)),
        ["new=0", "old=0"]
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let recreate = || deployment("b", 2, json!({"strategy": {"type": "Recreate"}}));
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "deletionTimestamp": NOW, "ownerReferences":
            [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "a", "controller": true}]},
        "spec": {"containers": []}, "status": {"phase": "Running"},
    }))
    .expect("pod");
    assert_eq!(
        changes(&plan(recreate(), vec![set("a", 1, 2, 2, (2, 2))])),
        ["a=0"]
    );
    assert_eq!(
        changes(&plan_with(
            recreate(),
            vec![set("a", 1, 0, 0, (2, 2))],
            vec![pod]
        )),
        [""; 0]
    );
    assert_eq!(
        changes(&plan(recreate(), vec![set("a", 1, 0, 0, (2, 2))])),
        ["+2", "deployment#2"]
    );
}

#[test]
fn history_is_pruned_when_a_rollout_is_complete() {
    let old = |revision: i64| set(&format!("old{revision}"), revision, 0, 0, (2, 3));
    let sets = |new_available| {
        vec![
            old(1),
            old(2),
            old(3),
            set("new", 4, 2, new_available, (2, 3)),
        ]
    };
    let wanted = || deployment("new", 2, json!({"revisionHistoryLimit": 1}));
    assert_eq!(
        changes(&plan(wanted(), sets(2))),
        ["deployment#4", "-old1", "-old2"]
    );
    assert_eq!(changes(&plan(wanted(), sets(1))), ["deployment#4"]);
}

#[test]
fn matching_orphans_are_adopted_and_others_released() {
    let mut orphan = set("orphan", 1, 0, 0, (2, 3));
    orphan.metadata.owner_references = None;
    let mut stray = set("stray", 1, 0, 0, (2, 3));
    stray.metadata.labels = None;
    let found = changes(&plan(
        deployment("orphan", 2, json!({})),
        vec![orphan, stray],
    ));
    assert_eq!(found[..2], ["orphan@1", "stray@0"]);
    assert!(
        !found.iter().any(|word| word.starts_with('+')),
        "the orphan has the template: {found:?}"
    );
}

/// A rollout with one new pod of two ready, with this Progressing condition before.
fn progress(reason: &str, status_word: &str, updated: &str, counted: i32) -> Plan {
    let mut deployment = deployment("new", 2, rolling(json!(1), json!(0)));
    let old_status = json!({
        "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2 + counted, "availableReplicas": 2 + counted,
        "conditions": [{"type": "Progressing", "status": status_word, "reason": reason, "message": "m",
                        "lastUpdateTime": updated, "lastTransitionTime": updated}],
    });
    deployment.status = Some(serde_json::from_value(old_status).expect("status"));
    plan(
        deployment,
        vec![set("old", 1, 2, 2, (2, 3)), set("new", 2, 1, 0, (2, 3))],
    )
}

#[test]
fn a_rollout_that_stands_still_exceeds_its_deadline() {
    for (reason, status_word, updated, counted, expected) in [
        (
            "ReplicaSetUpdated",
            "True",
            "2026-01-01T00:55:00Z",
            0,
            "True ReplicaSetUpdated",
        ),
        (
            "ReplicaSetUpdated",
            "True",
            "2026-01-01T00:49:59Z",
            0,
            "False ProgressDeadlineExceeded",
        ),
        (
            "ProgressDeadlineExceeded",
            "False",
            "2026-01-01T00:49:59Z",
            0,
            "False ProgressDeadlineExceeded",
        ),
        // One more is available than the last status says: it moves again.
        (
            "ProgressDeadlineExceeded",
            "False",
            "2026-01-01T00:49:59Z",
            -1,
            "True ReplicaSetUpdated",
        ),
    ] {
        let plan = progress(reason, status_word, updated, counted);
        assert_eq!(
            condition(&status(&plan), "Progressing"),
            expected,
            "{reason} {updated}"
        );
    }
    let waiting = progress("ReplicaSetUpdated", "True", "2026-01-01T00:55:00Z", 0);
    assert_eq!(
        waiting.requeue_after.map(|after| after.as_secs()),
        Some(301)
    );
}

#[test]
fn a_complete_rollout_says_so_and_stays_complete_when_a_pod_is_lost() {
    let complete = plan(
        deployment("new", 2, json!({})),
        vec![set("new", 1, 2, 2, (2, 3))],
    );
    let told = status(&complete);
    assert_eq!(
        condition(&told, "Progressing"),
        "True NewReplicaSetAvailable"
    );
    assert_eq!(
        condition(&told, "Available"),
        "True MinimumReplicasAvailable"
    );
    assert_eq!(
        (&told["updatedReplicas"], &told["availableReplicas"]),
        (&json!(2), &json!(2))
    );

    let mut later = deployment("new", 2, json!({}));
    let mut told = told;
    let foreign = json!({"type": "Foreign", "status": "True", "reason": "Theirs"});
    told["conditions"]
        .as_array_mut()
        .expect("conditions")
        .push(foreign);
    later.status = Some(serde_json::from_value(told).expect("status"));
    let lost = plan(later, vec![set("new", 1, 2, 1, (2, 3))]);
    assert_eq!(
        condition(&status(&lost), "Progressing"),
        "True NewReplicaSetAvailable"
    );
    assert_eq!(condition(&status(&lost), "Foreign"), "True Theirs");
    assert_eq!(status(&lost)["unavailableReplicas"], 1);
}

#[test]
fn a_deployment_whose_set_cannot_be_created_said_nothing() {
    use corten_client::Error;
    use corten_client::error::{Cause, Failure};

    let mut web = deployment("new", 2, rolling(json!(1), json!(0)));
    web.status = Some(serde_json::from_value(json!({"conditions": []})).expect("status"));
    let controller = Deployments {
        deployments: Cache::fixed([web], CacheOptions::all()),
        replica_sets: Cache::fixed(
            vec![set("old", 1, 2, 1, (2, 3))],
            CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid),
        ),
        pods: Cache::fixed(
            vec![],
            CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid),
        ),
    };
    let view = controller.view(&ObjectName::new("d", "web"));
    let now: Timestamp = NOW.parse().expect("time");
    let mut planned = controller.plan(&view, now).actions.into_iter();
    let tried = planned
        .find(|action| matches!(action, Action::Create { .. }))
        .expect("a new set is planned");
    let refused = |cause: &str| {
        let failure = Failure {
            message: "exceeded quota".to_owned(),
            causes: vec![Cause {
                reason: cause.to_owned(),
                ..Cause::default()
            }],
            ..Failure::default()
        };
        let failed = Failed {
            action: tried.to_string(),
            tried: tried.clone(),
            error: Error::Forbidden(Box::new(failure)),
        };
        controller.after_failure(&view, &[failed], now)
    };
    let plan = refused("");
    let told = &status(&plan);
    assert_eq!(told["replicas"], 2);
    let progressing = told["conditions"]
        .as_array()
        .and_then(|list| list.iter().find(|c| c["type"] == "Progressing"))
        .expect("a condition");
    assert_eq!(
        (&progressing["status"], &progressing["reason"]),
        (&json!("False"), &json!("ReplicaSetCreateError"))
    );
    let message = progressing["message"].as_str().unwrap_or_default();
    assert!(message.contains("exceeded quota"), "{message}");
    assert!(
        matches!(&plan.actions[0], Action::Event { reason, .. } if reason == "ReplicaSetCreateError")
    );
    assert_eq!(refused("NamespaceTerminating"), Plan::nothing());
}
