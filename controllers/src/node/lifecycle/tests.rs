//! Plans of the node life cycle, and how heartbeats are counted.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::*;
use crate::node::node_of;

const NOW: &str = "2026-01-01T00:00:00Z";

fn node(name: &str, ready: &str, spec: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "resourceVersion": "5"}, "spec": spec,
        "status": {"conditions": [
            {"type": "Ready", "status": ready, "lastHeartbeatTime": NOW},
            {"type": "MemoryPressure", "status": if ready == "Unknown" { "Unknown" } else { "False" }},
            {"type": "DiskPressure", "status": if ready == "Unknown" { "Unknown" } else { "False" }},
            {"type": "PIDPressure", "status": if ready == "Unknown" { "Unknown" } else { "False" }},
        ]},
    }))
    .expect("node")
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "p"}, "spec": {"nodeName": "n1", "containers": []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .expect("pod")
}

fn controller(nodes: Vec<Node>) -> NodeLifecycle {
    NodeLifecycle {
        nodes: Cache::fixed(nodes, CacheOptions::all()),
        leases: Cache::fixed([], CacheOptions::all()),
        pods: Cache::fixed([pod()], CacheOptions::all().index(BY_NODE, node_of)),
        heartbeats: Heartbeats::default(),
        grace: Duration::from_secs(40),
    }
}

fn plan(node: Node, silent: u64, all_silent: bool) -> Plan {
    let controller = controller(vec![node]);
    let mut view = controller.view(&ObjectName::new("", "n1"));
    view.silent = Duration::from_secs(silent);
    view.all_silent = all_silent;
    controller.plan(&view, NOW.parse().expect("time"))
}

/// The taints that a plan writes, as `key:effect`.
fn taints(plan: &Plan) -> Vec<String> {
    let patches = plan.actions.iter().filter_map(|action| match action {
        Action::Patch {
            patch: corten_client::client::Patch::Merge(patch),
            ..
        } => Some(patch),
        _ => None,
    });
    let taints = patches.flat_map(|patch| {
        patch["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    });
    let text = |value: &Value| {
        value
            .as_str()
            .unwrap_or_default()
            .trim_start_matches("node.kubernetes.io/")
            .to_owned()
    };
    taints
        .map(|taint| format!("{}:{}", text(&taint["key"]), text(&taint["effect"])))
        .collect()
}

#[test]
fn a_silent_node_becomes_unknown_with_an_event() {
    let plan = plan(node("n1", "True", json!({})), 40, false);
    let words: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["event NodeNotReady", "update nodes n1 (status)"]);
    let Action::Update { object, .. } = &plan.actions[1] else {
        panic!("{plan:?}")
    };
    let ready = &object["status"]["conditions"][0];
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("Unknown"), &json!("NodeStatusUnknown"))
    );
}

#[test]
fn a_node_that_is_heard_of_is_looked_at_when_its_grace_ends() {
    let plan = plan(node("n1", "True", json!({})), 10, false);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.requeue_after, Some(Duration::from_millis(30_050)));
}

#[test]
fn conditions_become_taints() {
    for (ready, spec, all_silent, expected) in [
        (
            "False",
            json!({}),
            false,
            vec!["not-ready:NoSchedule", "not-ready:NoExecute"],
        ),
        (
            "True",
            json!({"unschedulable": true}),
            false,
            vec!["unschedulable:NoSchedule"],
        ),
        (
            "False",
            json!({"taints": [{"key": "mine", "effect": "NoExecute"}, {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}),
            false,
            vec![
                "mine:NoExecute",
                "not-ready:NoSchedule",
                "not-ready:NoExecute",
            ],
        ),
    ] {
        assert_eq!(
            taints(&plan(node("n1", ready, spec), 1, all_silent)),
            expected,
            "{ready}"
        );
    }
}

#[test]
fn an_unreachable_node_is_tainted_and_its_pods_are_not_ready() {
    let plan = plan(node("n1", "Unknown", json!({})), 41, false);
    assert_eq!(
        taints(&plan),
        ["unreachable:NoSchedule", "unreachable:NoExecute"]
    );
    let words: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
    assert_eq!(
        words[1..],
        ["update pods d/p (status)", "event NodeNotReady"]
    );
}

#[test]
fn when_all_nodes_are_silent_nothing_is_evicted() {
    assert_eq!(
        taints(&plan(node("n1", "Unknown", json!({})), 41, true)),
        ["unreachable:NoSchedule"]
    );
}

#[tokio::test(start_paused = true)]
async fn only_a_change_is_a_sign_of_life() {
    let controller = controller(vec![node("n1", "True", json!({}))]);
    let lease = |renewed: &str| -> Change<Lease> {
        let lease = json!({"metadata": {"name": "n1", "namespace": LEASE_NAMESPACE}, "spec": {"renewTime": renewed}});
        Change::Added(Arc::new(serde_json::from_value(lease).expect("lease")))
    };
    let silent = || controller.heartbeats.silent("n1").as_secs();
    assert!(
        controller
            .of_lease(&lease("2026-01-01T00:00:00.000000Z"))
            .is_empty()
    );
    tokio::time::advance(Duration::from_secs(30)).await;
    controller.of_lease(&lease("2026-01-01T00:00:00.000000Z"));
    assert_eq!(silent(), 30);
    // A clock that went back is still a sign of life.
    controller.of_lease(&lease("2025-01-01T00:00:00.000000Z"));
    assert_eq!(silent(), 0);
}
