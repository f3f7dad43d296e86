//! Another size for a container that runs: what its groups and its status show, a limit that is too small, and restarts.

use corten_node_agent::pod::Event;
use corten_node_agent::pod::resize::{Allocation, Verdict};
use corten_node_agent::spec::resources::{group_of, of_pod};
use corten_node_agent::worker::{self, WorkerHandle};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::json;

use crate::harness::{Node, first, is_running, pid_of, pod, shell};

/// The pod with a container of this size.
fn sized(cpu: &str, memory: &str, policy: &str) -> Pod {
    let mut container = shell("c", "sleep 1000");
    let amounts = json!({"cpu": cpu, "memory": memory});
    container["resources"] = json!({"requests": amounts, "limits": amounts});
    container["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": policy}]);
    pod(
        "resize",
        json!({"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1, "containers": [container]}),
    )
}

async fn promise(worker: &WorkerHandle, pod: &Pod) {
    let verdict = Verdict::Allocated {
        allocation: Allocation::of(pod),
        generation: Some(2),
    };
    worker.send(Event::Resize(verdict)).await;
}

/// Whether the status tells of no resize, and shows this size.
fn has(status: &PodStatus, pod: &Pod) -> bool {
    let resources = &pod.spec.as_ref().expect("a spec").containers[0].resources;
    let mut conditions = status.conditions.iter().flatten();
    is_running(status)
        && &first(status).resources == resources
        && !conditions.any(|condition| condition.type_.starts_with("PodResize"))
}

/// The limits of both groups are those of the pod.
fn check_groups(node: &Node, pod: &Pod, attempt: u32) {
    let uid = pod.metadata.uid.as_deref().expect("a uid");
    let group = node.context.pod_cgroup(uid);
    let cgroups = &node.context.cgroups;
    assert_eq!(
        cgroups.limits(&group),
        cgroups.as_read(&of_pod(pod, None)),
        "the pod's"
    );
    let container = worker::container_of(&node.context.pod_dir(uid), uid, "c", attempt);
    let resources = &pod.spec.as_ref().expect("a spec").containers[0].resources;
    let wanted = group_of(resources.as_ref().expect("resources"));
    assert_eq!(
        cgroups.limits(&format!("{group}/{}", container.id)),
        cgroups.as_read(&wanted),
        "the container's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_is_resized() {
    let node = Node::new("resize");
    let small = sized("50m", "32Mi", "NotRequired");
    let worker = node.start(&small);
    node.wait(&small, "running", |s| has(s, &small)).await;
    check_groups(&node, &small, 0);
    let process = pid_of(&node, &small, "c", 0);
    let large = sized("200m", "64Mi", "NotRequired");
    for size in [&large, &small, &large] {
        promise(&worker, size).await;
        node.wait(&small, "resized", |s| has(s, size)).await;
        check_groups(&node, size, 0);
    }
    assert_eq!(pid_of(&node, &small, "c", 0), process);
    assert_eq!(node.events("ResizeCompleted").len(), 3);

    // Less than it uses: refused, and what it has stays.
    promise(&worker, &sized("200m", "4Ki", "NotRequired")).await;
    let status = node
        .wait(&small, "refused", |s| {
            let mut conditions = s.conditions.iter().flatten();
            conditions
                .any(|c| c.type_ == "PodResizeInProgress" && c.reason.as_deref() == Some("Error"))
        })
        .await;
    let shown = serde_json::to_string(&status).expect("json");
    assert!(
        shown.contains("memory limit (4096) below current usage ("),
        "{shown}"
    );
    check_groups(&node, &large, 0);

    // What was promised last counts, whatever became of the one before.
    promise(&worker, &small).await;
    node.wait(&small, "resized", |s| has(s, &small)).await;

    let again = sized("200m", "64Mi", "RestartContainer");
    worker
        .send(Event::Updated(std::sync::Arc::new(again.clone())))
        .await;
    promise(&worker, &again).await;
    let status = node.wait(&small, "restarted", |s| has(s, &again)).await;
    assert_eq!(first(&status).restart_count, 1);
    check_groups(&node, &again, 1);
    // Back to the smaller size, while the group of the run before may still be there.
    let less = sized("50m", "32Mi", "RestartContainer");
    promise(&worker, &less).await;
    let status = node.wait(&small, "restarted", |s| has(s, &less)).await;
    assert_eq!(first(&status).restart_count, 2);
    check_groups(&node, &less, 2);
    let errors = node.events("ResizeError");
    assert_eq!(errors.len(), 1, "only the one from above: {errors:#?}");
    node.delete(&worker, &small, 1).await;
    node.clean_up();
}
