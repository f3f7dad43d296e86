//! What indexes add: which pods are made, what is done, what is given up.

use super::*;

fn indexed(spec: Value, status: Value) -> Job {
    let mut all = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 5});
    merge(&mut all, &spec);
    job(all, status)
}

fn of_index(name: &str, index: &str, phase: &str, failures: Option<i32>) -> Pod {
    let mut annotations = json!({"batch.kubernetes.io/job-completion-index": index});
    if let Some(failures) = failures {
        annotations["batch.kubernetes.io/job-index-failure-count"] = failures.to_string().into();
    }
    pod(name, phase, json!({"annotations": annotations}))
}

fn created_indexes(plan: &Plan) -> Vec<String> {
    let index = |pod: &&Value| {
        let annotations = &pod["metadata"]["annotations"];
        annotations["batch.kubernetes.io/job-completion-index"]
            .as_str()
            .map(str::to_owned)
    };
    created(plan).iter().filter_map(index).collect()
}

#[test]
fn each_index_gets_a_pod_that_knows_it() {
    let mut held = indexed(json!({}), json!({"completedIndexes": "1", "succeeded": 1}));
    held.metadata.name = Some("x".repeat(60));
    let controller = controller(vec![held], vec![of_index("a", "0", "Running", None)]);
    let key = Key::Job(name(&"x".repeat(60)));
    let plan = controller.plan(&controller.view(&key), now());
    assert_eq!(created_indexes(&plan), ["2", "3"]);
    let pod = created(&plan)[0];
    let name = pod["metadata"]["name"].as_str().expect("name");
    assert_eq!((name.len(), &name[53..58]), (63, "xx-2-"));
    assert_eq!(
        pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"],
        "2"
    );
    assert_eq!(pod["spec"]["hostname"], format!("{}-2", "x".repeat(60)));
    let variable = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(
        variable["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.labels['batch.kubernetes.io/job-completion-index']"
    );
}

#[test]
fn successes_are_kept_by_index() {
    let pods = vec![
        of_index("a", "0", "Succeeded", None),
        of_index("b", "2", "Succeeded", None),
        of_index("twice", "2", "Succeeded", None),
        of_index("beyond", "9", "Succeeded", None),
        of_index("known", "1", "Succeeded", None),
    ];
    let plan = plan(
        indexed(json!({}), json!({"completedIndexes": "1", "succeeded": 1})),
        pods,
    );
    let status = status(&plan);
    assert_eq!(status["completedIndexes"], "0-2");
    assert_eq!(status["succeeded"], 3);
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    let untracked = words(&plan)
        .iter()
        .filter(|word| word.starts_with("untrack"))
        .count();
    assert_eq!(untracked, 5);
    assert_eq!(created_indexes(&plan), ["3", "4"]);
}

#[test]
fn pods_without_an_index_of_their_own_go() {
    let mut late = of_index("late", "0", "Running", None);
    late.metadata.creation_timestamp = Some(serde_json::from_value(json!(NOW)).expect("time"));
    let pods = vec![
        of_index("early", "0", "Running", None),
        late,
        of_index("beyond", "7", "Running", None),
        of_index("odd", "x", "Running", None),
    ];
    let plan = plan(indexed(json!({}), json!({"active": 4})), pods);
    let mut found = words(&plan);
    found.retain(|word| word.starts_with("delete"));
    found.sort();
    assert_eq!(found, ["delete beyond", "delete late", "delete odd"]);
    assert!(created(&plan).is_empty());
}

#[test]
fn an_index_has_a_limit_of_its_own() {
    let spec = || json!({"backoffLimitPerIndex": 1, "backoffLimit": null, "completions": 3});
    // The failed pod stays until another one has its failures.
    let first = plan(
        indexed(spec(), json!({})),
        vec![of_index("a", "0", "Failed", Some(0))],
    );
    assert!(!words(&first).iter().any(|word| word.starts_with("untrack")));
    assert_eq!(created_indexes(&first), ["0", "1", "2"]);
    let count = "batch.kubernetes.io/job-index-failure-count";
    assert_eq!(created(&first)[0]["metadata"]["annotations"][count], "1");
    assert_eq!(created(&first)[1]["metadata"]["annotations"][count], "0");
    let replaced = vec![
        of_index("a", "0", "Failed", Some(0)),
        of_index("a2", "0", "Running", Some(1)),
    ];
    let second = plan(indexed(spec(), json!({})), replaced);
    assert!(words(&second).contains(&"untrack a".to_owned()));
    assert_eq!(
        status(&second)["uncountedTerminatedPods"],
        json!({"failed": ["a"]})
    );
    // Beyond the limit the index is given up, and the others go on.
    let third = plan(
        indexed(spec(), json!({})),
        vec![of_index("a2", "0", "Failed", Some(1))],
    );
    assert_eq!(status(&third)["failedIndexes"], "0");
    assert_eq!(created_indexes(&third), ["1", "2"]);
    assert!(words(&third).contains(&"untrack a2".to_owned()));
}

#[test]
fn an_index_waits_after_failures() {
    let mut failed = of_index("a", "0", "Failed", Some(1));
    let ready =
        json!({"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:59:55Z"});
    failed.status.as_mut().expect("status").conditions =
        Some(vec![serde_json::from_value(ready).expect("condition")]);
    let spec = json!({"backoffLimitPerIndex": 5, "completions": 2});
    let plan = plan(indexed(spec, json!({})), vec![failed]);
    assert_eq!(
        created_indexes(&plan),
        ["1"],
        "the other index does not wait"
    );
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(15)));
}

#[test]
fn indexes_end_the_job() {
    let per_index = |more: Value| {
        let mut spec = json!({"backoffLimitPerIndex": 0, "backoffLimit": null, "completions": 3});
        merge(&mut spec, &more);
        spec
    };
    let rules = json!({"successPolicy": {"rules": [{"succeededIndexes": "0,2"}]}});
    let fail_index =
        json!({"rules": [{"action": "FailIndex", "onPodConditions": [{"type": "Bad"}]}]});
    let mut bad = of_index("bad", "1", "Failed", Some(0));
    bad.status.as_mut().expect("status").conditions =
        serde_json::from_value(json!([{"type": "Bad", "status": "True"}])).expect("conditions");
    type Case = (Value, Value, Vec<Pod>, &'static [&'static str], Value);
    let cases: [Case; 5] = [
        (
            per_index(json!({})),
            json!({"completedIndexes": "0,2"}),
            vec![of_index("a", "1", "Failed", Some(0))],
            &["FailureTarget=True FailedIndexes"],
            json!("1"),
        ),
        (
            per_index(json!({"maxFailedIndexes": 0})),
            json!({}),
            vec![of_index("a", "1", "Failed", Some(0))],
            &["FailureTarget=True MaxFailedIndexesExceeded"],
            json!("1"),
        ),
        (
            per_index(
                json!({"backoffLimitPerIndex": 9, "maxFailedIndexes": 0, "podFailurePolicy": fail_index}),
            ),
            json!({}),
            vec![bad],
            &["FailureTarget=True MaxFailedIndexesExceeded"],
            json!("1"),
        ),
        (
            rules,
            json!({"completedIndexes": "2"}),
            vec![
                of_index("a", "0", "Succeeded", None),
                of_index("b", "1", "Running", None),
            ],
            &["SuccessCriteriaMet=True SuccessPolicy"],
            Value::Null,
        ),
        (
            json!({"completions": 2}),
            json!({"completedIndexes": "1"}),
            vec![of_index("a", "0", "Succeeded", None)],
            &["SuccessCriteriaMet=True CompletionsReached"],
            Value::Null,
        ),
    ];
    for (spec, state, pods, expected, failed) in cases {
        let plan = plan(indexed(spec.clone(), state), pods);
        assert_eq!(conditions(&plan), expected, "{spec}");
        assert_eq!(status(&plan)["failedIndexes"], failed, "{spec}");
    }
}

#[test]
fn pods_that_the_success_policy_ends_do_not_fail() {
    let rules = json!({"successPolicy": {"rules": [{"succeededCount": 1}]}});
    let pods = vec![
        of_index("a", "0", "Succeeded", None),
        of_index("b", "1", "Running", None),
    ];
    let plan = plan(indexed(rules, json!({"active": 2})), pods);
    assert_eq!(
        words(&plan),
        ["status", "untrack a", "delete b", "untrack b"]
    );
    assert_eq!(status(&plan)["uncountedTerminatedPods"], json!({}));
    assert_eq!(status(&plan)["completedIndexes"], "0");
}
