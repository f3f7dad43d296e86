//! Verbs that only touch objects: no container runs here.

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::web;

use crate::has;

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    cluster.push(&web("1"), "web:1")?;
    cluster.push(&web("2"), "web:2")?;
    discover(cluster)?;
    read(cluster)?;
    write(cluster)?;
    edit(cluster)?;
    may(cluster)?;
    delete(cluster)
}

fn discover(cluster: &Cluster) -> Result<()> {
    step("version, api-resources, api-versions, explain");
    has(&cluster.kubectl(&["version"])?, &["Server Version: v1.35"])?;
    has(
        &cluster.kubectl(&["api-resources"])?,
        &[
            "configmaps",
            "deployments",
            "deploy",
            "endpointslices",
            "clusterroles",
        ],
    )?;
    has(
        &cluster.kubectl(&["api-resources", "--namespaced=false", "-o", "name"])?,
        &[
            "nodes",
            "namespaces",
            "clusterroles.rbac.authorization.k8s.io",
        ],
    )?;
    has(
        &cluster.kubectl(&["api-versions"])?,
        &["v1\n", "apps/v1", "rbac.authorization.k8s.io/v1"],
    )?;
    has(
        &cluster.kubectl(&["explain", "deployment.spec.strategy"])?,
        &["KIND:       Deployment", "rollingUpdate"],
    )?;
    has(
        &cluster.kubectl(&["explain", "pod.spec.containers", "--recursive"])?,
        &[
            "KIND:       Pod",
            "livenessProbe",
            "terminationGracePeriodSeconds",
        ],
    )
}

fn read(cluster: &Cluster) -> Result<()> {
    step("get: yaml, jsonpath, -l, --field-selector, custom columns");
    cluster.kubectl(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=colour=green",
    ])?;
    ensure!(
        cluster.kubectl(&["get", "cm", "settings", "-o", "jsonpath={.data.colour}"])? == "green",
        "jsonpath"
    );
    has(
        &cluster.kubectl(&["get", "cm", "settings", "-o", "yaml"])?,
        &["colour: green", "kind: ConfigMap"],
    )?;
    has(
        &cluster.kubectl(&["label", "cm", "settings", "team=a"])?,
        &["configmap/settings labeled"],
    )?;
    has(
        &cluster.kubectl(&["annotate", "cm", "settings", "note=hello"])?,
        &["configmap/settings annotated"],
    )?;
    let meta = cluster.get("cm", "settings")?["metadata"].clone();
    ensure!(
        meta["labels"]["team"] == "a" && meta["annotations"]["note"] == "hello",
        "{meta}"
    );
    let listed = |args: &[&str]| -> Result<String> {
        cluster.kubectl(&[&["get", "cm", "-o", "name"][..], args].concat())
    };
    ensure!(
        listed(&["-l", "team in (a,b)"])? == "configmap/settings\n",
        "by label"
    );
    ensure!(
        listed(&["-l", "team notin (a), team"])?.is_empty(),
        "by label, none"
    );
    ensure!(
        listed(&["--field-selector", "metadata.name=settings"])? == "configmap/settings\n",
        "by field"
    );
    has(
        &cluster.kubectl(&[
            "get",
            "cm",
            "settings",
            "-o",
            "custom-columns=C:.data.colour",
        ])?,
        &["C\n", "green"],
    )?;
    has(
        &cluster.kubectl(&["label", "cm", "settings", "team-"])?,
        &["configmap/settings unlabeled"],
    )?;
    ensure!(listed(&["-l", "team"])?.is_empty(), "the label is gone");
    has(&cluster.kubectl(&["get", "--raw", "/readyz"])?, &["ok"])
}

fn write(cluster: &Cluster) -> Result<()> {
    step("apply, diff, patch, replace");
    let map =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: '1', b: '2'}\n";
    has(&cluster.apply(map)?, &["configmap/applied created"])?;
    has(&cluster.apply(map)?, &["configmap/applied unchanged"])?;
    let changed = map.replace("b: '2'", "c: '3'");
    let diff = cluster.kubectl_output(&["diff", "-f", "-"], &changed)?;
    ensure!(
        diff.status.code() == Some(1),
        "a difference is exit code 1: {:?}",
        diff.status
    );
    has(
        &String::from_utf8_lossy(&diff.stdout),
        &["-  b: \"2\"", "+  c: \"3\""],
    )?;
    has(&cluster.apply(&changed)?, &["configured"])?;
    let same = cluster.kubectl_output(&["diff", "-f", "-"], &changed)?;
    ensure!(
        same.status.success() && same.stdout.is_empty(),
        "no difference is exit code 0: {:?}",
        same.status
    );
    let data = cluster.get("cm", "applied")?["data"].clone();
    ensure!(
        data == serde_json::json!({"a": "1", "c": "3"}),
        "apply removes what the manifest dropped: {data}"
    );
    has(
        &cluster.kubectl(&[
            "patch",
            "cm",
            "applied",
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/data/a","value":"9"}]"#,
        ])?,
        &["configmap/applied patched"],
    )?;
    ensure!(cluster.get("cm", "applied")?["data"]["a"] == "9", "patched");
    has(
        &cluster.kubectl_with(&["replace", "-f", "-"], map)?,
        &["configmap/applied replaced"],
    )?;
    ensure!(
        cluster.get("cm", "applied")?["data"]["b"] == "2",
        "replaced"
    );
    Ok(())
}

fn edit(cluster: &Cluster) -> Result<()> {
    step("edit");
    let mut command = cluster.lab().kubectl();
    command
        .env("KUBE_EDITOR", "sed -i s/green/blue/")
        .args(["edit", "cm", "settings"]);
    let out = command.output()?;
    ensure!(out.status.success(), "kubectl edit");
    has(
        &String::from_utf8_lossy(&out.stdout),
        &["configmap/settings edited"],
    )?;
    ensure!(
        cluster.get("cm", "settings")?["data"]["colour"] == "blue",
        "edited"
    );
    Ok(())
}

fn may(cluster: &Cluster) -> Result<()> {
    step("auth can-i, auth whoami");
    ensure!(
        cluster
            .kubectl(&["auth", "can-i", "create", "pods"])?
            .trim()
            == "yes",
        "the administrator may"
    );
    let no = cluster.kubectl_output(
        &[
            "auth",
            "can-i",
            "create",
            "pods",
            "--as=system:serviceaccount:default:default",
        ],
        "",
    )?;
    ensure!(
        String::from_utf8_lossy(&no.stdout).trim() == "no" && no.status.code() == Some(1),
        "an account without roles may not"
    );
    has(
        &cluster.kubectl(&["auth", "can-i", "--list"])?,
        &["Resources", "*.*"],
    )?;
    has(
        &cluster.kubectl(&["auth", "whoami"])?,
        &["Username", "system:masters"],
    )
}

fn delete(cluster: &Cluster) -> Result<()> {
    step("delete");
    has(
        &cluster.kubectl(&["delete", "cm", "applied"])?,
        &["configmap \"applied\" deleted"],
    )?;
    has(
        &cluster.kubectl_fails(&["get", "cm", "applied"], "")?,
        &["NotFound", "configmaps \"applied\" not found"],
    )?;
    has(
        &cluster.kubectl_fails(&["delete", "cm", "applied"], "")?,
        &["NotFound"],
    )?;
    ensure!(
        cluster
            .kubectl(&["delete", "cm", "applied", "--ignore-not-found"])?
            .is_empty(),
        "absent is fine when asked"
    );
    Ok(())
}
