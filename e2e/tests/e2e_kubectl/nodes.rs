//! Nodes taken out of service and back; a namespace deleted with what is in it.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};

use crate::has;

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    step("cordon, drain, uncordon, taint");
    cluster.kubectl(&[
        "create",
        "deployment",
        "site",
        "--image=registry.test/web:1",
        "--replicas=4",
    ])?;
    cluster.rolled_out("deployment/site", Duration::from_secs(90))?;
    has(&cluster.kubectl(&["cordon", "h2"])?, &["node/h2 cordoned"])?;
    has(
        &cluster.kubectl(&["get", "nodes"])?,
        &["SchedulingDisabled"],
    )?;
    has(
        &cluster.kubectl(&[
            "drain",
            "h2",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=120s",
        ])?,
        &["evicting pod default/site-", "node/h2 drained"],
    )?;
    let pods = cluster.list("pods", "app=site")?;
    let there = pods
        .iter()
        .filter(|p| p["spec"]["nodeName"] == "h2" && p["metadata"]["deletionTimestamp"].is_null());
    ensure!(there.count() == 0, "h2 is empty");
    has(
        &cluster.kubectl(&["uncordon", "h2"])?,
        &["node/h2 uncordoned"],
    )?;
    cluster.rolled_out("deployment/site", Duration::from_secs(60))?;
    has(
        &cluster.kubectl(&["describe", "node", "h2"])?,
        &[
            "Conditions:",
            "MemoryPressure",
            "Allocatable:",
            "Non-terminated Pods:",
        ],
    )?;
    step("delete a namespace with what is in it");
    cluster.kubectl(&["create", "namespace", "short"])?;
    cluster.kubectl(&["-n", "short", "create", "configmap", "x"])?;
    has(
        &cluster.kubectl(&["delete", "namespace", "short", "--timeout=60s"])?,
        &["namespace \"short\" deleted"],
    )?;
    has(
        &cluster.kubectl_fails(&["get", "namespace", "short"], "")?,
        &["NotFound"],
    )
}
