//! Graceful and ungraceful ends.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Node, first, is_running, pod, shell};

#[tokio::test(flavor = "multi_thread")]
async fn term_is_enough_when_the_container_listens() {
    let node = Node::new("term");
    let mut container = shell(
        "c",
        "trap 'echo got term; exit 0' TERM; while true; do sleep 0.1; done",
    );
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}},
        "postStart": {"exec": {"command": ["sh", "-c", "echo begun > /proc/1/fd/1"]}}});
    let pod = pod("term", json!({"containers": [container]}));
    let worker = node.start(&pod);
    node.wait(&pod, "ready", |s| is_running(s) && first(s).ready)
        .await;
    let log = node.dir.join("logs/test_term_uid-term/c/0.log");
    let kept = log.clone();
    let reader = corten_base::tasks::spawn(
        "log-reader",
        corten_base::tasks::TaskKind::Background,
        async move {
            let mut text = String::new();
            while !text.contains("got term") {
                if let Ok(now) = std::fs::read_to_string(&kept) {
                    text = now;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            text
        },
    );
    let took = node.delete(&worker, &pod, 30).await;
    assert!(took < Duration::from_secs(10), "took {took:?}");
    let text = tokio::time::timeout(Duration::from_secs(5), reader)
        .await
        .expect("the log ends with term")
        .expect("log");
    let at = |word: &str| {
        text.find(word)
            .unwrap_or_else(|| panic!("{word} not in {text}"))
    };
    assert!(
        at("begun") < at("hook") && at("hook") < at("got term"),
        "{text}"
    );
    let status = node.status(&pod).expect("a final status");
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_follows_when_it_does_not() {
    let node = Node::new("kill");
    let pod = pod(
        "kill",
        json!({"containers": [shell("c", "trap '' TERM; while true; do sleep 0.1; done")]}),
    );
    let worker = node.start(&pod);
    node.wait(&pod, "running", is_running).await;
    let took = node.delete(&worker, &pod, 3).await;
    assert!(
        took > Duration::from_millis(2500) && took < Duration::from_secs(15),
        "took {took:?}"
    );
    let status = node.status(&pod).expect("a final status");
    let ended = first(&status)
        .state
        .clone()
        .and_then(|s| s.terminated)
        .expect("terminated");
    assert_eq!(
        (ended.exit_code, status.phase.as_deref()),
        (137, Some("Failed"))
    );
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_fails_the_pod() {
    let node = Node::new("deadline");
    let pod = pod(
        "deadline",
        json!({"activeDeadlineSeconds": 2, "terminationGracePeriodSeconds": 1,
        "containers": [shell("c", "sleep 1000")]}),
    );
    let worker = node.start(&pod);
    node.wait(&pod, "running", is_running).await;
    let status = node
        .wait(&pod, "failed and stopped", |s| {
            s.phase.as_deref() == Some("Failed")
                && first(s)
                    .state
                    .as_ref()
                    .is_some_and(|s| s.terminated.is_some())
        })
        .await;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    node.delete(&worker, &pod, 1).await;
    node.clean_up();
}
