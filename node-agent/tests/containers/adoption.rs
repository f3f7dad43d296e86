//! The agent's memory is lost; the containers are not. Killing the agent is played by dropping its runtime: nothing of it
//! runs on, no destructor of ours helps, and the supervisors are separate processes already.

use serde_json::json;

use crate::harness::{Node, first, is_running, pid_of, pod, shell};

#[test]
fn a_new_agent_adopts_running_containers() {
    let first_life = tokio::runtime::Runtime::new().expect("a runtime");
    let mut container = shell("c", "touch /tmp/ok; sleep 1000");
    container["readinessProbe"] =
        json!({"exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1});
    let pod = pod(
        "adopt",
        json!({"terminationGracePeriodSeconds": 1, "containers": [container]}),
    );
    let node = Node::new("adopt");
    let dir = node.dir.clone();
    let pid = first_life.block_on(async {
        let _worker = node.start(&pod);
        node.wait(&pod, "ready", |s| is_running(s) && first(s).ready)
            .await;
        pid_of(&node, &pod, "c", 0)
    });
    drop(node);
    first_life.shutdown_background();

    let second_life = tokio::runtime::Runtime::new().expect("a runtime");
    second_life.block_on(async {
        let node = Node::again("adopt", dir);
        let worker = node.start(&pod);
        let status = node
            .wait(&pod, "ready again", |s| is_running(s) && first(s).ready)
            .await;
        assert_eq!(first(&status).restart_count, 0);
        assert_eq!(pid_of(&node, &pod, "c", 0), pid);
        assert!(
            std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "the process lives on"
        );
        assert!(node.events("Started").is_empty(), "nothing was started");
        // The adopted container is still watched: its end is seen and it runs again.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        )
        .expect("kill");
        node.wait(&pod, "restarted", |s| {
            first(s).restart_count == 1 && is_running(s)
        })
        .await;
        assert_ne!(pid_of(&node, &pod, "c", 1), pid);
        node.delete(&worker, &pod, 1).await;
        node.clean_up();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_is_noticed() {
    let node = Node::new("nosuper");
    let pod = pod("nosuper", json!({"containers": [shell("c", "sleep 1000")]}));
    let worker = node.start(&pod);
    node.wait(&pod, "running", is_running).await;
    let pid = pid_of(&node, &pod, "c", 0);
    let dir = corten_node_agent::worker::container_of(
        &node.context.pod_dir("uid-nosuper"),
        "uid-nosuper",
        "c",
        0,
    )
    .dir;
    let supervisor = dir.started().expect("a record").supervisor_pid;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(supervisor),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("kill");
    let status = node
        .wait(&pod, "restarted", |s| {
            first(s).restart_count == 1 && is_running(s)
        })
        .await;
    let last = first(&status)
        .last_state
        .clone()
        .and_then(|s| s.terminated)
        .expect("a last state");
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
    assert_ne!(pid_of(&node, &pod, "c", 1), pid);
    node.delete(&worker, &pod, 1).await;
    node.clean_up();
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let first_life = tokio::runtime::Runtime::new().expect("a runtime");
    let mut init = shell("i", "echo run >> /v/runs");
    init["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let pod = pod(
        "reinit",
        json!({"terminationGracePeriodSeconds": 1, "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [init], "containers": [shell("c", "sleep 1000")]}),
    );
    let node = Node::new("reinit");
    let dir = node.dir.clone();
    let runs = node.context.pod_dir("uid-reinit").join("volumes/v/runs");
    let sandbox = node.context.pod_dir("uid-reinit").join("sandbox.json");
    first_life.block_on(async {
        let _worker = node.start(&pod);
        node.wait(&pod, "running", is_running).await;
    });
    drop(node);
    first_life.shutdown_background();
    assert_eq!(std::fs::read_to_string(&runs).expect("file"), "run\n");
    // As after a reboot: the record is of another boot.
    let text = std::fs::read_to_string(&sandbox).expect("a record");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("json");
    record["boot_id"] = json!("another");
    std::fs::write(&sandbox, record.to_string()).expect("write");

    let second_life = tokio::runtime::Runtime::new().expect("a runtime");
    second_life.block_on(async {
        let node = Node::again("reinit", dir);
        let worker = node.start(&pod);
        let again = |s: &k8s_openapi::api::core::v1::PodStatus| {
            is_running(s) && first(s).restart_count == 1
        };
        let status = node.wait(&pod, "running again", again).await;
        assert_eq!(std::fs::read_to_string(&runs).expect("file"), "run\nrun\n");
        let init = &status.init_container_statuses.as_ref().expect("init")[0];
        assert_eq!(init.restart_count, 1);
        node.delete(&worker, &pod, 1).await;
        node.clean_up();
    });
}
