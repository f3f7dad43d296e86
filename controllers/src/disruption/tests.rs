//! The numbers of budgets.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn owner(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true}])
}

fn pod(name: &str, ready: bool, owners: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}, "ownerReferences": owners},
        "spec": {"containers": []},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
    .expect("pod")
}

fn plan(spec: Value, status: Value, pods: Vec<Pod>) -> Plan {
    let mut budget = json!({"metadata": {"name": "b", "namespace": "d", "uid": "b", "generation": 3}, "spec": spec, "status": status});
    budget["spec"]["selector"] = json!({"matchLabels": {"app": "web"}});
    let set = json!({"metadata": {"name": "rs", "namespace": "d", "uid": "rs", "ownerReferences": owner("Deployment", "web")}});
    let deployment = json!({"metadata": {"name": "web", "namespace": "d", "uid": "web"}, "spec": {"replicas": 4, "selector": {}, "template": {}}});
    let stateful = json!({"metadata": {"name": "db", "namespace": "d", "uid": "db"}, "spec": {"replicas": 3, "selector": {}, "template": {}}});
    let controller = Disruptions {
        budgets: Cache::fixed(
            [serde_json::from_value(budget).expect("budget")],
            CacheOptions::all(),
        ),
        pods: Cache::fixed(
            pods,
            CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid),
        ),
        replica_sets: Cache::fixed(
            [serde_json::from_value(set).expect("set")],
            CacheOptions::all(),
        ),
        deployments: Cache::fixed(
            [serde_json::from_value(deployment).expect("deployment")],
            CacheOptions::all(),
        ),
        stateful_sets: Cache::fixed(
            [serde_json::from_value(stateful).expect("stateful set")],
            CacheOptions::all(),
        ),
    };
    controller.plan(
        &controller.view(&ObjectName::new("d", "b")),
        NOW.parse().expect("time"),
    )
}

fn status(plan: &Plan) -> &Value {
    match plan.actions.last() {
        Some(Action::Update { object, .. }) => &object["status"],
        other => panic!("{other:?}"),
    }
}

/// Expected, desired, healthy, allowed.
fn numbers(status: &Value) -> [i64; 4] {
    [
        "expectedPods",
        "desiredHealthy",
        "currentHealthy",
        "disruptionsAllowed",
    ]
    .map(|field| status[field].as_i64().unwrap_or(-1))
}

fn four(ready: usize) -> Vec<Pod> {
    (0..4)
        .map(|index| {
            pod(
                &format!("p{index}"),
                index < ready,
                owner("ReplicaSet", "rs"),
            )
        })
        .collect()
}

#[test]
fn budgets_add_up() {
    for (spec, pods, expected) in [
        (json!({"minAvailable": 2}), four(4), [4, 2, 4, 2]),
        (json!({"minAvailable": 2}), four(1), [4, 2, 1, 0]),
        (json!({"minAvailable": "30%"}), four(4), [4, 2, 4, 2]),
        (json!({"maxUnavailable": 1}), four(4), [4, 3, 4, 1]),
        (json!({"maxUnavailable": "50%"}), four(3), [4, 2, 3, 1]),
        // The Deployment wants four, whatever there is.
        (
            json!({"maxUnavailable": 1}),
            four(4)[..2].to_vec(),
            [4, 3, 2, 0],
        ),
        (json!({"maxUnavailable": 5}), four(4), [4, 0, 4, 4]),
        (json!({"minAvailable": 1}), vec![], [0, 1, 0, 0]),
    ] {
        assert_eq!(
            numbers(status(&plan(spec.clone(), Value::Null, pods))),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn stateful_sets_have_a_size() {
    let pods = vec![pod("db-0", true, owner("StatefulSet", "db"))];
    let plan = plan(json!({"maxUnavailable": 1}), Value::Null, pods);
    assert_eq!(numbers(status(&plan)), [3, 2, 1, 0]);
}

#[test]
fn the_condition_and_generation_are_told() {
    let plan = plan(json!({"minAvailable": 1}), Value::Null, four(4));
    let status = status(&plan);
    let condition = &status["conditions"][0];
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"]
        ),
        (
            &json!("DisruptionAllowed"),
            &json!("True"),
            &json!("SufficientPods")
        )
    );
    assert_eq!(
        (
            &status["observedGeneration"],
            &condition["observedGeneration"]
        ),
        (&json!(3), &json!(3))
    );
}

#[test]
fn unknown_managers_allow_nothing() {
    let plan = plan(
        json!({"maxUnavailable": 1}),
        Value::Null,
        vec![pod("p", true, owner("Unheard", "x"))],
    );
    let status = status(&plan);
    assert_eq!(
        (
            &status["disruptionsAllowed"],
            &status["conditions"][0]["reason"]
        ),
        (&json!(0), &json!("SyncFailed"))
    );
}

#[test]
fn evictions_under_way_count_until_they_are_old() {
    let old = |at: &str| json!({"disruptedPods": {"p0": at, "gone": at}, "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    let fresh = plan(
        json!({"minAvailable": 1}),
        old("2026-01-01T00:59:00Z"),
        four(4),
    );
    assert_eq!(numbers(status(&fresh)), [4, 1, 3, 2]);
    assert_eq!(
        status(&fresh)["disruptedPods"]
            .as_object()
            .map(serde_json::Map::len),
        Some(1)
    );
    assert_eq!(fresh.requeue_after.map(|after| after.as_secs()), Some(60));
    let late = plan(
        json!({"minAvailable": 1}),
        old("2026-01-01T00:50:00Z"),
        four(4),
    );
    assert_eq!(numbers(status(&late)), [4, 1, 4, 3]);
    assert_eq!(late.actions[0].to_string(), "event NotDeleted");
}

#[test]
fn a_settled_budget_is_not_written() {
    let first = plan(json!({"minAvailable": 1}), Value::Null, four(4));
    assert_eq!(
        plan(json!({"minAvailable": 1}), status(&first).clone(), four(4)),
        Plan::nothing()
    );
}
