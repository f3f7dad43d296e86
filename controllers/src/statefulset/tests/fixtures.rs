//! What the tests are about: a set of three, its revisions `r1` (image v1) and `r2` (image v2), its pods and claims.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::super::*;
use crate::pods::controller_uid;

pub(super) const NOW: &str = "2026-01-01T01:00:00Z";

/// A set of the image v2, changed by a JSON merge.
pub(super) fn set(change: Value) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "generation": 1},
        "spec": {
            "replicas": 3, "serviceName": "svc", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v2"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
        "status": {"replicas": 0, "currentRevision": "r1"},
    });
    merge(&mut set, change);
    serde_json::from_value(set).expect("set")
}

fn merge(into: &mut Value, change: Value) {
    match change {
        Value::Object(fields) if into.is_object() => {
            for (key, value) in fields {
                merge(&mut into[key], value);
            }
        }
        other => *into = other,
    }
}

pub(super) fn revision(name: &str, number: i64, image: &str) -> ControllerRevision {
    let template = json!({"$patch": "replace", "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image, "resources": {}}]}});
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}, "ownerReferences": owner("u")},
        "data": {"spec": {"template": template}}, "revision": number,
    }))
    .expect("revision")
}

pub(super) fn owner(uid: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": uid, "controller": true, "blockOwnerDeletion": true}])
}

/// A pod of the set, in a state: `up`, `fresh` (ready since just now), `pending`, `starting`, `going`, `failed`, `done`.
pub(super) fn pod(name: &str, revision: &str, state: &str) -> Pod {
    let (phase, ready, since) = match state {
        "up" | "going" => ("Running", "True", "2026-01-01T00:00:00Z"),
        "fresh" => ("Running", "True", "2026-01-01T00:59:55Z"),
        "starting" => ("Running", "False", "2026-01-01T00:00:00Z"),
        "pending" => ("Pending", "False", "2026-01-01T00:00:00Z"),
        "failed" => ("Failed", "False", "2026-01-01T00:00:00Z"),
        "done" => ("Succeeded", "False", "2026-01-01T00:00:00Z"),
        other => panic!("no such state: {other}"),
    };
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "ownerReferences": owner("u"),
            "labels": {"app": "web", "statefulset.kubernetes.io/pod-name": name, "controller-revision-hash": revision}},
        "spec": {"containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]},
    });
    if state == "going" {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
    }
    serde_json::from_value(pod).expect("pod")
}

/// Pods web-0, web-1, ... in these states, all of the revision `r2`.
pub(super) fn row(states: &[&str]) -> Vec<Pod> {
    let pods = states.iter().enumerate();
    pods.filter(|(_, state)| !state.is_empty())
        .map(|(index, state)| pod(&format!("web-{index}"), "r2", state))
        .collect()
}

pub(super) fn controller(
    set: StatefulSet,
    pods: Vec<Pod>,
    claims: Vec<PersistentVolumeClaim>,
    revisions: Vec<ControllerRevision>,
) -> StatefulSets {
    StatefulSets {
        sets: Cache::fixed([set], CacheOptions::all()),
        pods: Cache::fixed(
            pods,
            CacheOptions::all().index(BY_CONTROLLER, controller_uid),
        ),
        claims: Cache::fixed(claims, CacheOptions::all()),
        revisions: Cache::fixed(
            revisions,
            CacheOptions::all().index(BY_CONTROLLER, controller_uid),
        ),
    }
}

pub(super) fn plan_of(controller: &StatefulSets) -> Plan {
    let view = controller.view(&ObjectName::new("d", "web"));
    controller.plan(&view, NOW.parse().expect("time"))
}

/// The plan over both revisions, without claims.
pub(super) fn plan(set: StatefulSet, pods: Vec<Pod>) -> Plan {
    let revisions = vec![revision("r1", 1, "v1"), revision("r2", 2, "v2")];
    plan_of(&controller(set, pods, vec![], revisions))
}

/// What the plan does to pods and claims, as words.
pub(super) fn words(plan: &Plan) -> Vec<String> {
    let all = plan.actions.iter().map(ToString::to_string);
    all.filter(|word| !word.contains("(status)") && !word.starts_with("event"))
        .map(|word| word.replace("persistentvolumeclaims", "claims"))
        .collect()
}

pub(super) fn events(plan: &Plan) -> Vec<String> {
    let all = plan.actions.iter().filter_map(|action| match action {
        Action::Event { message, .. } => Some(message.clone()),
        _ => None,
    });
    all.collect()
}

/// The status that the plan writes.
pub(super) fn status(plan: &Plan) -> Value {
    let mut written = plan.actions.iter().filter_map(|action| match action {
        Action::Update { target, object } if target.subresource == "status" => {
            Some(object["status"].clone())
        }
        _ => None,
    });
    written.next().unwrap_or(Value::Null)
}
