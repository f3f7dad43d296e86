//! Who is evicted, and when.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, tolerations: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d", "uid": name},
        "spec": {"nodeName": "n1", "containers": [], "tolerations": tolerations},
    }))
    .expect("pod")
}

fn tainted() -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}}))
        .expect("node")
}

fn plan(tolerations: Value, pod_age: u64, taint_age: u64) -> Plan {
    let controller = controller(vec![]);
    let taint = tainted()
        .spec
        .and_then(|spec| spec.taints)
        .unwrap_or_default()
        .remove(0);
    let view = View {
        taints: vec![(taint, Duration::from_secs(taint_age))],
        pods: vec![(
            Arc::new(pod("p", tolerations)),
            Duration::from_secs(pod_age),
        )],
    };
    controller.plan(&view, Timestamp::UNIX_EPOCH)
}

fn controller(pods: Vec<Pod>) -> TaintEviction {
    TaintEviction {
        nodes: Cache::fixed([tainted()], CacheOptions::all()),
        pods: Cache::fixed(pods, CacheOptions::all().index(BY_NODE, node_of)),
        seen: Seen::default(),
    }
}

#[test]
fn patience_is_the_shortest_that_fits() {
    let equal = |seconds: Value| json!({"key": "k", "value": "v", "effect": "NoExecute", "tolerationSeconds": seconds});
    let all = json!({"operator": "Exists"});
    for (tolerations, pod_age, taint_age, expected) in [
        (json!([]), 1, 1, Some(0)),
        (
            json!([{"key": "other", "operator": "Exists"}]),
            1,
            1,
            Some(0),
        ),
        (json!([{"key": "k", "value": "w"}]), 1, 1, Some(0)),
        (
            json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]),
            1,
            1,
            Some(0),
        ),
        (json!([all]), 9, 9, None),
        (json!([equal(Value::Null)]), 9, 9, None),
        (json!([equal(json!(10))]), 4, 60, Some(6)),
        (json!([equal(json!(10))]), 60, 3, Some(7)),
        (json!([equal(json!(10))]), 60, 60, Some(0)),
        (json!([equal(json!(10)), all]), 4, 60, Some(6)),
        (json!([equal(json!(-1))]), 0, 0, Some(0)),
    ] {
        let plan = plan(tolerations.clone(), pod_age, taint_age);
        let deleted = plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Delete { .. }));
        let found = if deleted {
            Some(0)
        } else {
            plan.requeue_after.map(|after| after.as_secs())
        };
        assert_eq!(found, expected, "{tolerations}");
    }
}

#[test]
fn an_evicted_pod_says_why() {
    let plan = plan(json!([]), 1, 1);
    let words: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "event TaintManagerEviction",
            "update pods d/p (status)",
            "delete pods d/p"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_later_has_its_full_time() {
    let tolerant = pod(
        "p",
        json!([{"operator": "Exists", "tolerationSeconds": 30}]),
    );
    let controller = controller(vec![tolerant.clone()]);
    controller.of_node(&Change::Added(Arc::new(tainted())));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(
        controller.of_pod(&Change::Added(Arc::new(tolerant))),
        [ObjectName::new("", "n1")]
    );
    tokio::time::advance(Duration::from_secs(20)).await;
    let plan = controller.plan(
        &controller.view(&ObjectName::new("", "n1")),
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(
        (plan.actions.len(), plan.requeue_after),
        (0, Some(Duration::from_secs(10)))
    );
}
