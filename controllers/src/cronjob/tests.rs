//! Plans of a CronJob: what is due and what runs in, what is made, deleted and written out.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::*;
use crate::pods;

/// A quarter past: the last full hour is due.
const NOW: &str = "2026-01-01T10:15:00Z";
/// Minutes since 1970 at 10:00.
const TEN: i64 = 29_454_360;

fn merge(object: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
}

/// A CronJob `c` for every full hour, made at 09:30.
fn cron_job(spec: Value, status: Value) -> CronJob {
    let template = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}},
                          "spec": {"template": {"spec": {"containers": []}}}});
    let mut object = json!({
        "metadata": {"name": "c", "namespace": "d", "uid": "u", "creationTimestamp": "2026-01-01T09:30:00Z"},
        "spec": {"schedule": "0 * * * *", "concurrencyPolicy": "Allow", "jobTemplate": template},
        "status": status,
    });
    merge(&mut object["spec"], &spec);
    serde_json::from_value(object).expect("cron job")
}

/// A Job of the CronJob, by the hour that it is for, with a condition if it is over.
fn job(hour: i64, condition: &str, more: Value) -> Job {
    let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "u", "controller": true});
    let name = format!("c-{}", TEN + (hour - 10) * 60);
    let at = |minute: u8| format!("2026-01-01T{hour:02}:{minute:02}:00Z");
    let mut object = json!({
        "metadata": {"name": name, "namespace": "d", "uid": format!("j{hour}"), "ownerReferences": [owner],
            "annotations": {"batch.kubernetes.io/cronjob-scheduled-timestamp": at(0)}},
        "spec": {"template": {}}, "status": {"startTime": at(0)},
    });
    if !condition.is_empty() {
        object["status"]["conditions"] = json!([{"type": condition, "status": "True"}]);
        object["status"]["completionTime"] = json!(at(5));
    }
    merge(&mut object["metadata"], &more);
    serde_json::from_value(object).expect("job")
}

fn active(hours: &[i64]) -> Value {
    let reference = |hour: &i64| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "namespace": "d", "uid": format!("j{hour}"),
               "name": format!("c-{}", TEN + (hour - 10) * 60)})
    };
    hours.iter().map(reference).collect()
}

fn plan_at(now: &str, cron_job: CronJob, jobs: Vec<Job>) -> Plan {
    let by_controller = CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid);
    let controller = CronJobs {
        cron_jobs: Cache::fixed([cron_job], CacheOptions::all()),
        jobs: Cache::fixed(jobs, by_controller),
        rescheduled: Mutex::default(),
    };
    let view = controller.view(&ObjectName::new("d", "c"));
    controller.plan(&view, now.parse().expect("time"))
}

fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Create { object, .. } => format!("create {}", object["metadata"]["name"]),
        Action::Update { .. } => "status".to_owned(),
        Action::Delete { target, .. } => format!("delete {}", target.name),
        other => other.to_string(),
    };
    plan.actions.iter().map(word).collect()
}

fn status(plan: &Plan) -> Value {
    let written = plan.actions.iter().find_map(|action| match action {
        Action::Update { object, .. } => Some(object["status"].clone()),
        _ => None,
    });
    written.expect("a status is written")
}

fn message(plan: &Plan, wanted: &str) -> String {
    let found = plan.actions.iter().find_map(|action| match action {
        Action::Event {
            reason, message, ..
        } if reason == wanted => Some(message.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no event {wanted}: {plan:?}"))
}

#[test]
fn a_job_is_made_and_then_written_down() {
    let plan = plan_at(NOW, cron_job(json!({}), json!({})), vec![]);
    let create = format!("create \"c-{TEN}\"");
    assert_eq!(words(&plan), [create.as_str(), "event SuccessfulCreate"]);
    let Action::Create { object, .. } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    assert_eq!(object["metadata"]["labels"], json!({"a": "b"}));
    let annotations = json!({"x": "y", "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"});
    assert_eq!(object["metadata"]["annotations"], annotations);
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u");
    assert_eq!(
        plan.requeue_after,
        Some(Duration::from_millis(45 * 60 * 1000 + 100))
    );
    // The next run finds it by its name.
    let second = plan_at(
        NOW,
        cron_job(json!({}), json!({})),
        vec![job(10, "", json!({}))],
    );
    assert_eq!(words(&second), ["status"]);
    assert_eq!(status(&second)["lastScheduleTime"], "2026-01-01T10:00:00Z");
    assert_eq!(status(&second)["active"][0]["uid"], "j10");
    assert_eq!(status(&second)["active"][0]["kind"], "Job");
    // From then on there is nothing to do.
    let settled =
        json!({"lastScheduleTime": "2026-01-01T10:00:00Z", "active": status(&second)["active"]});
    let third = plan_at(
        NOW,
        cron_job(json!({}), settled),
        vec![job(10, "", json!({}))],
    );
    assert!(third.actions.is_empty(), "{third:?}");
    assert_eq!(third.requeue_after, plan.requeue_after);
}

#[test]
fn jobs_start_only_when_they_may() {
    let running = json!({"active": active(&[9]), "lastScheduleTime": "2026-01-01T09:00:00Z"});
    let nine = || vec![job(9, "", json!({}))];
    let create = format!("create \"c-{TEN}\"");
    let create: &[&str] = &[&create, "event SuccessfulCreate"];
    let old = format!("delete c-{}", TEN - 60);
    let mut replaced = vec![old.as_str(), "status", "event SuccessfulDelete"];
    replaced.extend(create);
    let foreign = || vec![job(10, "", json!({"ownerReferences": []}))];
    let cases: [(Value, Value, Vec<Job>, &[&str]); 12] = [
        (json!({"suspend": true}), json!({}), vec![], &[]),
        (
            json!({"startingDeadlineSeconds": 600}),
            json!({}),
            vec![],
            &[],
        ),
        (
            json!({"startingDeadlineSeconds": 1200}),
            json!({}),
            vec![],
            create,
        ),
        (json!({}), running.clone(), nine(), create),
        (
            json!({"concurrencyPolicy": "Forbid"}),
            running.clone(),
            nine(),
            &["event JobAlreadyActive"],
        ),
        (
            json!({"concurrencyPolicy": "Replace"}),
            running,
            nine(),
            &replaced,
        ),
        (
            json!({"timeZone": "Europe/Nowhere"}),
            json!({}),
            vec![],
            &["event UnknownTimeZone"],
        ),
        (
            json!({"schedule": "61 * * * *"}),
            json!({}),
            vec![],
            &["event UnparseableSchedule"],
        ),
        (
            json!({"schedule": "0 0 31 2 *"}),
            json!({}),
            vec![],
            &["event InvalidSchedule"],
        ),
        (
            json!({"schedule": "TZ=UTC 0 * * * *"}),
            json!({}),
            vec![],
            &["event UnsupportedSchedule", create[0], create[1]],
        ),
        (json!({"schedule": "0 11 * * *"}), json!({}), vec![], &[]),
        // Somebody else has the name.
        (json!({}), json!({}), foreign(), &[]),
    ];
    for (spec, status, jobs, expected) in cases {
        let plan = plan_at(NOW, cron_job(spec.clone(), status), jobs);
        assert_eq!(words(&plan), expected, "{spec}");
    }
    let mut gone = cron_job(json!({}), json!({}));
    gone.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).expect("time"));
    assert_eq!(plan_at(NOW, gone, vec![]), Plan::nothing());
}

#[test]
fn faults_are_told_in_upstreams_words() {
    let told = |spec: Value, reason: &str| {
        message(&plan_at(NOW, cron_job(spec, json!({})), vec![]), reason)
    };
    let zone = "invalid timeZone: \"Europe/Nowhere\": unknown time zone Europe/Nowhere";
    assert_eq!(
        told(json!({"timeZone": "Europe/Nowhere"}), "UnknownTimeZone"),
        zone
    );
    let never = "invalid schedule: 0 0 31 2 * : time difference between two schedules is less than 1 second";
    assert_eq!(
        told(json!({"schedule": "0 0 31 2 *"}), "InvalidSchedule"),
        never
    );
    let odd = told(json!({"schedule": "x"}), "UnparseableSchedule");
    assert_eq!(
        odd,
        "unparseable schedule: \"x\" : expected exactly 5 fields, found 1: [x]"
    );
}

#[test]
fn late_and_many_missed_times_are_told() {
    // Woken late: the deadline passed while the time was still within it by the cut of seconds.
    let minutely = json!({"schedule": "* * * * *"});
    let many = plan_at(
        "2026-01-01T11:30:30Z",
        cron_job(minutely, json!({})),
        vec![],
    );
    assert_eq!(words(&many)[0], "event TooManyMissedTimes");
    assert!(words(&many)[1].starts_with("create"));
}

#[test]
fn time_zones_shift_schedules() {
    let spec = json!({"schedule": "0 11 * * *", "timeZone": "Europe/Berlin"});
    let plan = plan_at(NOW, cron_job(spec, json!({})), vec![]);
    let Some(Action::Create { object, .. }) = plan.actions.first() else {
        panic!("{plan:?}");
    };
    let annotation =
        &object["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(annotation, "2026-01-01T11:00:00+01:00");
    assert_eq!(object["metadata"]["name"], format!("c-{TEN}"));
}

#[test]
fn jobs_that_end_or_vanish_leave_the_status() {
    let spec = || json!({"suspend": true});
    let state = |hours: &[i64]| json!({"active": active(hours), "lastScheduleTime": "2026-01-01T10:00:00Z"});
    let ended = plan_at(
        NOW,
        cron_job(spec(), state(&[8, 9, 10])),
        vec![
            job(8, "Failed", json!({})),
            job(9, "Complete", json!({})),
            job(10, "", json!({})),
        ],
    );
    assert_eq!(
        words(&ended),
        ["status", "event SawCompletedJob", "event SawCompletedJob"]
    );
    assert_eq!(status(&ended)["active"].as_array().map(Vec::len), Some(1));
    assert_eq!(status(&ended)["lastSuccessfulTime"], "2026-01-01T09:05:00Z");
    let expected = format!("Saw completed job: c-{}, condition: Failed", TEN - 120);
    assert_eq!(message(&ended, "SawCompletedJob"), expected);
    let missing = plan_at(NOW, cron_job(spec(), state(&[10])), vec![]);
    assert_eq!(words(&missing), ["status", "event MissingJob"]);
    assert_eq!(status(&missing)["active"], Value::Null);
    assert_eq!(
        message(&missing, "MissingJob"),
        format!("Active job went missing: c-{TEN}")
    );
    let strange = plan_at(
        NOW,
        cron_job(spec(), state(&[])),
        vec![job(10, "", json!({"name": "by-hand"}))],
    );
    assert_eq!(words(&strange), ["event UnexpectedJob"]);
    // One that is replaced is not taken back.
    let going = json!({"deletionTimestamp": NOW});
    let replaced = plan_at(NOW, cron_job(spec(), state(&[])), vec![job(10, "", going)]);
    assert!(replaced.actions.is_empty(), "{replaced:?}");
}

#[test]
fn the_history_has_limits() {
    let spec =
        json!({"suspend": true, "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let state = json!({"lastScheduleTime": "2026-01-01T10:00:00Z", "lastSuccessfulTime": "2026-01-01T09:05:00Z"});
    let jobs = vec![
        job(6, "Failed", json!({})),
        job(7, "Complete", json!({})),
        job(8, "Complete", json!({})),
        job(9, "Complete", json!({})),
    ];
    let plan = plan_at(NOW, cron_job(spec, state.clone()), jobs.clone());
    let mut deleted = words(&plan);
    deleted.retain(|word| word.starts_with("delete"));
    let expected = [180, 120, 240].map(|minutes| format!("delete c-{}", TEN - minutes));
    assert_eq!(deleted, expected);
    let Action::Delete { options, .. } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    assert_eq!(options.propagation, Some(Propagation::Background));
    let unlimited = plan_at(NOW, cron_job(json!({"suspend": true}), state), jobs);
    assert!(unlimited.actions.is_empty());
}

#[tokio::test]
async fn a_new_schedule_misses_no_times_before_it() {
    let old = cron_job(json!({"schedule": "0 0 * * *"}), json!({}));
    let controller = CronJobs {
        cron_jobs: Cache::fixed([old], CacheOptions::all()),
        jobs: Cache::fixed(
            [],
            CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid),
        ),
        rescheduled: Mutex::default(),
    };
    let before = controller.cron_jobs.list().remove(0);
    let mut new = cron_job(json!({"schedule": "0 * * * *"}), json!({}));
    new.metadata.resource_version = Some("2".to_owned());
    controller.cron_jobs.put_for_test(new).await;
    let after = controller.cron_jobs.list().remove(0);
    let change = Change::Updated {
        old: before,
        new: after,
    };
    let keys = controller.of_cron_job(&change);
    let view = controller.view(&keys[0]);
    let plan = controller.plan(&view, Timestamp::now());
    assert!(plan.actions.is_empty(), "{plan:?}");
    assert!(plan.requeue_after.is_some());
}
