//! Tables of what a CronJob gets, what is refused, and how it prints.

use serde_json::json;

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn cron_job() -> Value {
    json!({
        "metadata": {"name": "report", "namespace": "b"},
        "spec": {
            "schedule": "*/5 * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "perl:5"}]}}}},
        },
    })
}

#[test]
fn defaults() {
    let mut object = cron_job();
    CronJob.default(&mut object);
    CronJob.prepare_for_create(&mut object);
    let spec = &object["spec"];
    assert_eq!(spec["concurrencyPolicy"], "Allow");
    assert_eq!(spec["suspend"], false);
    assert_eq!(
        (
            &spec["successfulJobsHistoryLimit"],
            &spec["failedJobsHistoryLimit"]
        ),
        (&json!(3), &json!(1))
    );
    let job = &spec["jobTemplate"]["spec"];
    assert_eq!(job["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    assert_eq!(job["backoffLimit"], Value::Null);
    assert_eq!(object["status"], json!({}));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of mistakes")]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&CronJob, cron_job()), none);
    let zoned = with(cron_job(), "/spec/timeZone", json!("Europe/Berlin"));
    assert_eq!(create(&CronJob, zoned), none);
    let long = "r".repeat(53);
    let too_long =
        format!("metadata.name: Invalid value: \"{long}\": must be no more than 52 characters");
    let cases = [
        ("/metadata/name", json!(long), too_long.as_str()),
        ("/spec/schedule", json!(""), "spec.schedule: Required value"),
        (
            "/spec/schedule",
            json!("* * *"),
            "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]",
        ),
        (
            "/spec/schedule",
            json!("TZ=UTC 0 * * * *"),
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone \
             field instead",
        ),
        (
            "/spec/timeZone",
            json!(""),
            "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string",
        ),
        (
            "/spec/timeZone",
            json!("Local"),
            "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in \
             https://www.iana.org/time-zones",
        ),
        (
            "/spec/timeZone",
            json!("../Berlin"),
            "spec.timeZone: Invalid value: \"../Berlin\": unknown time zone ../Berlin",
        ),
        (
            "/spec/concurrencyPolicy",
            json!("Skip"),
            "spec.concurrencyPolicy: Unsupported value: \"Skip\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ),
        (
            "/spec/startingDeadlineSeconds",
            json!(-1),
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/failedJobsHistoryLimit",
            json!(-1),
            "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/jobTemplate/spec/selector",
            json!({"matchLabels": {"a": "b"}}),
            "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be \
             auto-generated",
        ),
        (
            "/spec/jobTemplate/spec/manualSelector",
            json!(true),
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
        ),
        (
            "/spec/jobTemplate/spec/template/spec/restartPolicy",
            json!("Always"),
            "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
    ];
    for (pointer, value, expected) in cases {
        assert_eq!(
            create(&CronJob, with(cron_job(), pointer, value)),
            [expected]
        );
    }
}

#[test]
fn zones_in_schedules_of_old_may_stay() {
    let old = with(cron_job(), "/spec/schedule", json!("TZ=UTC 0 * * * *"));
    let none: Vec<String> = vec![];
    let suspended = with(old.clone(), "/spec/suspend", json!(true));
    assert_eq!(update(&CronJob, suspended.clone(), old.clone()), none);
    assert_eq!(CronJob.warnings(&suspended).len(), 1);
    let both = with(old.clone(), "/spec/timeZone", json!("UTC"));
    assert_eq!(
        update(&CronJob, both, old),
        [
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use both timeZone field and TZ or CRON_TZ in \
             schedule"
        ]
    );
}

#[test]
fn row() {
    let now: Timestamp = "2024-01-01T00:01:00Z".parse().unwrap();
    let mut object = cron_job();
    CronJob.default(&mut object);
    let expected = json!([
        "report",
        "*/5 * * * *",
        "<none>",
        "False",
        0,
        "<none>",
        "<unknown>",
        "c",
        "perl:5",
        "<none>"
    ]);
    assert_eq!(Value::Array(CronJob.row(&object, now)), expected);
    object["spec"]["timeZone"] = json!("UTC");
    object["status"] = json!({"active": [{}], "lastScheduleTime": "2024-01-01T00:00:00Z"});
    let cells = CronJob.row(&object, now)[2..6].to_vec();
    assert_eq!(Value::Array(cells), json!(["UTC", "False", 1, "60s"]));
}
