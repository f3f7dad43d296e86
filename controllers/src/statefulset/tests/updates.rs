//! Which pods are replaced when the template changes, and of what new ones are made.

use serde_json::{Value, json};

use super::super::*;
use super::fixtures::*;

/// Pods of these revisions, all up, or in another state after a colon.
fn of(revisions: &[&str]) -> Vec<Pod> {
    let pods = revisions.iter().enumerate();
    pods.map(|(index, text)| {
        let (revision, state) = text.split_once(':').unwrap_or((text, "up"));
        pod(&format!("web-{index}"), revision, state)
    })
    .collect()
}

fn rolling(partition: i32, max_unavailable: Value) -> Value {
    let rolling = json!({"partition": partition, "maxUnavailable": max_unavailable});
    json!({"type": "RollingUpdate", "rollingUpdate": rolling})
}

#[test]
fn outdated_pods_go_from_the_top() {
    let old = ["r1", "r1", "r1"];
    for (strategy, pods, expected) in [
        (rolling(0, json!(1)), of(&old), vec!["delete pods d/web-2"]),
        (
            rolling(0, json!(1)),
            of(&["r1", "r1", "r2"]),
            vec!["delete pods d/web-1"],
        ),
        // One may be missing, and is.
        (rolling(0, json!(1)), of(&["r1", "r1", "r2:going"]), vec![]),
        (
            rolling(0, json!(1)),
            of(&["r1", "r1", "r2:starting"]),
            vec![],
        ),
        (rolling(2, json!(1)), of(&["r1", "r1", "r2"]), vec![]),
        (rolling(2, json!(1)), of(&old), vec!["delete pods d/web-2"]),
        (rolling(3, json!(1)), of(&old), vec![]),
        (
            rolling(0, json!(2)),
            of(&old),
            vec!["delete pods d/web-2", "delete pods d/web-1"],
        ),
        (
            rolling(0, json!("70%")),
            of(&old),
            vec!["delete pods d/web-2", "delete pods d/web-1"],
        ),
        // A percentage that rounds to nothing still means one.
        (
            rolling(0, json!("10%")),
            of(&old),
            vec!["delete pods d/web-2"],
        ),
        (
            json!({"type": "RollingUpdate", "rollingUpdate": null}),
            of(&old),
            vec!["delete pods d/web-2"],
        ),
        (
            json!({"type": "OnDelete", "rollingUpdate": null}),
            of(&old),
            vec![],
        ),
    ] {
        let set = set(json!({"spec": {"updateStrategy": strategy.clone()}}));
        assert_eq!(words(&plan(set, pods)), expected, "{strategy}");
    }
}

#[test]
fn a_parallel_set_counts_what_is_missing() {
    for (max, pods, expected) in [
        (1, of(&["r1", "r1:starting", "r1"]), vec![]),
        (
            2,
            of(&["r1", "r1:starting", "r1"]),
            vec!["delete pods d/web-2"],
        ),
        (
            3,
            of(&["r1", "r1", "r2:starting"]),
            vec!["delete pods d/web-1", "delete pods d/web-0"],
        ),
        // A failed one is replaced once, not twice.
        (
            3,
            of(&["r2", "r2", "r1:failed"]),
            vec!["delete pods d/web-2"],
        ),
    ] {
        let spec =
            json!({"podManagementPolicy": "Parallel", "updateStrategy": rolling(0, json!(max))});
        let set = set(json!({"spec": spec}));
        assert_eq!(words(&plan(set, pods.clone())), expected, "{max} {pods:?}");
    }
}

#[test]
fn scaling_comes_before_updating() {
    let pods = of(&["r1", "r1", "r1", "r1"]);
    assert_eq!(words(&plan(set(json!({})), pods)), ["delete pods d/web-3"]);
}

#[test]
fn below_the_partition_pods_stay_what_they_were() {
    for (strategy, current_replicas, expected) in [
        (rolling(1, json!(1)), 0, ["r1 v1", "r2 v2", "r2 v2"]),
        (rolling(0, json!(1)), 3, ["r2 v2", "r2 v2", "r2 v2"]),
        (
            json!({"type": "RollingUpdate", "rollingUpdate": null}),
            2,
            ["r1 v1", "r1 v1", "r2 v2"],
        ),
        (
            json!({"type": "OnDelete", "rollingUpdate": null}),
            2,
            ["r2 v2", "r2 v2", "r2 v2"],
        ),
    ] {
        let set = set(json!({
            "spec": {"podManagementPolicy": "Parallel", "updateStrategy": strategy.clone()},
            "status": {"currentReplicas": current_replicas},
        }));
        let plan = plan(set, vec![]);
        let created = plan.actions.iter().filter_map(|action| match action {
            Action::Create { object, .. } => Some(format!(
                "{} {}",
                object["metadata"]["labels"]["controller-revision-hash"]
                    .as_str()
                    .unwrap_or_default(),
                object["spec"]["containers"][0]["image"]
                    .as_str()
                    .unwrap_or_default()
            )),
            _ => None,
        });
        assert_eq!(created.collect::<Vec<_>>(), expected, "{strategy}");
    }
}

#[test]
fn an_undo_uses_the_old_revision_again() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "v1"}]}});
    let undone = set(json!({"spec": {"template": template}, "status": {"currentRevision": "r2"}}));
    let plan = plan(undone, row(&["up", "up", "up"]));
    assert_eq!(
        words(&plan),
        ["patch controllerrevisions.apps d/r1", "delete pods d/web-2"]
    );
    assert_eq!(status(&plan)["updateRevision"], json!("r1"));
}

#[test]
fn the_history_keeps_what_is_used_and_a_few() {
    let revisions = || {
        let old =
            (1..5).map(|number| revision(&format!("o{number}"), number, &format!("o{number}")));
        let mut all: Vec<_> = old.collect();
        all.push(revision("r1", 5, "v1"));
        all.push(revision("r2", 6, "v2"));
        all
    };
    let pods = || vec![pod("web-0", "o2", "starting")];
    for (limit, expected) in [
        (10, vec![]),
        (
            1,
            vec![
                "delete controllerrevisions.apps d/o1",
                "delete controllerrevisions.apps d/o3",
            ],
        ),
        (
            0,
            vec![
                "delete controllerrevisions.apps d/o1",
                "delete controllerrevisions.apps d/o3",
                "delete controllerrevisions.apps d/o4",
            ],
        ),
    ] {
        let set = set(json!({"spec": {"revisionHistoryLimit": limit}}));
        let plan = plan_of(&controller(set, pods(), vec![], revisions()));
        assert_eq!(words(&plan), expected, "{limit}");
    }
}
