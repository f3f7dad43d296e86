//! Tables of what a deletion does to an object.

use corten_api::kinds;
use serde_json::{Value, json};

use super::*;

fn decide(resource: (&str, &str), object: &Value, options: &Value) -> Fate {
    let descriptor = kinds::registry().preferred(resource.0, resource.1).unwrap();
    let options = DeleteOptions::from_json(options).unwrap();
    fate(
        descriptor,
        object,
        &options,
        "2026-01-01T00:00:00Z".parse().unwrap(),
    )
}

fn pod(extra: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30},
        "status": {"phase": "Running"},
    });
    for (key, value) in extra.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    pod
}

#[test]
fn plain_objects_go_at_once_and_finalizers_hold_them() {
    let map = json!({"metadata": {"name": "a"}});
    assert_eq!(decide(("", "configmaps"), &map, &json!({})), Fate::Remove);
    let held = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
    let Fate::Mark(marked) = decide(("", "configmaps"), &held, &json!({})) else {
        panic!()
    };
    assert_eq!(
        marked["metadata"]["deletionTimestamp"],
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(
        decide(("", "configmaps"), &marked, &json!({})),
        Fate::Pending
    );
}

#[test]
fn kinds_older_than_the_collector_leave_their_pods() {
    let controller = json!({"metadata": {"name": "a", "namespace": "b"}});
    let kind = ("", "replicationcontrollers");
    let Fate::Mark(marked) = decide(kind, &controller, &json!({})) else {
        panic!()
    };
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    let background = json!({"propagationPolicy": "Background"});
    assert_eq!(decide(kind, &controller, &background), Fate::Remove);
}

#[test]
fn propagation_becomes_finalizers() {
    let set = json!({"metadata": {"name": "a", "generation": 1}});
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        let options = json!({"propagationPolicy": policy});
        let Fate::Mark(marked) = decide(("apps", "replicasets"), &set, &options) else {
            panic!()
        };
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(marked["metadata"]["generation"], 2);
    }
    let background = json!({"propagationPolicy": "Background"});
    assert_eq!(
        decide(("apps", "replicasets"), &set, &background),
        Fate::Remove
    );
    assert!(DeleteOptions::from_json(&json!({"propagationPolicy": "Sideways"})).is_err());
}

#[test]
fn pods_go_gracefully_and_can_be_hastened() {
    let Fate::Mark(marked) = decide(("", "pods"), &pod(&json!({})), &json!({})) else {
        panic!()
    };
    assert_eq!(
        marked["metadata"]["deletionTimestamp"],
        "2026-01-01T00:00:30Z"
    );
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(decide(("", "pods"), &marked, &json!({})), Fate::Pending);
    assert_eq!(
        decide(("", "pods"), &marked, &json!({"gracePeriodSeconds": 60})),
        Fate::Pending
    );
    assert_eq!(
        decide(("", "pods"), &marked, &json!({"gracePeriodSeconds": 0})),
        Fate::Remove
    );
    let Fate::Mark(sooner) = decide(("", "pods"), &marked, &json!({"gracePeriodSeconds": 5}))
    else {
        panic!()
    };
    assert_eq!(
        sooner["metadata"]["deletionTimestamp"],
        "2026-01-01T00:00:05Z"
    );
}

#[test]
fn namespaces_wait_for_their_content() {
    let namespace = json!({
        "metadata": {"name": "a"},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    });
    let Fate::Mark(marked) = decide(("", "namespaces"), &namespace, &json!({})) else {
        panic!()
    };
    assert_eq!(marked["status"]["phase"], "Terminating");
    let mut empty = marked.clone();
    empty["spec"]["finalizers"] = json!([]);
    let descriptor = kinds::registry().preferred("", "namespaces").unwrap();
    assert!(is_released(descriptor, &empty));
    assert!(!is_released(descriptor, &marked));
}

#[test]
fn a_second_delete_could_not_change_the_propagation() {
    let set = json!({"metadata": {"name": "a", "generation": 1}});
    let foreground = json!({"propagationPolicy": "Foreground"});
    let Fate::Mark(marked) = decide(("apps", "replicasets"), &set, &foreground) else {
        panic!()
    };
    let again = |options: Value| decide(("apps", "replicasets"), &marked, &options);
    assert_eq!(again(json!({})), Fate::Pending);
    assert_eq!(again(foreground), Fate::Pending);
    assert_eq!(
        again(json!({"propagationPolicy": "Background"})),
        Fate::Remove
    );
    let Fate::Mark(orphaned) = again(json!({"propagationPolicy": "Orphan"})) else {
        panic!()
    };
    assert_eq!(orphaned["metadata"]["finalizers"], json!(["orphan"]));
    assert_eq!(
        orphaned["metadata"]["deletionTimestamp"],
        marked["metadata"]["deletionTimestamp"]
    );
    // A pod's grace period runs: its finalizers stay.
    let running = json!({
        "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30, "finalizers": ["orphan"],
    });
    let background = json!({"propagationPolicy": "Background"});
    assert_eq!(
        decide(("", "pods"), &pod(&running), &background),
        Fate::Pending
    );
}
