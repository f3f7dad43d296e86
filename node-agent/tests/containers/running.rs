//! Completion, restarts with back-off, OOM, init order, failing starts, probes.

use serde_json::json;

use crate::harness::{Node, first, is_running, pod, shell};

#[tokio::test(flavor = "multi_thread")]
async fn runs_to_completion_with_log_and_message() {
    let node = Node::new("done");
    let line = "echo out; echo err >&2; echo bye > /dev/termination-log; cat /etc/hostname; hostname; id -u";
    let pod = pod(
        "done",
        json!({"restartPolicy": "Never", "containers": [shell("c", line)]}),
    );
    let worker = node.start(&pod);
    let status = node
        .wait(&pod, "succeeded", |s| {
            s.phase.as_deref() == Some("Succeeded")
        })
        .await;
    let ended = first(&status)
        .state
        .clone()
        .and_then(|s| s.terminated)
        .expect("terminated");
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (0, Some("Completed"))
    );
    assert_eq!(ended.message.as_deref(), Some("bye\n"));
    let log =
        std::fs::read_to_string(node.dir.join("logs/test_done_uid-done/c/0.log")).expect("a log");
    let texts: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(_, text)| text))
        .collect();
    for wanted in [
        "stdout F out",
        "stderr F err",
        "stdout F done",
        "stdout F 0",
    ] {
        assert!(texts.contains(&wanted), "{wanted} not in {log}");
    }
    node.delete(&worker, &pod, 30).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_back_off() {
    let node = Node::new("crash");
    let pod = pod("crash", json!({"containers": [shell("c", "exit 3")]}));
    let worker = node.start(&pod);
    let status = node
        .wait(&pod, "in back-off", |s| {
            let waiting = first(s).state.as_ref().and_then(|s| s.waiting.clone());
            waiting.and_then(|w| w.reason).as_deref() == Some("CrashLoopBackOff")
        })
        .await;
    let container = first(&status);
    assert_eq!(
        (container.restart_count, status.phase.as_deref()),
        (1, Some("Running"))
    );
    let last = container
        .last_state
        .clone()
        .and_then(|s| s.terminated)
        .expect("a last state");
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    let waiting = container
        .state
        .clone()
        .and_then(|s| s.waiting)
        .and_then(|w| w.message);
    assert_eq!(
        waiting.as_deref(),
        Some("back-off 10s restarting failed container=c pod=crash_test(uid-crash)")
    );
    assert_eq!(node.events("BackOff").len(), 1);
    node.wait(&pod, "restarted after the back-off", |s| {
        first(s).restart_count == 2
    })
    .await;
    node.delete(&worker, &pod, 30).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_is_137() {
    let node = Node::new("oom");
    let mut container = shell("c", "x=a; while true; do x=$x$x; done");
    container["resources"] = json!({"limits": {"memory": "24Mi"}});
    let pod = pod(
        "oom",
        json!({"restartPolicy": "Never", "containers": [container]}),
    );
    let worker = node.start(&pod);
    let status = node
        .wait(&pod, "failed", |s| s.phase.as_deref() == Some("Failed"))
        .await;
    let ended = first(&status)
        .state
        .clone()
        .and_then(|s| s.terminated)
        .expect("terminated");
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (137, Some("OOMKilled"))
    );
    node.delete(&worker, &pod, 30).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_command_is_a_start_error() {
    let node = Node::new("badcmd");
    let container = json!({"name": "c", "image": "busybox:1", "command": ["/no/such/file"]});
    let pod = pod(
        "badcmd",
        json!({"restartPolicy": "Never", "containers": [container]}),
    );
    let worker = node.start(&pod);
    let status = node
        .wait(&pod, "failed", |s| s.phase.as_deref() == Some("Failed"))
        .await;
    let ended = first(&status)
        .state
        .clone()
        .and_then(|s| s.terminated)
        .expect("terminated");
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (128, Some("StartError"))
    );
    assert!(
        ended
            .message
            .as_deref()
            .is_some_and(|m| m.contains("/no/such/file")),
        "{ended:?}"
    );
    node.delete(&worker, &pod, 30).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_and_sidecars_go_first() {
    let node = Node::new("init");
    let volume = json!([{"name": "v", "mountPath": "/v"}]);
    let with = |mut container: serde_json::Value| {
        container["volumeMounts"] = volume.clone();
        container
    };
    let mut sidecar = with(shell(
        "side",
        "trap 'exit 0' TERM; echo side >> /v/order; while true; do sleep 1; done",
    ));
    sidecar["restartPolicy"] = json!("Always");
    let pod = pod(
        "init",
        json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [with(shell("one", "echo one >> /v/order")), sidecar, with(shell("two", "sleep 0.2; echo two >> /v/order"))],
            "containers": [with(shell("app", "echo app >> /v/order; cat /v/order > /dev/termination-log"))],
        }),
    );
    let worker = node.start(&pod);
    let status = node
        .wait(&pod, "succeeded", |s| {
            s.phase.as_deref() == Some("Succeeded")
        })
        .await;
    let ended = first(&status)
        .state
        .clone()
        .and_then(|s| s.terminated)
        .expect("terminated");
    assert_eq!(ended.message.as_deref(), Some("one\nside\ntwo\napp\n"));
    let side = &status
        .init_container_statuses
        .as_ref()
        .expect("init statuses")[1];
    assert!(
        side.state.as_ref().is_some_and(|s| s.terminated.is_some()),
        "the sidecar ends with the pod"
    );
    node.delete(&worker, &pod, 30).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_backs_off() {
    let node = Node::new("noimage");
    let pod = pod(
        "noimage",
        json!({"containers": [{"name": "c", "image": "missing:1"}]}),
    );
    let worker = node.start(&pod);
    let reason = |s: &k8s_openapi::api::core::v1::PodStatus| {
        first(s)
            .state
            .as_ref()
            .and_then(|s| s.waiting.clone())
            .and_then(|w| w.reason)
    };
    node.wait(&pod, "failing to pull", |s| {
        reason(s).as_deref() == Some("ErrImagePull")
    })
    .await;
    node.wait(&pod, "in back-off", |s| {
        reason(s).as_deref() == Some("ImagePullBackOff")
    })
    .await;
    assert!(
        node.events("Failed")
            .iter()
            .any(|e| e.message.contains("not found"))
    );
    node.delete(&worker, &pod, 30).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_probes_decide_readiness_and_restarts() {
    let node = Node::new("probe");
    let mut container = shell(
        "c",
        "touch /tmp/live; sleep 1; touch /tmp/ready; sleep 1000",
    );
    container["readinessProbe"] =
        json!({"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1});
    container["livenessProbe"] = json!({"exec": {"command": ["cat", "/tmp/live"]}, "periodSeconds": 1, "failureThreshold": 1});
    let pod = pod(
        "probe",
        json!({"terminationGracePeriodSeconds": 1, "containers": [container]}),
    );
    let worker = node.start(&pod);
    node.wait(&pod, "running and unready", |s| {
        is_running(s) && !first(s).ready
    })
    .await;
    let status = node.wait(&pod, "ready", |s| first(s).ready).await;
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "Ready")
        .expect("a condition");
    assert_eq!(ready.status, "True");
    let view = worker.view().expect("a view");
    let target = corten_node_agent::worker::container_of(
        &node.context.pod_dir("uid-probe"),
        "uid-probe",
        "c",
        0,
    );
    assert_eq!(view.containers[0].id, target.id);
    let command = ["rm".to_owned(), "/tmp/live".to_owned()];
    let output = node
        .context
        .runtime
        .exec_sync(&target, &command, None)
        .await
        .expect("exec");
    assert_eq!(output.expect("no timeout").code, 0);
    node.wait(&pod, "restarted", |s| {
        first(s).restart_count == 1 && is_running(s)
    })
    .await;
    assert!(
        node.events("Unhealthy")
            .iter()
            .any(|e| e.message.starts_with("Liveness probe failed: "))
    );
    assert_eq!(
        node.events("Killing")[0].message,
        "Container c failed liveness probe, will be restarted"
    );
    node.delete(&worker, &pod, 1).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_user_of_a_pod_reaches_its_volumes_below_closed_folders() {
    let node = Node::new("user");
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    let mut init = shell("i", "echo text > /v/file; mkdir -m 777 /v/open");
    init["volumeMounts"] = mount.clone();
    let mut container = shell("c", "cat /v/file && id -u > /v/open/id && cat /etc/hosts");
    container["volumeMounts"] = mount;
    container["securityContext"] = json!({"runAsUser": 1234, "runAsGroup": 1234});
    let pod = pod(
        "user",
        json!({"restartPolicy": "Never", "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [init], "containers": [container]}),
    );
    let worker = node.start(&pod);
    let status = node
        .wait(&pod, "over", |s| {
            matches!(s.phase.as_deref(), Some("Succeeded" | "Failed"))
        })
        .await;
    assert_eq!(status.phase.as_deref(), Some("Succeeded"), "{status:#?}");
    let id = node.context.pod_dir("uid-user").join("volumes/v/open/id");
    assert_eq!(std::fs::read_to_string(id).expect("file"), "1234\n");
    node.delete(&worker, &pod, 1).await;
    node.clean_up();
}
