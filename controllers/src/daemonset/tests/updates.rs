//! Rolling updates, with and without surge.

use serde_json::{Value, json};

use super::super::*;
use super::fixtures::*;

fn rolling(unavailable: Value, surge: Value) -> DaemonSet {
    let rolling = json!({"maxUnavailable": unavailable, "maxSurge": surge});
    set(json!({"spec": {"updateStrategy": {"rollingUpdate": rolling}}}))
}

/// Pods "node hash state"; the name is node and hash.
fn of(texts: &[&str]) -> Vec<Pod> {
    let pod = |text: &&str| {
        let mut words = text.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (node, hash, state) = (next(), next(), next());
        pod(&format!("{node}{hash}"), node, hash, state)
    };
    texts.iter().map(pod).collect()
}

#[test]
fn old_pods_go_as_far_as_nodes_may_be_without() {
    let old = ["a h1 up", "b h1 up", "c h1 up"];
    for (unavailable, pods, expected) in [
        (json!(1), of(&old), vec!["delete pods d/ah1"]),
        (
            json!(2),
            of(&old),
            vec!["delete pods d/ah1", "delete pods d/bh1"],
        ),
        // Rounded up: of three nodes two.
        (
            json!("50%"),
            of(&old),
            vec!["delete pods d/ah1", "delete pods d/bh1"],
        ),
        // Nothing allowed at all would never end.
        (json!(0), of(&old), vec!["delete pods d/ah1"]),
        (json!(1), of(&["a h1 going", "b h1 up", "c h1 up"]), vec![]),
        (
            json!(1),
            of(&["a h2 starting", "b h1 up", "c h1 up"]),
            vec![],
        ),
        (
            json!(1),
            of(&["a h2 up", "b h1 up", "c h1 up"]),
            vec!["delete pods d/bh1"],
        ),
        // What does not serve goes at once, whatever is allowed.
        (
            json!(1),
            of(&["a h1 up", "b h1 starting", "c h1 starting"]),
            vec!["delete pods d/bh1", "delete pods d/ch1"],
        ),
        (json!(1), of(&["a h2 up", "b h2 up", "c h2 up"]), vec![]),
        // First every node has its pod.
        (json!(1), of(&["a h1 up", "b h1 up"]), vec!["create for c"]),
    ] {
        let about = format!("{unavailable} {pods:?}");
        let plan = plan(
            rolling(unavailable, json!(0)),
            nodes(&["a", "b", "c"]),
            pods,
        );
        assert_eq!(words(&plan), expected, "{about}");
    }
}

#[test]
fn surge_puts_new_pods_beside_old_ones() {
    for (surge, pods, expected) in [
        (json!(1), vec!["a h1 up", "b h1 up"], vec!["create for a"]),
        (
            json!("100%"),
            vec!["a h1 up", "b h1 up"],
            vec!["create for a", "create for b"],
        ),
        // One surges already.
        (
            json!(1),
            vec!["a h1 up", "a h2 starting", "b h1 up"],
            vec![],
        ),
        // It serves, and the old one goes.
        (
            json!(1),
            vec!["a h1 up", "a h2 up", "b h1 up"],
            vec!["delete pods d/ah1"],
        ),
        // The old one does not serve: it goes even though the new one does not serve yet.
        (
            json!(1),
            vec!["a h1 starting", "a h2 starting", "b h1 up"],
            vec!["delete pods d/ah1"],
        ),
        // An old one that does not serve is no loss: its node gets a new pod beyond the surge.
        (
            json!(1),
            vec!["a h1 up", "b h1 starting"],
            vec!["create for b", "create for a"],
        ),
        // With surge a successor does not wait for the end.
        (
            json!(1),
            vec!["a h1 going", "b h2 up"],
            vec!["create for a"],
        ),
        (json!(1), vec!["a h2 up", "b h2 up"], vec![]),
    ] {
        let plan = plan(
            rolling(json!(0), surge.clone()),
            nodes(&["a", "b"]),
            of(&pods),
        );
        assert_eq!(words(&plan), expected, "{surge} {pods:?}");
    }
}

#[test]
fn with_surge_a_misplaced_pod_stays_until_the_others_suffice() {
    let mut all = nodes(&["a"]);
    all.push(node(
        "x",
        json!({}),
        json!([{"key": "x", "effect": "NoSchedule"}]),
    ));
    for (pods, expected) in [
        (vec!["a h2 starting", "x h1 up"], vec![]),
        (vec!["a h2 up", "x h1 up"], vec!["delete pods d/xh1"]),
        (
            vec!["a h2 starting", "x h1 starting"],
            vec!["delete pods d/xh1"],
        ),
    ] {
        let plan = plan(rolling(json!(0), json!(1)), all.clone(), of(&pods));
        assert_eq!(words(&plan), expected, "{pods:?}");
    }
}

#[test]
fn on_delete_waits_for_somebody_to_delete() {
    let strategy = json!({"type": "OnDelete", "rollingUpdate": null});
    let set = || set(json!({"spec": {"updateStrategy": strategy.clone()}}));
    let all = nodes(&["a"]);
    assert_eq!(words(&plan(set(), all.clone(), of(&["a h1 up"]))), [""; 0]);
    assert_eq!(words(&plan(set(), all, vec![])), ["create for a"]);
}

#[test]
fn a_pod_of_the_generation_is_up_to_date() {
    let set = set(
        json!({"metadata": {"annotations": {"deprecated.daemonset.template.generation": "3"}}}),
    );
    let mut pods = of(&["a h1 up"]);
    let labels = pods[0].metadata.labels.get_or_insert_default();
    labels.insert("pod-template-generation".to_owned(), "3".to_owned());
    assert_eq!(words(&plan(set, nodes(&["a"]), pods)), [""; 0]);
}
