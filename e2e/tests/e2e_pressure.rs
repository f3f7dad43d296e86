//! A node that runs short of memory: the pod that takes more than it asked for is evicted, the modest one stays, the node is
//! marked and left alone by the scheduler, and recovers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten::lab::Shape;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::web;
use corten_e2e::wait::until;

/// What pods of h2 may use together.
const ALLOCATABLE_MIB: i64 = 400;

const PODS: &str = "apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  nodeName: h2
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: registry.test/web:1
    resources: {requests: {memory: 64Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  nodeName: h2
  terminationGracePeriodSeconds: 300
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'trap \"\" TERM; dd if=/dev/zero of=/memory/full bs=1M count=330; while :; do sleep 1; done']
    volumeMounts: [{name: memory, mountPath: /memory}]
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
";

const LATER: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: later}
spec:
  replicas: 3
  selector: {matchLabels: {app: later}}
  template:
    metadata: {labels: {app: later}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: 'registry.test/web:1'}]}
";

#[test]
fn a_node_short_of_memory_evicts_and_recovers() {
    let shape = Shape {
        members: 1,
        nodes: 2,
        segments: 1,
    };
    let cluster = Cluster::prepare("pressure", shape).expect("lab");
    narrow(&cluster).expect("settings");
    let cluster = cluster.run().expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Leaves little memory to the pods of h2, and lets its conditions follow quickly.
fn narrow(cluster: &Cluster) -> Result<()> {
    let file = cluster.dir().join("h2/config/node-agent.toml");
    let text = std::fs::read_to_string(&file)?;
    let total = std::fs::read_to_string("/proc/meminfo")?
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<i64>()
                .ok()
        })
        .context("MemTotal")?;
    let reserved = total * 1024 - (ALLOCATABLE_MIB << 20);
    let changed = text
        .replace(
            "reserved_memory_bytes = 0",
            &format!("reserved_memory_bytes = {reserved}"),
        )
        .replace("pressure_hold_seconds = 300", "pressure_hold_seconds = 15");
    ensure!(
        changed.matches(&reserved.to_string()).count() == 1,
        "{text}"
    );
    Ok(std::fs::write(&file, changed)?)
}

fn condition(cluster: &Cluster) -> Result<String> {
    let path = "jsonpath={.status.conditions[?(@.type==\"MemoryPressure\")].status}";
    cluster.kubectl(&["get", "node", "h2", "-o", path])
}

fn until_condition(cluster: &Cluster, wanted: &str) -> Result<()> {
    until(
        &format!("MemoryPressure {wanted}"),
        Duration::from_secs(90),
        || {
            let status = condition(cluster).map_err(|e| e.to_string())?;
            let taints = cluster
                .field("node", "h2", "/spec/taints")
                .map_err(|e| e.to_string())?;
            let tainted = taints.contains("node.kubernetes.io/memory-pressure");
            if status == wanted && tainted == (wanted == "True") {
                Ok(())
            } else {
                Err(format!("{status} {taints}"))
            }
        },
    )
}

fn run(cluster: &Cluster) -> Result<()> {
    cluster.push(&web("1"), "web:1")?;
    ensure!(condition(cluster)? == "False", "nothing is short yet");
    cluster.apply(PODS)?;
    cluster.ready(&["modest"], Duration::from_secs(60))?;
    step("the pod that uses more than it requests is evicted at once");
    let status = until("the hog is evicted", Duration::from_secs(60), || {
        let status = cluster.get("pod", "hog").map_err(|e| e.to_string())?["status"].clone();
        if status["phase"] == "Failed" && status["reason"] == "Evicted" {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("low on resource: memory"), "{message}");
    let conditions = status["conditions"].to_string();
    ensure!(
        conditions.contains("DisruptionTarget") && conditions.contains("TerminationByKubelet"),
        "{conditions}"
    );
    let events = cluster.kubectl(&["events", "--for", "pod/hog"])?;
    ensure!(events.contains("Evicted"), "{events}");
    let shown = cluster.kubectl(&["get", "pod", "hog"])?;
    ensure!(
        shown.contains("Evicted") || shown.contains("Error"),
        "{shown}"
    );
    step("the node says so, is tainted, and gets no new pods without requests");
    until_condition(cluster, "True")?;
    cluster.apply(LATER)?;
    cluster.rolled_out("deployment/later", Duration::from_secs(60))?;
    for pod in cluster.list("pods", "app=later")? {
        ensure!(
            pod["spec"]["nodeName"] == "h1",
            "{}",
            pod["spec"]["nodeName"]
        );
    }
    step("it recovers, and the modest pod never noticed");
    until_condition(cluster, "False")?;
    let modest = cluster.get("pod", "modest")?["status"].clone();
    ensure!(
        modest["phase"] == "Running" && modest["containerStatuses"][0]["restartCount"] == 0,
        "{modest}"
    );
    Ok(())
}
