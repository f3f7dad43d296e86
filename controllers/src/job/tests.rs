//! Plans of a Job. `ends` has how Jobs end, `indexed` what indexes add, `life` whole lives with a server that is made of
//! maps; here are the parts, the number of pods, and who owns them.

mod ends;
mod indexed;
mod life;

use corten_client::cache::CacheOptions;
use corten_client::client::Patch;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("time")
}

fn merge(object: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
}

/// A Job `j` with more in its spec and status.
fn job(spec: Value, status: Value) -> Job {
    let template = json!({"metadata": {"labels": {"job": "j"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let mut object = json!({
        "metadata": {"name": "j", "namespace": "d", "uid": "u", "resourceVersion": "1"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                 "podReplacementPolicy": "TerminatingOrFailed",
                 "selector": {"matchLabels": {"job": "j"}}, "template": template},
        "status": {"startTime": "2026-01-01T00:00:00Z", "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}},
    });
    merge(&mut object["spec"], &spec);
    merge(&mut object["status"], &status);
    serde_json::from_value(object).expect("job")
}

/// A pod of the Job, named `name`, in this phase, with more in its metadata.
fn pod(name: &str, phase: &str, metadata: Value) -> Pod {
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true});
    let mut object = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"job": "j"}, "ownerReferences": [owner],
                     "finalizers": [FINALIZER], "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [], "nodeName": "n1"},
        "status": {"phase": phase},
    });
    merge(&mut object["metadata"], &metadata);
    serde_json::from_value(object).expect("pod")
}

fn going() -> Value {
    json!({"deletionTimestamp": "2026-01-01T00:59:00Z"})
}

fn controller(jobs: Vec<Job>, pods: Vec<Pod>) -> Jobs {
    let by_controller = CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid);
    Jobs {
        jobs: Cache::fixed(jobs, CacheOptions::all()),
        pods: Cache::fixed(pods, by_controller),
        failures: Failures::default(),
    }
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("d", name)
}

fn plan(job: Job, pods: Vec<Pod>) -> Plan {
    let controller = controller(vec![job], pods);
    controller.plan(&controller.view(&Key::Job(name("j"))), now())
}

/// The plan as words, without the events that follow pods.
fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Create { .. } => Some("create".to_owned()),
        Action::Update { .. } => Some("status".to_owned()),
        Action::Patch {
            target,
            patch: Patch::Strategic(patch),
        } => {
            let untracks = patch["metadata"]
                .get("$deleteFromPrimitiveList/finalizers")
                .is_some();
            let word = match (untracks, &patch["metadata"]["ownerReferences"][0]) {
                (true, Value::Null) => "untrack",
                (_, owner) if owner["$patch"] == "delete" => "release",
                _ => "adopt",
            };
            Some(format!("{word} {}", target.name))
        }
        Action::Delete { target, .. } => Some(format!("delete {}", target.name)),
        Action::Event { reason, .. }
            if matches!(reason.as_str(), "SuccessfulCreate" | "SuccessfulDelete") =>
        {
            None
        }
        other => Some(other.to_string()),
    };
    plan.actions.iter().filter_map(word).collect()
}

/// The status that the plan writes.
fn status(plan: &Plan) -> Value {
    let written = plan.actions.iter().find_map(|action| match action {
        Action::Update { object, .. } => Some(object["status"].clone()),
        _ => None,
    });
    written.expect("a status is written")
}

/// Type, status and reason of the conditions that the plan writes.
fn conditions(plan: &Plan) -> Vec<String> {
    let status = status(plan);
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .iter()
        .map(|c| {
            format!(
                "{}={} {}",
                text(&c["type"]),
                text(&c["status"]),
                text(&c["reason"])
            )
        })
        .collect()
}

fn created(plan: &Plan) -> Vec<&Value> {
    let pods = plan.actions.iter().filter_map(|action| match action {
        Action::Create { object, .. } => Some(object),
        _ => None,
    });
    pods.collect()
}

#[test]
fn a_new_job_starts_and_makes_its_pods() {
    let mut new = job(json!({"parallelism": 2, "completions": 3}), json!({}));
    new.status = None;
    let plan = plan(new, vec![]);
    assert_eq!(words(&plan), ["status", "create", "create"]);
    let expected =
        json!({"startTime": NOW, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}});
    assert_eq!(status(&plan), expected);
    for pod in created(&plan) {
        assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "u");
        let name = pod["metadata"]["name"].as_str().expect("name");
        assert_eq!((name.len(), &name[..2]), (7, "j-"));
    }
}

#[test]
fn so_many_pods_run_as_are_wanted() {
    let run = |name: &str| pod(name, "Running", json!({}));
    let done = |name: &str| pod(name, "Succeeded", json!({}));
    let cases: [(Value, Vec<Pod>, &[&str]); 9] = [
        (
            json!({"parallelism": 3, "completions": 5}),
            vec![run("a")],
            &["create", "create"],
        ),
        (
            json!({"parallelism": 3, "completions": 2}),
            vec![run("a"), done("b")],
            &["untrack b"],
        ),
        (
            json!({"parallelism": 3, "completions": null}),
            vec![run("a")],
            &["create", "create"],
        ),
        // A work queue: the first success ends the making of pods, and those that run go on.
        (
            json!({"parallelism": 3, "completions": null}),
            vec![run("a"), done("b")],
            &["untrack b"],
        ),
        (
            json!({"parallelism": 1, "completions": 5}),
            vec![run("a"), run("b")],
            &["untrack b", "delete b"],
        ),
        (
            json!({"parallelism": 0, "completions": 5}),
            vec![run("a")],
            &["untrack a", "delete a"],
        ),
        (
            json!({"suspend": true}),
            vec![run("a")],
            &["untrack a", "delete a"],
        ),
        // A pod on its way out is made up for at once, or when it has ended.
        (
            json!({}),
            vec![pod("a", "Running", going())],
            &["untrack a", "create"],
        ),
        (
            json!({"podReplacementPolicy": "Failed"}),
            vec![pod("a", "Running", going())],
            &[],
        ),
    ];
    for (spec, mut pods, expected) in cases {
        // The one that is not on a node goes first.
        if let Some(b) = pods.get_mut(1).filter(|pod| pods::is_active(pod)) {
            b.spec.as_mut().expect("spec").node_name = None;
        }
        let plan = plan(job(spec.clone(), json!({})), pods);
        let mut found = words(&plan);
        found.retain(|word| word != "status" && !word.starts_with("event"));
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn failed_pods_are_made_up_for_after_a_while() {
    let failed = |name: &str, second: u8| {
        let mut pod = pod(name, "Failed", json!({}));
        let ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": format!("2026-01-01T00:59:{second:02}Z")});
        let status = pod.status.as_mut().expect("status");
        status.conditions = Some(vec![serde_json::from_value(ready).expect("condition")]);
        pod
    };
    let cases = [
        (vec![failed("a", 55)], Some(5), 0),
        (vec![failed("a", 49)], None, 1),
        (vec![failed("a", 30), failed("b", 45)], Some(5), 0),
        (vec![failed("a", 30), failed("b", 39)], None, 1),
    ];
    for (pods, wait, creates) in cases {
        let plan = plan(job(json!({}), json!({})), pods);
        assert_eq!(plan.requeue_after.map(|wait| wait.as_secs()), wait);
        assert_eq!(created(&plan).len(), creates);
    }
}

#[test]
fn ended_pods_are_named_and_then_counted() {
    let spec = || json!({"parallelism": 4, "completions": 9, "backoffLimit": 9});
    let pods = || {
        vec![
            pod("a", "Succeeded", json!({})),
            pod("b", "Failed", json!({})),
            pod("c", "Running", json!({})),
        ]
    };
    // First they are named.
    let first = plan(job(spec(), json!({"succeeded": 1})), pods());
    assert_eq!(&words(&first)[..3], ["status", "untrack a", "untrack b"]);
    let wanted = json!({"succeeded": ["a"], "failed": ["b"]});
    assert_eq!(status(&first)["uncountedTerminatedPods"], wanted);
    assert_eq!(status(&first)["succeeded"], 1);
    assert_eq!(
        (&status(&first)["active"], &status(&first)["failed"]),
        (&json!(1), &Value::Null)
    );
    // What is named is not named again, whatever became of the finalizers.
    let named = json!({"succeeded": 1, "active": 1, "uncountedTerminatedPods": wanted});
    let again = plan(job(spec(), named.clone()), pods());
    assert_eq!(&words(&again)[..2], ["untrack a", "untrack b"]);
    // What is named and has no finalizer is counted; a pod that is gone has none.
    let free = pod("b", "Failed", json!({"finalizers": []}));
    let counted = plan(
        job(spec(), named),
        vec![free, pod("c", "Running", json!({}))],
    );
    let status = status(&counted);
    assert_eq!(
        (&status["succeeded"], &status["failed"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
}

#[test]
fn no_more_pods_are_named_than_a_status_can_hold() {
    let pods = (0..600).map(|n| pod(&format!("p{n:03}"), "Succeeded", json!({})));
    let plan = plan(job(json!({"completions": 1000}), json!({})), pods.collect());
    let named = status(&plan)["uncountedTerminatedPods"]["succeeded"].clone();
    assert_eq!(named.as_array().map(Vec::len), Some(500));
    let untracked = words(&plan)
        .iter()
        .filter(|word| word.starts_with("untrack"))
        .count();
    assert_eq!(untracked, 500);
}

#[test]
fn pods_are_adopted_with_their_finalizer_and_released_without() {
    let free = json!({"ownerReferences": [], "finalizers": []});
    let stray = pod("stray", "Running", json!({"labels": {"job": "x"}}));
    let pods = || vec![pod("free", "Running", free.clone()), stray.clone()];
    let settled = json!({"active": 1});
    let first = plan(job(json!({}), settled.clone()), pods());
    assert_eq!(
        words(&first),
        ["release stray", "expect jobs.batch d/j", "adopt free"]
    );
    let Action::Patch {
        patch: Patch::Strategic(patch),
        ..
    } = &first.actions[2]
    else {
        panic!("{first:?}");
    };
    assert_eq!(patch["metadata"]["finalizers"], json!([FINALIZER]));
    let mut gone = job(json!({}), settled);
    gone.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).expect("time"));
    let plan = plan(gone, pods());
    assert_eq!(words(&plan), ["status"], "its pods are no longer changed");
}

#[test]
fn a_job_that_goes_lets_its_pods_go() {
    let mut gone = job(json!({}), json!({"active": 1}));
    gone.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).expect("time"));
    let plan = plan(gone, vec![pod("a", "Running", json!({}))]);
    assert_eq!(words(&plan), ["untrack a"]);
}

#[test]
fn jobs_that_are_over_or_of_others_are_left_alone() {
    let complete = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    let failed = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    let cases = [
        (json!({}), complete),
        (json!({}), failed),
        (json!({"managedBy": "example.com/x"}), json!({})),
    ];
    for (spec, status) in cases {
        assert_eq!(plan(job(spec, status), vec![]), Plan::nothing());
    }
    let ours = json!({"managedBy": NAME});
    assert_eq!(words(&plan(job(ours, json!({})), vec![])), ["create"]);
    let odd = plan(job(json!({"completionMode": "X"}), json!({})), vec![]);
    assert_eq!(words(&odd), ["event UnknownCompletionMode"]);
}

#[test]
fn finalizers_come_off_pods_that_nobody_counts() {
    let over = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    let mut other = job(json!({}), json!({}));
    other.metadata.uid = Some("u2".to_owned());
    let mut unlike = job(json!({}), json!({}));
    unlike.spec.as_mut().expect("spec").selector =
        serde_json::from_value(json!({"matchLabels": {"job": "z"}})).expect("selector");
    let external = job(json!({"managedBy": "example.com/x"}), over.clone());
    let owned = || pod("p", "Running", json!({}));
    let free = || pod("p", "Running", json!({"ownerReferences": []}));
    let owner = json!({"apiVersion": "x.io/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true});
    let foreign = pod("p", "Running", json!({"ownerReferences": [owner]}));
    let cases: [(Vec<Job>, Pod, &[&str]); 8] = [
        (vec![job(json!({}), json!({}))], owned(), &[]),
        (vec![job(json!({}), over)], owned(), &["untrack p"]),
        (vec![external], owned(), &[]),
        (vec![], owned(), &["expect no jobs.batch d/j", "untrack p"]),
        (
            vec![other],
            owned(),
            &["expect jobs.batch d/j", "untrack p"],
        ),
        (vec![unlike], free(), &["untrack p"]),
        // A Job that would adopt it counts it.
        (vec![job(json!({}), json!({}))], free(), &[]),
        (vec![], foreign, &[]),
    ];
    for (at, (jobs, pod, expected)) in cases.into_iter().enumerate() {
        let controller = controller(jobs, vec![pod]);
        let keys = controller.of_pod(&Change::Added(controller.pods.list().remove(0)));
        let key = Key::Orphan(name("p"));
        assert_eq!(keys.contains(&key), !expected.is_empty(), "case {at}");
        let plan = controller.plan(&controller.view(&key), now());
        assert_eq!(words(&plan), expected, "case {at}");
    }
}

#[test]
fn changes_wake_jobs_and_the_pods_that_they_leave() {
    let over = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    let pods = vec![
        pod("a", "Failed", json!({})),
        pod("b", "Failed", json!({"finalizers": []})),
    ];
    let controller = controller(vec![job(json!({}), over)], pods);
    let job = controller.jobs.list().remove(0);
    let expected = [Key::Job(name("j")), Key::Orphan(name("a"))];
    assert_eq!(
        controller.of_job(&Change::Added(Arc::clone(&job))),
        expected
    );
    assert_eq!(controller.of_job(&Change::Deleted(job)), expected);
    let gone = controller.pods.list().remove(0);
    assert_eq!(
        controller.of_pod(&Change::Deleted(gone)),
        [Key::Job(name("j"))]
    );
}
