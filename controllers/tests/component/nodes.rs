//! Nodes: ranges for their pods, and what becomes of one that falls silent.

use corten_client::client::{DeleteOptions, Patch};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use serde_json::{Value, json};

use crate::harness::{Cluster, start, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_get_ranges_of_their_own() {
    let cluster = start(|_| {}).await;
    for name in ["n1", "n2", "n3"] {
        cluster
            .create::<Node>(json!({"metadata": {"name": name}}))
            .await;
    }
    let range = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
    let nodes = cluster
        .wait::<Node>("ranges", "", |nodes| {
            nodes.iter().all(|node| range(node).is_some())
        })
        .await;
    let mut ranges: Vec<String> = nodes.iter().filter_map(range).collect();
    ranges.sort();
    assert_eq!(ranges, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]);
    // A range that is free again is given again.
    let first = nodes
        .iter()
        .find(|node| range(node).as_deref() == Some("10.244.0.0/24"))
        .and_then(|node| node.metadata.name.clone())
        .expect("found");
    cluster
        .delete::<Node>("", &first, &DeleteOptions::default())
        .await;
    cluster
        .create::<Node>(json!({"metadata": {"name": "n4"}}))
        .await;
    cluster
        .wait::<Node>("a range for the new node", "", |nodes| {
            nodes.iter().all(|node| range(node).is_some())
        })
        .await;
}

fn now() -> String {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string()
}

fn ready() -> Value {
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": time, "lastTransitionTime": time}]})
}

async fn register(cluster: &Cluster, name: &str) {
    cluster
        .create::<Node>(json!({"metadata": {"name": name}}))
        .await;
    cluster.merge_status::<Node>("", name, ready()).await;
    cluster
        .create::<Lease>(
            json!({"metadata": {"namespace": "kube-node-lease", "name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()}}),
        )
        .await;
}

async fn renew(cluster: &Cluster, name: &str) {
    let patch = Patch::Merge(json!({"spec": {"renewTime": now()}}));
    let renewed = cluster
        .client
        .patch::<Lease>("kube-node-lease", name, &patch)
        .await;
    renewed.expect("renewed");
}

async fn pod(cluster: &Cluster, name: &str, node: &str, patience: i64) {
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": patience});
    cluster
        .create::<Pod>(json!({"metadata": {"namespace": "default", "name": name}, "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "i"}],
            "tolerations": [toleration("node.kubernetes.io/unreachable"), toleration("node.kubernetes.io/not-ready")]}}))
        .await;
}

fn ready_status(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|it| it.type_ == "Ready")?;
    Some(ready.status.clone())
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let mut taints: Vec<String> = taints
        .into_iter()
        .flatten()
        .map(|taint| format!("{}:{}", taint.key, taint.effect))
        .collect();
    taints.sort();
    taints
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_marked_and_its_pods_move_on() {
    let cluster = start(|config| config.node_monitor_grace_period = Some("3s".to_owned())).await;
    cluster
        .wait::<ServiceAccount>("the default account", "default", |all| !all.is_empty())
        .await;
    for name in ["silent", "alive"] {
        register(&cluster, name).await;
    }
    pod(&cluster, "leaves", "silent", 1).await;
    pod(&cluster, "stays", "silent", 600).await;
    pod(&cluster, "elsewhere", "alive", 1).await;
    let node = async |name: &str| -> Node { cluster.client.get("", name).await.expect("read") };
    until("the silent node is marked", async || {
        renew(&cluster, "alive").await;
        let silent = node("silent").await;
        let marked = ready_status(&silent).as_deref() == Some("Unknown")
            && taints(&silent)
                == [
                    "node.kubernetes.io/unreachable:NoExecute",
                    "node.kubernetes.io/unreachable:NoSchedule",
                ];
        marked.then_some(())
    })
    .await;
    let leaves = until("its pod is asked to go", async || {
        renew(&cluster, "alive").await;
        let pod: Pod = cluster.client.get("default", "leaves").await.expect("read");
        pod.metadata.deletion_timestamp.is_some().then_some(pod)
    })
    .await;
    let conditions = leaves
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let marked = conditions.iter().find(|it| it.type_ == "DisruptionTarget");
    assert_eq!(
        marked.and_then(|it| it.reason.as_deref()),
        Some("DeletionByTaintManager")
    );
    // The one with more patience is only not ready any more, so that no Service sends to it.
    let stays: Pod = cluster.client.get("default", "stays").await.expect("read");
    assert!(stays.metadata.deletion_timestamp.is_none());
    let elsewhere: Pod = cluster
        .client
        .get("default", "elsewhere")
        .await
        .expect("read");
    assert!(elsewhere.metadata.deletion_timestamp.is_none());
    let alive = node("alive").await;
    assert_eq!(ready_status(&alive).as_deref(), Some("True"));
    assert_eq!(taints(&alive), Vec::<String>::new());

    // It speaks again.
    cluster.merge_status::<Node>("", "silent", ready()).await;
    until("the marks are taken off", async || {
        renew(&cluster, "alive").await;
        renew(&cluster, "silent").await;
        let silent = node("silent").await;
        let well = ready_status(&silent).as_deref() == Some("True") && taints(&silent).is_empty();
        well.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_node_that_is_no_more_are_collected() {
    let cluster = start(|_| {}).await;
    cluster
        .wait::<ServiceAccount>("the default account", "default", |all| !all.is_empty())
        .await;
    register(&cluster, "n1").await;
    pod(&cluster, "a", "n1", 600).await;
    cluster
        .delete::<Node>("", "n1", &DeleteOptions::default())
        .await;
    until("the pod goes", async || {
        let left = cluster
            .client
            .get_opt::<Pod>("default", "a")
            .await
            .expect("read");
        left.is_none().then_some(())
    })
    .await;
}
