//! Which pods there are: order, identity, adoption, status.

use serde_json::{Value, json};

use super::super::*;
use super::fixtures::*;

#[test]
fn a_new_set_gets_its_revision_and_its_first_pod() {
    let mut fresh = set(json!({}));
    fresh.status = None;
    let plan = plan_of(&controller(fresh, vec![], vec![], vec![]));
    let words = words(&plan);
    assert!(
        words[0].starts_with("create controllerrevisions.apps d/web-"),
        "{words:?}"
    );
    assert_eq!(words[1..], ["create pods d/web-0"]);
    assert_eq!(
        events(&plan),
        ["Create Pod web-0 in StatefulSet web successful"]
    );
    let status = status(&plan);
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_eq!(
        (&status["replicas"], &status["observedGeneration"]),
        (&json!(0), &json!(1))
    );
}

#[test]
fn a_pod_has_the_identity_of_its_ordinal() {
    let change = json!({"spec": {"ordinals": {"start": 5}}});
    let plan = plan(set(change), vec![]);
    let Some(Action::Create { object, .. }) = plan.actions.first() else {
        panic!("{plan:?}");
    };
    for (pointer, expected) in [
        ("/metadata/name", "web-5"),
        ("/metadata/generateName", "web-"),
        ("/metadata/labels/app", "web"),
        (
            "/metadata/labels/statefulset.kubernetes.io~1pod-name",
            "web-5",
        ),
        ("/metadata/labels/apps.kubernetes.io~1pod-index", "5"),
        ("/metadata/labels/controller-revision-hash", "r2"),
        ("/metadata/ownerReferences/0/uid", "u"),
        ("/spec/hostname", "web-5"),
        ("/spec/subdomain", "svc"),
        ("/spec/containers/0/image", "v2"),
    ] {
        assert_eq!(object.pointer(pointer), Some(&json!(expected)), "{pointer}");
    }
}

#[test]
fn an_ordered_set_waits_for_each_pod() {
    for (states, min_ready, expected) in [
        (vec![], 0, vec!["create pods d/web-0"]),
        (vec!["up"], 0, vec!["create pods d/web-1"]),
        (vec!["pending"], 0, vec![]),
        (vec!["starting"], 0, vec![]),
        (vec!["going"], 0, vec![]),
        (vec!["fresh"], 0, vec!["create pods d/web-1"]),
        (vec!["fresh"], 10, vec![]),
        (vec!["failed"], 0, vec!["delete pods d/web-0"]),
        (vec!["done", "up", "up"], 0, vec!["delete pods d/web-0"]),
        // A gap is filled before what comes after it is looked at.
        (vec!["", "up", "starting"], 0, vec!["create pods d/web-0"]),
        (vec!["up", "up", "up"], 0, vec![]),
        // Too many: the highest goes, one at a time, when all below serve.
        (
            vec!["up", "up", "up", "up", "up"],
            0,
            vec!["delete pods d/web-4"],
        ),
        (vec!["up", "up", "up", "up", "going"], 0, vec![]),
        (vec!["up", "starting", "up", "up"], 0, vec![]),
        (
            vec!["up", "up", "up", "starting", "up"],
            0,
            vec!["delete pods d/web-4"],
        ),
        (vec!["up", "up", "up", "starting", "starting"], 0, vec![]),
        (
            vec!["up", "up", "up", "up", "starting"],
            0,
            vec!["delete pods d/web-4"],
        ),
    ] {
        let set = set(json!({"spec": {"minReadySeconds": min_ready}}));
        assert_eq!(words(&plan(set, row(&states))), expected, "{states:?}");
    }
}

#[test]
fn a_parallel_set_waits_for_nothing() {
    for (states, expected) in [
        (
            vec![],
            vec![
                "create pods d/web-0",
                "create pods d/web-1",
                "create pods d/web-2",
            ],
        ),
        (
            vec!["starting", "failed"],
            vec!["delete pods d/web-1", "create pods d/web-2"],
        ),
        (
            vec!["up", "starting", "going", "starting", "up", "going"],
            vec!["delete pods d/web-4", "delete pods d/web-3"],
        ),
    ] {
        let set = set(json!({"spec": {"podManagementPolicy": "Parallel"}}));
        assert_eq!(words(&plan(set, row(&states))), expected, "{states:?}");
    }
}

#[test]
fn readiness_that_has_to_age_is_looked_at_again() {
    let plan = plan(
        set(json!({"spec": {"minReadySeconds": 10}})),
        row(&["fresh"]),
    );
    assert_eq!(plan.requeue_after.map(|after| after.as_secs()), Some(5));
    let status = status(&plan);
    assert_eq!(
        (&status["readyReplicas"], &status["availableReplicas"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn the_start_of_ordinals_moves_pods() {
    let moved = set(
        json!({"spec": {"replicas": 2, "ordinals": {"start": 1}, "podManagementPolicy": "Parallel"}}),
    );
    assert_eq!(
        words(&plan(moved, row(&["up", "up"]))),
        ["create pods d/web-2", "delete pods d/web-0"]
    );
}

#[test]
fn pods_are_kept_by_labels_and_name() {
    let mut free = pod("web-0", "r2", "up");
    free.metadata.owner_references = None;
    let mut misnamed = pod("other-1", "r2", "up");
    misnamed.metadata.owner_references = None;
    let foreign = pod("else-0", "r2", "up");
    let mut stray = pod("web-7", "r2", "up");
    stray.metadata.labels = None;
    let pods = vec![free, misnamed, foreign, stray];
    assert_eq!(
        words(&plan(set(json!({})), pods.clone())),
        [
            "patch pods d/else-0",
            "patch pods d/web-7",
            "expect statefulsets.apps d/web",
            "patch pods d/web-0",
            "create pods d/web-1"
        ]
    );
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}});
    assert_eq!(words(&plan(set(going), pods)), [""; 0]);
}

#[test]
fn a_pod_gets_its_label_back() {
    let mut pods = row(&["up", "up", "up"]);
    if let Some(labels) = &mut pods[1].metadata.labels {
        labels.remove("statefulset.kubernetes.io/pod-name");
    }
    let plan = plan(set(json!({})), pods);
    assert_eq!(words(&plan), ["patch pods d/web-1"]);
    assert_eq!(
        events(&plan),
        ["Update Pod web-1 in StatefulSet web successful"]
    );
}

#[test]
fn the_status_counts_pods_and_completes_updates() {
    let numbers = |status: &Value| {
        [
            "replicas",
            "readyReplicas",
            "availableReplicas",
            "currentReplicas",
            "updatedReplicas",
        ]
        .map(|field| status[field].as_i64().unwrap_or(0))
    };
    let old = |index: usize, state| pod(&format!("web-{index}"), "r1", state);
    for (pods, expected, current) in [
        (row(&["up", "starting"]), [2, 1, 1, 0, 2], "r1"),
        (row(&["up", "up", "going"]), [3, 3, 3, 0, 2], "r1"),
        (row(&["up", "up", "up"]), [3, 3, 3, 3, 3], "r2"),
        // One of the current revision is on its way out by this same plan.
        (
            vec![old(0, "up"), old(1, "up"), old(2, "up")],
            [3, 3, 3, 2, 0],
            "r1",
        ),
    ] {
        let plan = plan(set(json!({})), pods.clone());
        let status = status(&plan);
        assert_eq!(numbers(&status), expected, "{pods:?}");
        assert_eq!(
            (&status["currentRevision"], &status["updateRevision"]),
            (&json!(current), &json!("r2"))
        );
    }
}

#[test]
fn a_settled_set_writes_nothing() {
    let pods = || row(&["up", "up", "up"]);
    let first = status(&plan(set(json!({})), pods()));
    let settled = plan(set(json!({"status": first})), pods());
    assert!(settled.actions.is_empty(), "{settled:?}");
}

#[test]
fn a_set_that_is_being_deleted_only_tells_its_status() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}});
    let plan = plan(set(going), row(&["up", "failed"]));
    assert_eq!(words(&plan), [""; 0]);
    assert_eq!(status(&plan)["replicas"], json!(2));
}

#[test]
fn failures_are_told_with_their_pod() {
    use corten_client::Error;
    use corten_client::error::Failure;

    let templates =
        json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}});
    let revisions = vec![revision("r2", 2, "v2")];
    let controller = controller(set(templates), vec![], vec![], revisions);
    let view = controller.view(&ObjectName::new("d", "web"));
    let now = NOW.parse().expect("time");
    let tried = controller.plan(&view, now).actions;
    let told = |action: &Action, taken: bool| {
        let failure = Box::new(Failure {
            message: "no".to_owned(),
            ..Failure::default()
        });
        let failed = Failed {
            action: action.to_string(),
            tried: action.clone(),
            error: if taken {
                Error::AlreadyExists(failure)
            } else {
                Error::Forbidden(failure)
            },
        };
        events(&controller.after_failure(&view, &[failed], now))
    };
    let creates = tried.iter().filter(|a| matches!(a, Action::Create { .. }));
    let creates: Vec<&Action> = creates.collect();
    assert_eq!(
        told(creates[0], false),
        [
            "Create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: forbidden: no",
            "Create Pod web-0 in StatefulSet web failed error: failed to create PVC data-web-0: forbidden: no"
        ]
    );
    assert_eq!(
        told(creates[1], false),
        ["Create Pod web-0 in StatefulSet web failed error: forbidden: no"]
    );
    assert_eq!(told(creates[1], true), [""; 0]);
}

#[test]
fn changes_wake_the_sets_they_are_about() {
    let templates =
        json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}});
    let controller = controller(set(templates), vec![], vec![], vec![]);
    let web = vec![ObjectName::new("d", "web")];
    let claim = |name: &str| {
        let claim = json!({"metadata": {"name": name, "namespace": "d"}});
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).expect("claim");
        controller.of_claim(&Change::Added(Arc::new(claim)))
    };
    assert_eq!(claim("data-web-11"), web);
    assert_eq!(claim("data-web-x"), []);
    assert_eq!(claim("logs-web-0"), []);
    let mut free = pod("web-0", "r1", "up");
    assert_eq!(
        controller.of_pod(&Change::Deleted(Arc::new(free.clone()))),
        web
    );
    free.metadata.owner_references = None;
    assert_eq!(
        controller.of_pod(&Change::Added(Arc::new(free.clone()))),
        web
    );
    free.metadata.name = Some("else-0".to_owned());
    assert_eq!(controller.of_pod(&Change::Added(Arc::new(free))), []);
}
