//! Jobs and CronJobs: made, waited for, read, failed, held and begun by hand.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::has;

const IMAGE: &str = "--image=registry.test/web:1";

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    to_the_end(cluster)?;
    that_fails(cluster)?;
    from_cron(cluster)
}

fn wait(cluster: &Cluster, job: &str, condition: &str) -> Result<String> {
    let condition = format!("--for=condition={condition}");
    cluster.kubectl(&["wait", &condition, "--timeout=60s", job])
}

fn to_the_end(cluster: &Cluster) -> Result<()> {
    step("create job: runs to its end, tells its pods, and goes with them");
    let words = ["create", "job", "sums", IMAGE, "--", "echo", "done"];
    has(&cluster.kubectl(&words)?, &["job.batch/sums created"])?;
    wait(cluster, "job/sums", "complete")?;
    has(&cluster.kubectl(&["logs", "job/sums"])?, &["done"])?;
    let row = cluster.kubectl(&["get", "job", "sums"])?;
    has(&row, &["STATUS", "Complete", "1/1"])?;
    has(
        &cluster.kubectl(&["describe", "job", "sums"])?,
        &[
            "SuccessfulCreate",
            "Completed",
            "Job completed",
            "1 Succeeded",
        ],
    )?;
    let pods = ["get", "pods", "-l", "job-name=sums", "-o", "name"];
    ensure!(cluster.kubectl(&pods)?.lines().count() == 1);
    cluster.kubectl(&["delete", "job", "sums"])?;
    gone(cluster, &pods)
}

fn that_fails(cluster: &Cluster) -> Result<()> {
    step("a Job whose pods fail says so, and why");
    cluster.apply(
        "apiVersion: batch/v1
kind: Job
metadata: {name: bad}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: 'registry.test/web:1', command: [sh, -c, 'exit 3']}]
",
    )?;
    wait(cluster, "job/bad", "failed")?;
    has(
        &cluster.kubectl(&["get", "job", "bad"])?,
        &["Failed", "0/1"],
    )?;
    has(
        &cluster.kubectl(&["describe", "job", "bad"])?,
        &[
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ],
    )?;
    cluster.kubectl(&["delete", "job", "bad"])?;
    Ok(())
}

fn from_cron(cluster: &Cluster) -> Result<()> {
    step("a CronJob that is held starts nothing by itself, and a Job by hand");
    let words = [
        "create",
        "cronjob",
        "tick",
        IMAGE,
        "--schedule=* * * * *",
        "--",
        "date",
    ];
    has(&cluster.kubectl(&words)?, &["cronjob.batch/tick created"])?;
    cluster.kubectl(&[
        "patch",
        "cronjob",
        "tick",
        "-p",
        r#"{"spec":{"suspend":true}}"#,
    ])?;
    has(
        &cluster.kubectl(&["get", "cronjob", "tick"])?,
        &["* * * * *", "<none>", "True"],
    )?;
    let words = ["create", "job", "now", "--from=cronjob/tick"];
    has(&cluster.kubectl(&words)?, &["job.batch/now created"])?;
    wait(cluster, "job/now", "complete")?;
    let owner = "jsonpath={.metadata.ownerReferences[0].kind}";
    let owner = cluster.kubectl(&["get", "job", "now", "-o", owner])?;
    ensure!(owner == "CronJob", "{owner}");
    cluster.kubectl(&["delete", "cronjob", "tick"])?;
    gone(cluster, &["get", "jobs", "-o", "name"])
}

/// Until a list by name is empty.
fn gone(cluster: &Cluster, list: &[&str]) -> Result<()> {
    until(
        "what was owned to go",
        Duration::from_secs(30),
        || match cluster.kubectl(list) {
            Ok(names) if names.trim().is_empty() => Ok(()),
            Ok(names) => Err(names),
            Err(error) => Err(error.to_string()),
        },
    )
}
