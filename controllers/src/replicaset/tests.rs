//! Plans of a ReplicaSet: how many, which ones, adoption and release, status.

use corten_client::cache::CacheOptions;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::{Value, json};

use super::*;

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "rs1", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    }))
    .expect("replica set")
}

fn pod(name: &str, owned: bool, labels: Value, ready: bool) -> Pod {
    let owners = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs1", "controller": true}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": labels,
                     "ownerReferences": if owned { owners } else { json!([]) }},
        "spec": {"containers": [], "nodeName": "n1"},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
    .expect("pod")
}

fn plan<K: Replicated>(set: K, pods: Vec<Pod>) -> Plan {
    let controller = ReplicaSets {
        sets: Cache::fixed([set], CacheOptions::all()),
        pods: Cache::fixed(
            pods,
            CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid),
        ),
    };
    let view = controller.view(&ObjectName::new("d", "web"));
    controller.plan(&view, "2026-01-01T01:00:00Z".parse().expect("time"))
}

/// The plan as words, so that tables stay readable.
fn words(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Create { target, object } => {
                format!(
                    "create {} {}",
                    target.resource, object["metadata"]["ownerReferences"][0]["uid"]
                )
            }
            Action::Event { reason, .. } => format!("event {reason}"),
            other => other.to_string(),
        })
        .collect()
}

fn web() -> Value {
    json!({"app": "web"})
}

#[test]
fn missing_pods_are_created_with_their_owner() {
    let plan = plan(set(3), vec![pod("a", true, web(), true)]);
    let expected = [
        "create pods \"rs1\"",
        "create pods \"rs1\"",
        "event SuccessfulCreate",
        "event SuccessfulCreate",
    ];
    assert_eq!(words(&plan)[..4], expected);
    assert_eq!(words(&plan)[4], "update replicasets.apps d/web (status)");
}

#[test]
fn the_unready_pod_goes_first() {
    let plan = plan(
        set(1),
        vec![pod("a", true, web(), true), pod("b", true, web(), false)],
    );
    assert_eq!(words(&plan)[0], "delete pods d/b");
}

#[test]
fn a_matching_orphan_is_adopted_and_a_stray_released() {
    let plan = plan(
        set(1),
        vec![
            pod("orphan", false, web(), true),
            pod("stray", true, json!({"app": "x"}), true),
        ],
    );
    // An adoption on the cache's word alone gave pods to a set that was being deleted.
    assert_eq!(
        words(&plan)[..3],
        [
            "patch pods d/stray",
            "expect replicasets.apps d/web",
            "patch pods d/orphan"
        ]
    );
    assert!(
        !words(&plan).iter().any(|w| w.starts_with("create")),
        "the orphan counts: {plan:?}"
    );
}

#[test]
fn a_set_that_is_being_deleted_neither_creates_nor_adopts() {
    let mut gone = set(3);
    gone.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("time"));
    let plan = plan(gone, vec![pod("orphan", false, web(), true)]);
    assert!(
        words(&plan).iter().all(|w| w.contains("(status)")),
        "{plan:?}"
    );
}

#[test]
fn a_settled_set_writes_nothing() {
    let mut settled = set(1);
    settled.status = Some(
        serde_json::from_value(
            json!({"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1,
            "availableReplicas": 1, "terminatingReplicas": 0, "observedGeneration": 1}),
        )
        .expect("status"),
    );
    assert_eq!(
        plan(settled, vec![pod("a", true, web(), true)]),
        Plan::nothing()
    );
}

#[test]
fn a_replication_controller_does_as_a_set_does() {
    let controller = |status: Value| -> ReplicationController {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "d", "uid": "rs1", "generation": 1},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template},
            "status": status,
        }))
        .expect("controller")
    };
    let found = words(&plan(
        controller(json!({"replicas": 0})),
        vec![pod("free", false, web(), true)],
    ));
    let expected = [
        "expect replicationcontrollers d/web",
        "patch pods d/free",
        "create pods \"rs1\"",
        "event SuccessfulCreate",
        "update replicationcontrollers d/web (status)",
    ];
    assert_eq!(found, expected);
    let settled = json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1});
    let pods = vec![pod("a", true, web(), true), pod("b", true, web(), true)];
    assert_eq!(plan(controller(settled), pods), Plan::nothing());
}
