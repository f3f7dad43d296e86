//! Pods as users of a Kubernetes guide know them, on a real node with real containers and real kubectl: what they are given,
//! what becomes of them when they fail, and how they are watched, helped and ended.

mod debug;
mod environment;
mod failing;
mod probes;
mod security;
mod stopping;
mod volumes;

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::Cluster;
use corten_e2e::image::{tools, web};
use corten_e2e::wait::until;
use serde_json::Value;

/// How long something may take that needs a pull, a start, or a round of the agent.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn pods_behave_as_guides_say() {
    let cluster = Cluster::start("pods", 1, 1).expect("cluster");
    cluster.push(&web("1"), "web:1").expect("image");
    cluster.push(&tools("1"), "tools:1").expect("image");
    let steps: [fn(&Cluster) -> Result<()>; 7] = [
        failing::run,
        probes::run,
        stopping::run,
        environment::run,
        volumes::run,
        security::run,
        debug::run,
    ];
    for run in steps {
        run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Creates objects, and fails as kubectl does.
fn create(cluster: &Cluster, manifest: &str) -> Result<()> {
    cluster
        .kubectl_with(&["create", "-f", "-"], manifest)
        .map(drop)
}

/// The status of a pod's first app container.
fn container(cluster: &Cluster, pod: &str) -> Result<Value> {
    Ok(cluster.get("pod", pod)?["status"]["containerStatuses"][0].clone())
}

/// Waits until the first container's status is as wanted, and returns it.
fn until_container(
    cluster: &Cluster,
    pod: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    until(&format!("{pod} is {what}"), SOON, || {
        let status = container(cluster, pod).map_err(|e| format!("{e:#}"))?;
        if wanted(&status) {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })
}

/// Waits until a pod is over, and returns its log.
fn outcome(cluster: &Cluster, pod: &str) -> Result<String> {
    until_container(cluster, pod, "over", |status| {
        status["state"]["terminated"].is_object()
    })?;
    cluster.kubectl(&["logs", pod])
}

fn delete(cluster: &Cluster, pods: &[&str]) -> Result<()> {
    let fixed = ["delete", "pod", "--wait=false", "--grace-period=1"];
    cluster.kubectl(&[&fixed[..], pods].concat()).map(drop)
}

fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}
