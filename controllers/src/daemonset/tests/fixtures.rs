//! What the tests are about: a set of the image v2, its revisions `h1` (image v1) and `h2` (image v2), nodes and pods.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::super::*;
use crate::pods::controller_uid;

pub(super) const NOW: &str = "2026-01-01T01:00:00Z";

/// A set that rolls one by one, changed by a JSON merge.
pub(super) fn set(change: Value) -> DaemonSet {
    let mut set = json!({
        "metadata": {"name": "agent", "namespace": "d", "uid": "u", "generation": 4},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "v2"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        },
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

pub(super) fn owner() -> Value {
    json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "u", "controller": true}])
}

pub(super) fn revision(name: &str, number: i64, image: &str) -> ControllerRevision {
    let template = json!({"$patch": "replace", "metadata": {"labels": {"app": "agent"}},
        "spec": {"containers": [{"name": "c", "image": image}]}});
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "ownerReferences": owner(),
                     "labels": {"app": "agent", "controller-revision-hash": name}},
        "data": {"spec": {"template": template}}, "revision": number,
    }))
    .expect("revision")
}

pub(super) fn node(name: &str, labels: Value, taints: Value) -> Node {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}),
    )
    .expect("node")
}

pub(super) fn nodes(names: &[&str]) -> Vec<Node> {
    let all = names.iter();
    all.map(|name| node(name, json!({}), json!([]))).collect()
}

/// A pod on a node, in a state: `up`, `fresh` (ready since just now), `starting`, `going`, `failed`, `done`, `unbound`.
pub(super) fn pod(name: &str, node: &str, hash: &str, state: &str) -> Pod {
    let (phase, ready, since) = match state {
        "up" | "going" => ("Running", "True", "2026-01-01T00:00:00Z"),
        "fresh" => ("Running", "True", "2026-01-01T00:59:55Z"),
        "starting" => ("Running", "False", "2026-01-01T00:00:00Z"),
        "unbound" => ("Pending", "False", "2026-01-01T00:00:00Z"),
        "failed" => ("Failed", "False", "2026-01-01T00:00:00Z"),
        "done" => ("Succeeded", "False", "2026-01-01T00:00:00Z"),
        other => panic!("no such state: {other}"),
    };
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "ownerReferences": owner(),
                     "labels": {"app": "agent", "controller-revision-hash": hash}},
        "spec": {"containers": [], "nodeName": node},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]},
    });
    match state {
        "going" => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z"),
        "unbound" => {
            let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
            let required = json!({"nodeSelectorTerms": [term]});
            pod["spec"] = json!({"containers": [], "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": required}}});
        }
        _ => {}
    }
    serde_json::from_value(pod).expect("pod")
}

pub(super) fn controller(
    set: DaemonSet,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    revisions: Vec<ControllerRevision>,
) -> DaemonSets {
    DaemonSets {
        sets: Cache::fixed([set], CacheOptions::all()),
        nodes: Cache::fixed(nodes, CacheOptions::all()),
        pods: Cache::fixed(
            pods,
            CacheOptions::all().index(BY_CONTROLLER, controller_uid),
        ),
        revisions: Cache::fixed(
            revisions,
            CacheOptions::all().index(BY_CONTROLLER, controller_uid),
        ),
        failures: FailedPods::default(),
    }
}

pub(super) fn plan_of(controller: &DaemonSets) -> Plan {
    let view = controller.view(&ObjectName::new("d", "agent"));
    controller.plan(&view, NOW.parse().expect("time"))
}

/// The plan over both revisions.
pub(super) fn plan(set: DaemonSet, nodes: Vec<Node>, pods: Vec<Pod>) -> Plan {
    let revisions = vec![revision("h1", 1, "v1"), revision("h2", 2, "v2")];
    plan_of(&controller(set, nodes, pods, revisions))
}

/// The node that a created pod is pinned to.
pub(super) fn pinned(object: &Value) -> &str {
    let at = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
              /nodeSelectorTerms/0/matchFields/0/values/0";
    object
        .pointer(at)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What the plan does, as words; pods are created "for" a node.
pub(super) fn words(plan: &Plan) -> Vec<String> {
    let all = plan.actions.iter().map(|action| match action {
        Action::Create { target, object } if target.resource == "pods" => {
            format!("create for {}", pinned(object))
        }
        other => other.to_string(),
    });
    all.filter(|word| !word.contains("(status)") && !word.starts_with("event"))
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
