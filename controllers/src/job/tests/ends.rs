//! How Jobs end, are suspended and go on.

use super::*;

/// What a plan tells: the conditions, then the actions.
fn told(spec: Value, status: Value, pods: Vec<Pod>) -> (Vec<String>, Vec<String>) {
    let plan = plan(job(spec, status), pods);
    (conditions(&plan), words(&plan))
}

fn condition(kind: &str, reason: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason, "message": "m"})
}

#[test]
fn success_is_told_and_sealed_when_all_is_counted() {
    let done = || vec![pod("a", "Succeeded", json!({}))];
    let (conditions, words) = told(json!({}), json!({"active": 1}), done());
    assert_eq!(conditions, ["SuccessCriteriaMet=True CompletionsReached"]);
    assert_eq!(words, ["status", "untrack a"]);
    let met = json!([condition("SuccessCriteriaMet", "CompletionsReached")]);
    let named = json!({"conditions": met, "uncountedTerminatedPods": {"succeeded": ["a"]}});
    // Not before the finalizer is off.
    let plan = plan(job(json!({}), named.clone()), done());
    assert_eq!(super::words(&plan), ["untrack a"]);
    let sealed = super::plan(job(json!({}), named), vec![]);
    assert_eq!(
        super::conditions(&sealed),
        [
            "SuccessCriteriaMet=True CompletionsReached",
            "Complete=True CompletionsReached"
        ]
    );
    assert_eq!(super::words(&sealed), ["status", "event Completed"]);
    assert_eq!(status(&sealed)["completionTime"], NOW);
    assert_eq!(status(&sealed)["succeeded"], 1);
}

#[test]
fn too_many_successes_are_told() {
    let met = json!([condition("SuccessCriteriaMet", "CompletionsReached")]);
    let (_, words) = told(
        json!({}),
        json!({"conditions": met, "succeeded": 2}),
        vec![],
    );
    assert_eq!(
        words,
        ["status", "event TooManySucceededPods", "event Completed"]
    );
}

#[test]
fn a_job_that_failed_ends_its_pods_and_is_sealed_when_they_are_gone() {
    let spec = || json!({"parallelism": 2, "completions": 2, "backoffLimit": 0});
    let failed = pod("a", "Failed", json!({}));
    let pods = vec![failed, pod("b", "Running", json!({}))];
    let first = plan(job(spec(), json!({"active": 2})), pods);
    assert_eq!(
        conditions(&first),
        ["FailureTarget=True BackoffLimitExceeded"]
    );
    assert_eq!(
        words(&first),
        ["status", "untrack a", "delete b", "untrack b"]
    );
    assert_eq!(
        status(&first)["uncountedTerminatedPods"],
        json!({"failed": ["a", "b"]})
    );
    let target = json!([condition("FailureTarget", "BackoffLimitExceeded")]);
    let state = json!({"conditions": target, "uncountedTerminatedPods": {"failed": ["a", "b"]}});
    let free = |more: Value| {
        let mut metadata = json!({"finalizers": []});
        merge(&mut metadata, &more);
        pod("b", "Running", metadata)
    };
    // It waits for the pod that is on its way out.
    let waits = plan(job(spec(), state.clone()), vec![free(going())]);
    assert_eq!(
        conditions(&waits),
        ["FailureTarget=True BackoffLimitExceeded"]
    );
    assert_eq!(status(&waits)["terminating"], 1);
    let sealed = plan(job(spec(), state), vec![]);
    assert_eq!(words(&sealed), ["status", "event BackoffLimitExceeded"]);
    let expected = [
        "FailureTarget=True BackoffLimitExceeded",
        "Failed=True BackoffLimitExceeded",
    ];
    assert_eq!(conditions(&sealed), expected);
    assert_eq!(status(&sealed)["failed"], 2);
    assert_eq!(status(&sealed)["completionTime"], Value::Null);
}

#[test]
fn failures_have_their_reasons() {
    let restarted = |count: i32| {
        let mut pod = pod("a", "Running", json!({}));
        let statuses = json!([{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": count}]);
        pod.status.as_mut().expect("status").container_statuses =
            serde_json::from_value(statuses).expect("statuses");
        vec![pod]
    };
    let on_failure = |limit: i32| {
        let template = json!({"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "OnFailure", "containers": []}});
        json!({"backoffLimit": limit, "template": template})
    };
    let failed = |count: usize| -> Vec<Pod> {
        (0..count)
            .map(|n| pod(&format!("p{n}"), "Failed", json!({})))
            .collect()
    };
    let started = |seconds: u8| json!({"startTime": format!("2026-01-01T00:59:{seconds:02}Z")});
    let backoff = "FailureTarget=True BackoffLimitExceeded";
    let deadline = "FailureTarget=True DeadlineExceeded";
    let cases: [(Value, Value, Vec<Pod>, &[&str]); 9] = [
        (json!({"backoffLimit": 1}), json!({}), failed(2), &[backoff]),
        (json!({"backoffLimit": 1}), json!({}), failed(1), &[]),
        (
            json!({"backoffLimit": 2}),
            json!({"failed": 1}),
            failed(2),
            &[backoff],
        ),
        (on_failure(3), json!({}), restarted(3), &[backoff]),
        (on_failure(3), json!({}), restarted(2), &[]),
        (on_failure(0), json!({}), restarted(1), &[backoff]),
        (on_failure(0), json!({}), restarted(0), &[]),
        (
            json!({"activeDeadlineSeconds": 30}),
            started(30),
            vec![],
            &[deadline],
        ),
        (
            json!({"activeDeadlineSeconds": 30, "suspend": true}),
            started(0),
            vec![],
            &["Suspended=True JobSuspended"],
        ),
    ];
    for (spec, state, pods, expected) in cases {
        let plan = plan(job(spec.clone(), state), pods);
        let writes = plan
            .actions
            .iter()
            .any(|a| matches!(a, Action::Update { .. }));
        let found = if writes {
            conditions(&plan)
        } else {
            Vec::new()
        };
        assert_eq!(found, expected, "{spec}");
    }
    let soon = plan(
        job(json!({"activeDeadlineSeconds": 45}), started(30)),
        vec![pod("a", "Running", json!({}))],
    );
    assert_eq!(soon.requeue_after, Some(Duration::from_secs(15)));
}

#[test]
fn the_failure_policy_decides() {
    let rule = |action: &str| {
        let codes = json!({"operator": "In", "values": [42]});
        json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": codes}]}, "backoffLimit": 0})
    };
    let exited = || {
        let mut pod = pod("a", "Failed", json!({}));
        let statuses = json!([{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 42, "finishedAt": "2026-01-01T00:00:00Z"}}}]);
        pod.status.as_mut().expect("status").container_statuses =
            serde_json::from_value(statuses).expect("statuses");
        vec![pod]
    };
    let ignored = plan(job(rule("Ignore"), json!({"active": 1})), exited());
    assert_eq!(words(&ignored), ["status", "untrack a", "create"]);
    assert_eq!(status(&ignored)["uncountedTerminatedPods"], json!({}));
    let counted = plan(job(rule("Count"), json!({})), exited());
    assert_eq!(
        conditions(&counted),
        ["FailureTarget=True BackoffLimitExceeded"]
    );
    let failed = plan(job(rule("FailJob"), json!({})), exited());
    assert_eq!(conditions(&failed), ["FailureTarget=True PodFailurePolicy"]);
    assert_eq!(
        status(&failed)["conditions"][0]["message"],
        "Container c for pod d/a failed with exit code 42 matching FailJob rule at index 0"
    );
    assert_eq!(
        status(&failed)["uncountedTerminatedPods"],
        json!({"failed": ["a"]})
    );
}

#[test]
fn a_suspended_job_stops_and_starts_anew() {
    let (conditions, words) = told(
        json!({"suspend": true}),
        json!({"active": 1}),
        vec![pod("a", "Running", json!({}))],
    );
    assert_eq!(conditions, ["Suspended=True JobSuspended"]);
    assert_eq!(
        words,
        ["status", "event Suspended", "untrack a", "delete a"]
    );
    // One that was never started has no time of its start.
    let mut new = job(json!({"suspend": true}), json!({}));
    new.status = None;
    assert_eq!(status(&plan(new, vec![]))["startTime"], Value::Null);
    let suspended = json!({"conditions": [{"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": "Job suspended"}]});
    let rests = plan(job(json!({"suspend": true}), suspended.clone()), vec![]);
    assert_eq!(rests, Plan::nothing());
    // The deadline counts from the new start.
    let resumed = plan(job(json!({"activeDeadlineSeconds": 60}), suspended), vec![]);
    assert_eq!(super::conditions(&resumed), ["Suspended=False JobResumed"]);
    assert_eq!(
        super::words(&resumed),
        ["status", "event Resumed", "create"]
    );
    assert_eq!(status(&resumed)["startTime"], NOW);
    assert_eq!(resumed.requeue_after, Some(Duration::from_secs(60)));
}
