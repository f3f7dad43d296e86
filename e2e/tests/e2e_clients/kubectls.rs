//! kubectl of the two versions before ours and the two after it: the daily verbs; and what kustomize builds.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::{client, has, said};

const VERSIONS: &[&str] = &["1.33", "1.34", "1.36", "1.37"];

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    let files = cluster.dir().join("kubectls");
    std::fs::create_dir_all(&files)?;
    for (name, text) in [("app.yaml", APP), ("kustomization.yaml", KUSTOMIZATION)] {
        std::fs::write(files.join(name), text)?;
    }
    let folder = files.display().to_string();
    for version in VERSIONS {
        step(&format!("kubectl {version}"));
        verbs(cluster, version, &folder)?;
    }
    step("kustomize");
    let mut command = client(cluster, "kustomize");
    command.args(["build", &folder]);
    let built = said(command)?;
    has(&built, &["name: site-words-", "team: blue"])?;
    has(
        &cluster.apply(&built)?,
        &["deployment.apps/site created", "configmap/site-words-"],
    )?;
    cluster.kubectl(&["rollout", "status", "deploy/site", "--timeout=60s"])?;
    cluster
        .kubectl(&["delete", "-k", &folder, "--wait=true"])
        .map(drop)
}

fn verbs(cluster: &Cluster, version: &str, folder: &str) -> Result<()> {
    let kubectl = |args: &[&str]| {
        let mut command = client(cluster, &format!("kubectl-{version}"));
        command.args(args);
        said(command)
    };
    has(
        &kubectl(&["version"])?,
        &[
            &format!("Client Version: v{version}."),
            "Server Version: v1.35",
        ],
    )?;
    has(
        &kubectl(&["apply", "-k", folder])?,
        &["deployment.apps/site created"],
    )?;
    kubectl(&["rollout", "status", "deploy/site", "--timeout=60s"])?;
    has(
        &kubectl(&["apply", "-k", folder])?,
        &["deployment.apps/site unchanged"],
    )?;
    has(
        &kubectl(&["apply", "--server-side", "--force-conflicts", "-k", folder])?,
        &["deployment.apps/site serverside-applied"],
    )?;
    has(
        &kubectl(&["get", "pods", "-l", "team=blue", "-o", "wide"])?,
        &["site-", "Running"],
    )?;
    has(
        &kubectl(&["describe", "deploy/site"])?,
        &["ScalingReplicaSet"],
    )?;
    kubectl(&["set", "image", "deploy/site", "web=registry.test/web:2"])?;
    kubectl(&["rollout", "status", "deploy/site", "--timeout=60s"])?;
    has(
        &kubectl(&["rollout", "history", "deploy/site"])?,
        &["1 ", "2 "],
    )?;
    kubectl(&["rollout", "undo", "deploy/site"])?;
    kubectl(&["rollout", "status", "deploy/site", "--timeout=60s"])?;
    // A pod that still ends is one that `exec` and `logs` may choose.
    until("the old pod is gone", Duration::from_secs(20), || {
        let pods = kubectl(&["get", "pods", "-l", "app=site", "-o", "name"]);
        let pods = pods.map_err(|error| error.to_string())?;
        if pods.lines().count() == 1 {
            Ok(())
        } else {
            Err(pods)
        }
    })?;
    has(
        &kubectl(&["exec", "deploy/site", "--", "sh", "-c", "echo $VERSION"])?,
        &["1"],
    )?;
    has(&kubectl(&["logs", "deploy/site"])?, &["serving 1"])?;
    has(
        &kubectl(&["explain", "deploy.spec.strategy.rollingUpdate"])?,
        &["maxSurge"],
    )?;
    has(&kubectl(&["api-resources"])?, &["deployments", "apps/v1"])?;
    has(&kubectl(&["events"])?, &["ScalingReplicaSet"])?;
    ensure!(
        kubectl(&["diff", "-k", folder])?.is_empty(),
        "a difference after undo"
    );
    has(&kubectl(&["delete", "-k", folder])?, &["\"site\" deleted"])?;
    has(&kubectl(&["auth", "can-i", "--list"])?, &["*.*"])
}

const APP: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: site
spec:
  selector: {matchLabels: {app: site}}
  template:
    metadata: {labels: {app: site}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: registry.test/web:1
        envFrom:
        - configMapRef: {name: site-words}
";

const KUSTOMIZATION: &str = "resources: [app.yaml]
labels:
- pairs: {team: blue}
  includeTemplates: true
configMapGenerator:
- name: site-words
  literals: [word=hello]
";
