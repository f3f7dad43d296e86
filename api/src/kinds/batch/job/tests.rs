//! Tables of what a Job gets, what is refused, how it ends, and how it prints.

use serde_json::json;

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn job() -> Value {
    json!({
        "metadata": {"name": "pi", "namespace": "b", "uid": "u-1"},
        "spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "perl:5"}]}},
        },
    })
}

fn indexed(spec: &Value) -> Value {
    let mut object = job();
    set(&mut object["spec"], "completionMode", "Indexed");
    set(&mut object["spec"], "completions", 3);
    for (key, value) in spec.as_object().unwrap() {
        set(&mut object["spec"], key, value.clone());
    }
    object
}

fn made(mut object: Value) -> Value {
    Job.default(&mut object);
    Job.prepare_for_create(&mut object);
    object
}

#[test]
fn defaults() {
    let mut object = job();
    Job.default(&mut object);
    let spec = &object["spec"];
    for (key, expected) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("manualSelector", json!(false)),
    ] {
        assert_eq!(spec[key], expected, "{key}");
    }
    assert_eq!(spec["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    let mut object = indexed(&json!({
        "parallelism": 2, "completions": null, "backoffLimitPerIndex": 1,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}));
    object["spec"]["template"]["metadata"] = json!({"labels": {"app": "pi"}});
    Job.default(&mut object);
    let spec = &object["spec"];
    assert_eq!(spec["completions"], Value::Null);
    assert_eq!(spec["backoffLimit"], i32::MAX);
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    let pattern = &spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0];
    assert_eq!(pattern["status"], "True");
    assert_eq!(object["metadata"]["labels"], json!({"app": "pi"}));
}

#[test]
fn the_server_makes_the_selector() {
    let object = made(job());
    let expected = json!({
        "batch.kubernetes.io/controller-uid": "u-1", "batch.kubernetes.io/job-name": "pi",
        "controller-uid": "u-1", "job-name": "pi"});
    assert_eq!(object["spec"]["template"]["metadata"]["labels"], expected);
    assert_eq!(object["metadata"]["labels"], expected);
    assert_eq!(
        object["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})
    );
    assert_eq!(object["status"], json!({}));
    assert_eq!(object["metadata"]["generation"], 1);
}

#[test]
fn generated_names_reach_the_labels() {
    let mut object = made(with(job(), "/metadata/name", Value::Null));
    for name in ["pi-a", "pi-b"] {
        Job.set_generated_name(&mut object, name);
        assert_eq!(object["metadata"]["name"], name);
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["job-name"], name);
        assert_eq!(labels["batch.kubernetes.io/job-name"], name);
        assert_eq!(object["metadata"]["labels"]["job-name"], name);
        assert!(Job.validate_create(&object).is_empty());
    }
}

#[test]
fn selectors_of_authors_need_their_word() {
    let mut object = job();
    object["spec"]["template"]["metadata"] = json!({"labels": {"app": "pi"}});
    object["spec"]["selector"] = json!({"matchLabels": {"app": "pi"}});
    let none: Vec<String> = vec![];
    let manual = with(object.clone(), "/spec/manualSelector", json!(true));
    assert_eq!(create(&Job, manual.clone()), none);
    assert_eq!(made(manual)["spec"]["selector"], object["spec"]["selector"]);
    let errors = create(&Job, object);
    assert_eq!(
        errors,
        [
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"pi\",\"batch.kubernetes.io/controller-uid\":\"u-1\"}}: \
             `selector` not auto-generated"
        ]
    );
    let mut foreign = job();
    foreign["spec"]["template"]["metadata"] = json!({"labels": {"job-name": "e"}});
    let errors = create(&Job, foreign);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("spec.template.metadata.labels[job-name]: Invalid value: {"));
    assert!(errors[0].ends_with(": must be 'pi'"));
    let without = with(job(), "/spec/manualSelector", json!(true));
    assert_eq!(create(&Job, without)[0], "spec.selector: Required value");
}

#[test]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&Job, job()), none);
    let cases = [
        (
            "/spec/parallelism",
            json!(-1),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/maxFailedIndexes",
            json!(1),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            "/spec/backoffLimitPerIndex",
            json!(1),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            "/spec/managedBy",
            json!(""),
            "spec.managedBy: Required value",
        ),
        (
            "/spec/managedBy",
            json!("kueue"),
            "spec.managedBy: Invalid value: \"kueue\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (
            "/spec/managedBy",
            json!("acme.io/a b"),
            "spec.managedBy: Invalid value: \"a b\": Invalid path (regex used for validation is \
             '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        ),
        (
            "/spec/completionMode",
            json!("Any"),
            "spec.completionMode: Unsupported value: \"Any\": supported values: \"NonIndexed\", \"Indexed\"",
        ),
        (
            "/spec/podReplacementPolicy",
            json!("Never"),
            "spec.podReplacementPolicy: Unsupported value: \"Never\": supported values: \"Failed\", \
             \"TerminatingOrFailed\"",
        ),
        (
            "/spec/successPolicy",
            json!({"rules": [{"succeededCount": 1}]}),
            "spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed completion mode",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Always"),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            "/spec/template/spec/restartPolicy",
            Value::Null,
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
    ];
    for (pointer, value, expected) in cases {
        let errors = create(&Job, with(job(), pointer, value));
        assert_eq!(errors.first().map(String::as_str), Some(expected));
    }
}

#[test]
fn indexed_jobs_have_bounds() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&Job, indexed(&json!({}))), none);
    let cases = [
        (
            json!({"completions": null}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"parallelism": 100_001}),
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is \
             Indexed",
        ),
        (
            json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 4}),
            "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
        ),
        (
            json!({"backoffLimitPerIndex": 1, "completions": 100_001, "parallelism": 1}),
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
        ),
        (
            json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1, "completions": 100_001, "parallelism": 10_001}),
            "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above \
             100000 and used with backoff limit per index",
        ),
    ];
    for (mut spec, expected) in cases {
        default_to(&mut spec, "parallelism", 1);
        assert_eq!(create(&Job, indexed(&spec)), [expected]);
    }
    let long = with(
        indexed(&json!({"completions": 11})),
        "/metadata/name",
        json!("p".repeat(61)),
    );
    let name = "p".repeat(61);
    assert_eq!(
        create(&Job, long),
        [format!(
            "metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-10"
        )]
    );
}

#[test]
fn rules_of_failure_are_checked() {
    let failure = |rule: Value| with(job(), "/spec/podFailurePolicy", json!({"rules": [rule]}));
    let none: Vec<String> = vec![];
    let codes = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 42]}});
    assert_eq!(create(&Job, failure(codes)), none);
    let cases = [
        (
            json!({"onPodConditions": [{"type": "Ready"}]}),
            ".action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
        ),
        (
            json!({"action": "FailIndex", "onPodConditions": [{"type": "Ready"}]}),
            ".action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ),
        (
            json!({"action": "Count"}),
            ": Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}),
            ".onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [2, 1]}}),
            ".onExitCodes.values: Invalid value: [2,1]: must be ordered",
        ),
        (
            json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [1], "containerName": "x"}}),
            ".onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in \
             the pod template",
        ),
    ];
    for (rule, expected) in cases {
        let expected = format!("spec.podFailurePolicy.rules[0]{expected}");
        assert_eq!(create(&Job, failure(rule)), [expected]);
    }
    let mut restarted = failure(json!({"action": "Count", "onPodConditions": [{"type": "Ready"}]}));
    restarted["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    assert_eq!(
        create(&Job, restarted),
        [
            "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when \
             podFailurePolicy is specified"
        ]
    );
}

#[test]
fn rules_of_success_are_checked() {
    let success = |rule: Value| indexed(&json!({"successPolicy": {"rules": [rule]}}));
    let none: Vec<String> = vec![];
    let both = json!({"succeededIndexes": "0,2", "succeededCount": 2});
    assert_eq!(create(&Job, success(both)), none);
    let cases = [
        (
            json!({}),
            ": Required value: at least one of succeededCount or succeededIndexes must be specified",
        ),
        (
            json!({"succeededIndexes": "0-5"}),
            ".succeededIndexes: Invalid value: \"0-5\": error parsing succeededIndexes: too large index: \"5\"",
        ),
        (
            json!({"succeededIndexes": "0", "succeededCount": 2}),
            ".succeededCount: Invalid value: 2: must be less than or equal to 1 (the number of indexes in the specified \
             succeededIndexes field)",
        ),
    ];
    for (rule, expected) in cases {
        let expected = format!("spec.successPolicy.rules[0]{expected}");
        assert_eq!(create(&Job, success(rule)), [expected]);
    }
}

#[test]
fn most_of_the_spec_stays() {
    let old = made(job());
    let none: Vec<String> = vec![];
    for (pointer, value) in [
        ("/spec/parallelism", json!(4)),
        ("/spec/suspend", json!(true)),
        ("/spec/backoffLimit", json!(1)),
        ("/spec/activeDeadlineSeconds", json!(9)),
        ("/spec/ttlSecondsAfterFinished", json!(9)),
    ] {
        let new = with(old.clone(), pointer, value);
        assert_eq!(update(&Job, new, old.clone()), none, "{pointer}");
    }
    for (pointer, value) in [
        ("/spec/completions", json!(2)),
        ("/spec/completionMode", json!("Indexed")),
        ("/spec/managedBy", json!("acme.io/x")),
        ("/spec/template/spec/containers/0/image", json!("perl:6")),
        ("/spec/template/spec/nodeSelector", json!({"a": "b"})),
    ] {
        let new = with(old.clone(), pointer, value);
        let errors = update(&Job, new, old.clone());
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(": field is immutable"), "{errors:?}");
    }
}

#[test]
fn indexed_jobs_grow_in_step() {
    let old = made(indexed(&json!({"parallelism": 3})));
    let none: Vec<String> = vec![];
    let mut both = with(old.clone(), "/spec/completions", json!(5));
    assert_eq!(
        update(&Job, both.clone(), old.clone()),
        [
            "spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism"
        ]
    );
    both["spec"]["parallelism"] = json!(5);
    assert_eq!(update(&Job, both, old), none);
}

#[test]
fn queues_place_suspended_jobs_before_they_start() {
    let mut old = made(with(job(), "/spec/suspend", json!(true)));
    let mut placed = with(
        old.clone(),
        "/spec/template/spec/nodeSelector",
        json!({"a": "b"}),
    );
    placed["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {}});
    placed["spec"]["template"]["metadata"]["annotations"] = json!({"queue": "q"});
    let none: Vec<String> = vec![];
    assert_eq!(update(&Job, placed.clone(), old.clone()), none);
    let other = with(placed.clone(), "/spec/template/spec/hostname", json!("h"));
    assert_eq!(update(&Job, other, old.clone()).len(), 1);
    old["status"]["startTime"] = json!("2024-01-01T00:00:00Z");
    assert_eq!(update(&Job, placed, old).len(), 1);
}

#[test]
fn jobs_of_old_need_no_prefixed_labels() {
    let mut old = made(job());
    let unprefixed = json!({"controller-uid": "u-1", "job-name": "pi"});
    old["spec"]["template"]["metadata"]["labels"] = unprefixed;
    old["spec"]["selector"] = json!({"matchLabels": {"controller-uid": "u-1"}});
    let none: Vec<String> = vec![];
    let new = with(old.clone(), "/spec/parallelism", json!(0));
    assert_eq!(update(&Job, new, old), none);
}

fn status(status: Value) -> Value {
    let mut object = made(indexed(&json!({"backoffLimitPerIndex": 1})));
    object["status"] = status;
    object
}

fn conditions(types: &[&str]) -> Value {
    let condition = |r#type: &&str| json!({"type": r#type, "status": "True"});
    Value::Array(types.iter().map(condition).collect())
}

fn status_errors(new: Value, old: Value) -> Vec<String> {
    let errors = Job.validate_status_update(&status(new), &status(old));
    errors.iter().map(ToString::to_string).collect()
}

const START: &str = "2024-01-01T00:00:00Z";

fn with_conditions(types: &[&str], mut status: Value) -> Value {
    set(&mut status, "conditions", conditions(types));
    status
}

#[test]
fn ends_are_told_properly() {
    let end = "2024-01-01T00:00:05Z";
    let times = json!({"startTime": START, "completionTime": end, "failed": 2, "succeeded": 3});
    let running = json!({"startTime": START, "active": 1, "failed": 2, "succeeded": 1});
    let complete = with_conditions(&["SuccessCriteriaMet", "Complete"], times.clone());
    let none: Vec<String> = vec![];
    assert_eq!(status_errors(complete.clone(), running.clone()), none);
    let started = json!({"startTime": START});
    let cases = [
        (
            with_conditions(&["Failed"], started.clone()),
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true \
             condition",
        ),
        (
            with_conditions(&["Complete"], times),
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true \
             condition",
        ),
        (
            with_conditions(&["SuccessCriteriaMet", "Complete"], started.clone()),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            with_conditions(&["SuccessCriteriaMet", "FailureTarget"], started.clone()),
            "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            json!({}),
            "status.startTime: Required value: startTime cannot be removed for unsuspended job",
        ),
    ];
    for (new, expected) in cases {
        assert_eq!(status_errors(new, started.clone()), [expected]);
    }
    let reopened = status_errors(with_conditions(&["SuccessCriteriaMet"], running), complete);
    let expected =
        "status.conditions: Invalid value: cannot disable the terminal Complete=True condition";
    assert!(reopened.contains(&expected.to_owned()), "{reopened:?}");
}

#[test]
fn counts_and_lists_fit_together() {
    let cases = [
        (
            json!({"failed": 1}),
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
        ),
        (
            json!({"failed": 2, "completedIndexes": "0-1", "failedIndexes": "1"}),
            "status.failedIndexes: Invalid value: \"1\": failedIndexes and completedIndexes overlap at index: 1",
        ),
        (
            json!({"failed": 2, "completedIndexes": "3"}),
            "status.completedIndexes: Invalid value: \"3\": error parsing completedIndexes: too large index: \"3\"",
        ),
        (
            json!({"failed": 2, "active": 1, "ready": 2}),
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ),
        (
            json!({"failed": 2, "uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}}),
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
        ),
    ];
    for (new, expected) in cases {
        assert_eq!(status_errors(new, json!({"failed": 2})), [expected]);
    }
}

#[test]
fn warnings() {
    let none: Vec<String> = vec![];
    assert_eq!(Job.warnings(&made(job())), none);
    let huge = indexed(&json!({"completions": 100_001, "parallelism": 10_001}));
    assert!(
        Job.warnings(&huge)[0]
            .starts_with("spec: In Indexed Jobs with a number of completions higher")
    );
    assert_eq!(
        Job.warnings_of_new(&with(job(), "/metadata/name", json!("a.b")))
            .len(),
        1
    );
}

#[test]
fn row() {
    let now: Timestamp = "2024-01-01T00:01:00Z".parse().unwrap();
    let cells = |object: &Value| Value::Array(Job.row(object, now)[..4].to_vec());
    let mut object = made(job());
    assert_eq!(cells(&object), json!(["pi", "Running", "0/1", ""]));
    let wide = Job.row(&object, now).split_off(5);
    let selector = "batch.kubernetes.io/controller-uid=u-1";
    assert_eq!(Value::Array(wide), json!(["c", "perl:5", selector]));
    object["status"] = json!({"startTime": "2024-01-01T00:00:30Z", "succeeded": 1});
    object["spec"]["completions"] = Value::Null;
    object["spec"]["parallelism"] = json!(4);
    assert_eq!(cells(&object), json!(["pi", "Running", "1/1 of 4", "30s"]));
    object["status"]["completionTime"] = json!("2024-01-01T00:00:40Z");
    object["status"]["conditions"] = conditions(&["SuccessCriteriaMet", "Complete"]);
    assert_eq!(cells(&object), json!(["pi", "Complete", "1/1 of 4", "10s"]));
}
