//! A Deployment through its life: made, scaled, exposed, changed, paused, undone, restarted, deleted.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::has;
use crate::streams::forwarded;

const ROLLOUT: Duration = Duration::from_secs(120);

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    create_and_expose(cluster)?;
    roll(cluster)?;
    delete(cluster)
}

fn create_and_expose(cluster: &Cluster) -> Result<()> {
    step("create deployment, expose, scale, port-forward to a Service");
    has(
        &cluster.kubectl(&[
            "create",
            "deployment",
            "site",
            "--image=registry.test/web:1",
            "--replicas=2",
        ])?,
        &["deployment.apps/site created"],
    )?;
    cluster.rolled_out("deployment/site", ROLLOUT)?;
    has(
        &cluster.kubectl(&[
            "expose",
            "deployment",
            "site",
            "--port=80",
            "--target-port=8080",
        ])?,
        &["service/site exposed"],
    )?;
    let ip = cluster.get("service", "site")?["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    cluster.answers("h1", &format!("http://{ip}/"), Duration::from_secs(20))?;
    has(
        &forwarded(cluster, "service/site", "18081:80", 18081)?,
        &["1 site-"],
    )?;
    has(
        &cluster.kubectl(&["scale", "deployment", "site", "--replicas=3"])?,
        &["deployment.apps/site scaled"],
    )?;
    cluster.rolled_out("deployment/site", ROLLOUT)?;
    has(
        &cluster.kubectl(&["get", "deploy,rs"])?,
        &["3/3", "deployment.apps/site", "replicaset.apps/site-"],
    )?;
    has(
        &cluster.kubectl_fails(
            &[
                "scale",
                "deployment",
                "site",
                "--current-replicas=7",
                "--replicas=1",
            ],
            "",
        )?,
        &["7"],
    )?;
    ensure!(
        cluster.get("deployment", "site")?["spec"]["replicas"] == 3,
        "a wrong --current-replicas changes nothing"
    );
    Ok(())
}

fn roll(cluster: &Cluster) -> Result<()> {
    step("set image, rollout status, history, pause, resume, undo, restart");
    has(
        &cluster.kubectl(&["set", "image", "deployment/site", "web=registry.test/web:2"])?,
        &["deployment.apps/site image updated"],
    )?;
    let limit = format!("--timeout={}s", ROLLOUT.as_secs());
    has(
        &cluster.kubectl(&["rollout", "status", "deployment/site", &limit])?,
        &["deployment \"site\" successfully rolled out"],
    )?;
    let ip = cluster.get("service", "site")?["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    until("the new version answers", Duration::from_secs(20), || {
        let text = cluster
            .curl("h2", &format!("http://{ip}/"))
            .map_err(|e| e.to_string())?;
        if text.starts_with("2 ") {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    has(
        &cluster.kubectl(&["rollout", "history", "deployment/site"])?,
        &["REVISION", "\n1 ", "\n2 "],
    )?;
    has(
        &cluster.kubectl(&["rollout", "history", "deployment/site", "--revision=1"])?,
        &["registry.test/web:1"],
    )?;
    has(
        &cluster.kubectl(&["rollout", "pause", "deployment/site"])?,
        &["deployment.apps/site paused"],
    )?;
    cluster.kubectl(&["set", "env", "deployment/site", "EXTRA=1"])?;
    ensure!(
        cluster.list("rs", "app=site")?.len() == 2,
        "paused: no new ReplicaSet"
    );
    has(
        &cluster.kubectl(&["rollout", "resume", "deployment/site"])?,
        &["deployment.apps/site resumed"],
    )?;
    cluster.rolled_out("deployment/site", ROLLOUT)?;
    ensure!(
        cluster.list("rs", "app=site")?.len() == 3,
        "resumed: a new ReplicaSet"
    );
    has(
        &cluster.kubectl(&["rollout", "undo", "deployment/site", "--to-revision=1"])?,
        &["deployment.apps/site rolled back"],
    )?;
    cluster.rolled_out("deployment/site", ROLLOUT)?;
    let image =
        cluster.get("deployment", "site")?["spec"]["template"]["spec"]["containers"][0]["image"]
            .clone();
    ensure!(image == "registry.test/web:1", "undone: {image}");
    has(
        &cluster.kubectl(&["rollout", "restart", "deployment/site"])?,
        &["deployment.apps/site restarted"],
    )?;
    cluster.rolled_out("deployment/site", ROLLOUT)
}

fn delete(cluster: &Cluster) -> Result<()> {
    step("delete in the foreground");
    has(
        &cluster.kubectl(&[
            "delete",
            "deployment",
            "site",
            "--cascade=foreground",
            "--timeout=90s",
        ])?,
        &["deployment.apps \"site\" deleted"],
    )?;
    until("nothing of it is left", Duration::from_secs(60), || {
        let left = cluster
            .kubectl(&["get", "rs,pods", "-l", "app=site", "-o", "name"])
            .map_err(|e| e.to_string())?;
        if left.trim().is_empty() {
            Ok(())
        } else {
            Err(left)
        }
    })
}
