//! Which nodes have a pod.

use serde_json::{Value, json};

use super::super::*;
use super::fixtures::*;

/// The verdict over a node named n1 with the label disk=ssd and these taints.
fn verdict(pod_spec: Value, taints: Value) -> Verdict {
    let set = set(json!({"spec": {"template": {"spec": pod_spec}}}));
    let node = node("n1", json!({"disk": "ssd", "cores": "8"}), taints);
    Placement::of(&set).judge(&node)
}

#[test]
fn names_selectors_and_affinity_choose_nodes() {
    let term = |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": term}}}});
    let label = |operator: &str, values: Value| {
        let key = if matches!(operator, "Gt" | "Lt") {
            "cores"
        } else {
            "disk"
        };
        term(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
    };
    let field = |operator: &str, values: Value| {
        term(
            json!([{"matchFields": [{"key": "metadata.name", "operator": operator, "values": values}]}]),
        )
    };
    for (spec, runs) in [
        (json!({}), true),
        (json!({"nodeName": "n1"}), true),
        (json!({"nodeName": "n2"}), false),
        (json!({"nodeSelector": {"disk": "ssd"}}), true),
        (json!({"nodeSelector": {"disk": "hdd"}}), false),
        (label("In", json!(["hdd", "ssd"])), true),
        (label("NotIn", json!(["ssd"])), false),
        (label("Exists", json!([])), true),
        (label("DoesNotExist", json!([])), false),
        (label("Gt", json!(["4"])), true),
        (label("Lt", json!(["8"])), false),
        (label("Near", json!([])), false),
        (field("In", json!(["n1"])), true),
        (field("NotIn", json!(["n1"])), false),
        (field("In", json!(["n1", "n2"])), false),
        (term(json!([{}])), false),
        (term(json!([])), false),
        // One term is enough.
        (
            term(json!([{}, {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}])),
            true,
        ),
    ] {
        let expected = if runs { Verdict::Runs } else { Verdict::Goes };
        assert_eq!(verdict(spec.clone(), json!([])), expected, "{spec}");
    }
}

#[test]
fn taints_keep_pods_away() {
    let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
    let own = json!({"tolerations": [{"key": "own", "operator": "Exists"}]});
    let host = json!({"hostNetwork": true});
    let network = "node.kubernetes.io/network-unavailable";
    for (spec, taints, expected) in [
        (json!({}), taint("x", "NoSchedule"), Verdict::Stays),
        (json!({}), taint("x", "NoExecute"), Verdict::Goes),
        (json!({}), taint("x", "PreferNoSchedule"), Verdict::Runs),
        (own.clone(), taint("own", "NoSchedule"), Verdict::Runs),
        (own, taint("x", "NoSchedule"), Verdict::Stays),
        (
            json!({}),
            taint("node.kubernetes.io/unreachable", "NoExecute"),
            Verdict::Runs,
        ),
        (
            json!({}),
            taint("node.kubernetes.io/unschedulable", "NoSchedule"),
            Verdict::Runs,
        ),
        (
            json!({}),
            taint("node.kubernetes.io/not-ready", "NoSchedule"),
            Verdict::Stays,
        ),
        (json!({}), taint(network, "NoSchedule"), Verdict::Stays),
        (host, taint(network, "NoSchedule"), Verdict::Runs),
    ] {
        assert_eq!(
            verdict(spec.clone(), taints.clone()),
            expected,
            "{spec} {taints}"
        );
    }
}

#[test]
fn pods_follow_the_verdict() {
    let tainted = |effect: &str| {
        vec![node(
            "n",
            json!({}),
            json!([{"key": "x", "effect": effect}]),
        )]
    };
    let here = |state: &str| vec![pod("p", "n", "h2", state)];
    for (nodes, pods, expected) in [
        (nodes(&["n"]), vec![], vec!["create for n"]),
        (nodes(&["n"]), here("up"), vec![]),
        (nodes(&["n"]), here("unbound"), vec![]),
        // Its successor comes when it is gone: two daemons on a node would be in each other's way.
        (nodes(&["n"]), here("going"), vec![]),
        (tainted("NoSchedule"), vec![], vec![]),
        (tainted("NoSchedule"), here("up"), vec![]),
        (tainted("NoExecute"), here("up"), vec!["delete pods d/p"]),
        (tainted("NoExecute"), here("going"), vec![]),
        // The node is gone: what was bound is collected elsewhere, what was not never would be.
        (vec![], here("up"), vec![]),
        (vec![], here("unbound"), vec!["delete pods d/p"]),
    ] {
        let about = format!("{nodes:?} {pods:?}");
        assert_eq!(
            words(&plan(set(json!({})), nodes, pods)),
            expected,
            "{about}"
        );
    }
}

#[test]
fn nodes_wake_the_sets_that_they_matter_to() {
    let controller = controller(set(json!({})), vec![], vec![], vec![]);
    let agent = vec![ObjectName::new("d", "agent")];
    let plain = Arc::new(node("n", json!({}), json!([])));
    let labelled = Arc::new(node("n", json!({"a": "b"}), json!([])));
    let tainted = Arc::new(node(
        "n",
        json!({}),
        json!([{"key": "x", "effect": "NoExecute"}]),
    ));
    let changed = |old: &Arc<Node>, new: &Arc<Node>| {
        let (old, new) = (Arc::clone(old), Arc::clone(new));
        controller.of_node(&Change::Updated { old, new })
    };
    assert_eq!(
        controller.of_node(&Change::Added(Arc::clone(&plain))),
        agent
    );
    assert_eq!(
        controller.of_node(&Change::Deleted(Arc::clone(&plain))),
        agent
    );
    assert_eq!(changed(&plain, &plain), []);
    assert_eq!(changed(&plain, &labelled), []);
    assert_eq!(changed(&plain, &tainted), agent);
}
