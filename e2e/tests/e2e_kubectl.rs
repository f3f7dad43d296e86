//! kubectl, unmodified, verb by verb, against a small cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::web;
use corten_e2e::wait::until;

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box, tier: test}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: first
    image: registry.test/web:1
    command: [sh, -c, 'echo prepared > /shared/file']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: registry.test/web:1
    command: [sh, -c, \"trap 'exit 0' TERM; echo started; echo to-stderr >&2; while :; do sleep 1 & wait $!; done\"]
    env:
    - {name: FROM_MAP, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    volumeMounts: [{name: shared, mountPath: /shared}, {name: settings, mountPath: /settings}]
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
";

#[test]
fn every_verb_of_a_working_guide() {
    let cluster = Cluster::start("kubectl", 1, 2).expect("cluster");
    let steps: [fn(&Cluster) -> Result<()>; 5] =
        [objects, streams, workloads, crash_and_oom, nodes];
    for run in steps {
        run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn objects(cluster: &Cluster) -> Result<()> {
    step(
        "create, get in every form, label, annotate, edit, diff, apply, explain, api-resources, auth can-i, delete",
    );
    cluster.push(&web("1"), "web:1")?;
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
        &cluster.kubectl(&["explain", "deployment.spec.strategy"])?,
        &["KIND:       Deployment", "rollingUpdate"],
    )?;
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
    cluster.kubectl(&["label", "cm", "settings", "team=a"])?;
    cluster.kubectl(&["annotate", "cm", "settings", "note=hello"])?;
    has(
        &cluster.kubectl(&["get", "cm", "-l", "team in (a,b)"])?,
        &["settings"],
    )?;
    has(
        &cluster.kubectl(&["get", "cm", "--field-selector", "metadata.name=settings"])?,
        &["settings"],
    )?;
    let map =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: '1', b: '2'}\n";
    cluster.apply(map)?;
    let changed = map.replace("b: '2'", "c: '3'");
    let diff = cluster.kubectl_output(&["diff", "-f", "-"], &changed)?;
    has(
        &String::from_utf8_lossy(&diff.stdout),
        &["-  b: \"2\"", "+  c: \"3\""],
    )?;
    has(&cluster.apply(&changed)?, &["configured"])?;
    let data = cluster.get("cm", "applied")?["data"].clone();
    ensure!(
        data == serde_json::json!({"a": "1", "c": "3"}),
        "apply removes what the manifest dropped: {data}"
    );
    cluster.kubectl(&[
        "patch",
        "cm",
        "applied",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/data/a","value":"9"}]"#,
    ])?;
    ensure!(cluster.get("cm", "applied")?["data"]["a"] == "9", "patched");
    edit(cluster)?;
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
        String::from_utf8_lossy(&no.stdout).trim() == "no",
        "an account without roles may not"
    );
    cluster.kubectl(&["delete", "cm", "applied"])?;
    has(
        &cluster.kubectl_fails(&["get", "cm", "applied"], "")?,
        &["NotFound", "configmaps \"applied\" not found"],
    )
}

fn edit(cluster: &Cluster) -> Result<()> {
    let mut command = cluster.lab().kubectl();
    command
        .env("KUBE_EDITOR", "sed -i s/green/blue/")
        .args(["edit", "cm", "settings"]);
    ensure!(command.output()?.status.success(), "kubectl edit");
    ensure!(
        cluster.get("cm", "settings")?["data"]["colour"] == "blue",
        "edited"
    );
    Ok(())
}

fn streams(cluster: &Cluster) -> Result<()> {
    step(
        "a pod with an init container, environment and volumes: wait, wide, describe, events, watch",
    );
    let watched = cluster.dir().join("watched");
    let mut watch = cluster
        .lab()
        .kubectl()
        .args(["get", "pods", "-w"])
        .stdout(std::fs::File::create(&watched)?)
        .spawn()?;
    cluster.apply(POD)?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/box", "--timeout=90s"])?;
    let shown = cluster.kubectl(&["get", "pods", "-o", "wide"])?;
    has(&shown, &["box", "1/1", "Running", "10.244."])?;
    has(
        &cluster.kubectl(&["describe", "pod", "box"])?,
        &["Scheduled", "Pulled", "Created", "Started", "QoS Class"],
    )?;
    has(
        &cluster.kubectl(&["events", "--for", "pod/box"])?,
        &["Started"],
    )?;
    until("the watch saw it run", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(&watched).unwrap_or_default();
        if text.contains("Running") {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    watch.kill()?;
    watch.wait()?;
    step("logs, exec, cp, a terminal, port-forward");
    has(
        &cluster.kubectl(&["logs", "box"])?,
        &["started", "to-stderr"],
    )?;
    has(
        &cluster.kubectl(&["logs", "box", "--timestamps", "--tail=1"])?,
        &["T"],
    )?;
    let out = cluster.kubectl(&[
        "exec",
        "box",
        "--",
        "sh",
        "-c",
        "cat /shared/file /settings/colour; echo $FROM_MAP $NODE",
    ])?;
    has(&out, &["prepared", "blue", "h"])?;
    let code = cluster.kubectl_output(&["exec", "box", "--", "sh", "-c", "exit 7"], "")?;
    ensure!(
        code.status.code() == Some(7),
        "the exit code comes back: {:?}",
        code.status
    );
    ensure!(
        cluster.kubectl_with(&["exec", "-i", "box", "--", "cat"], "through stdin\n")?
            == "through stdin\n",
        "stdin"
    );
    let file = cluster.dir().join("copied");
    std::fs::write(&file, "copied content")?;
    cluster.kubectl(&["cp", &file.display().to_string(), "box:/tmp/copied"])?;
    ensure!(
        cluster.kubectl(&["exec", "box", "--", "cat", "/tmp/copied"])? == "copied content",
        "cp"
    );
    terminal(cluster)?;
    port_forward(cluster)
}

/// `exec -it` under a real terminal, made by script(1).
fn terminal(cluster: &Cluster) -> Result<()> {
    let kubectl = std::env::var("CORTEN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let inner = format!(
        "KUBECONFIG={} {kubectl} exec -it box -- sh -c 'test -t 0 && echo a-terminal'",
        cluster.lab().kubeconfig().display()
    );
    let out = cluster
        .lab()
        .beside("script")
        .args(["-qec", &inner, "/dev/null"])
        .output()?;
    has(&String::from_utf8_lossy(&out.stdout), &["a-terminal"])
}

fn port_forward(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["run", "web", "--image=registry.test/web:1", "--port=8080"])?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])?;
    let mut forward = cluster.lab().kubectl();
    let log = std::fs::File::create(cluster.dir().join("forward.log"))?;
    let mut forward = forward
        .args(["port-forward", "pod/web", "18080:8080"])
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let answer = until(
        "the forwarded port answers",
        Duration::from_secs(20),
        || {
            let out = cluster
                .lab()
                .beside("curl")
                .args(["-fsS", "-m", "2", "http://127.0.0.1:18080/"])
                .output();
            let out = out.map_err(|e| e.to_string())?;
            if out.status.success() {
                Ok(String::from_utf8_lossy(&out.stdout).into_owned())
            } else {
                Err("no answer".into())
            }
        },
    );
    forward.kill()?;
    forward.wait()?;
    has(&answer?, &["1 web"])
}

fn workloads(cluster: &Cluster) -> Result<()> {
    step("create deployment, scale, expose, set image, rollout, run, delete");
    cluster.kubectl(&[
        "create",
        "deployment",
        "site",
        "--image=registry.test/web:1",
        "--replicas=2",
    ])?;
    cluster.rolled_out("deployment/site", Duration::from_secs(90))?;
    cluster.kubectl(&[
        "expose",
        "deployment",
        "site",
        "--port=80",
        "--target-port=8080",
    ])?;
    let ip = cluster.get("service", "site")?["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    cluster.answers("h1", &format!("http://{ip}/"), Duration::from_secs(20))?;
    cluster.kubectl(&["scale", "deployment", "site", "--replicas=3"])?;
    cluster.rolled_out("deployment/site", Duration::from_secs(60))?;
    has(
        &cluster.kubectl(&["get", "deploy,rs"])?,
        &["3/3", "deployment.apps/site", "replicaset.apps/site-"],
    )?;
    cluster.kubectl(&["rollout", "restart", "deployment/site"])?;
    cluster.rolled_out("deployment/site", Duration::from_secs(120))?;
    cluster.kubectl(&[
        "delete",
        "deployment",
        "site",
        "--cascade=foreground",
        "--timeout=90s",
    ])?;
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

fn crash_and_oom(cluster: &Cluster) -> Result<()> {
    step("CrashLoopBackOff with logs --previous; OOMKilled with 137");
    let crash = "apiVersion: v1\nkind: Pod\nmetadata: {name: crash}\nspec:\n  containers:\n  - {name: c, image: 'registry.test/web:1', command: [sh, -c, 'echo run; exit 3']}\n";
    let oom = "apiVersion: v1\nkind: Pod\nmetadata: {name: oom}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: registry.test/web:1\n    command: [sh, -c, 'dd if=/dev/zero of=/dev/null bs=200M count=5']\n    resources: {limits: {memory: 32Mi}}\n";
    cluster.apply(crash)?;
    cluster.apply(oom)?;
    until("crash backs off", Duration::from_secs(60), || {
        let status =
            cluster.get("pod", "crash").map_err(|e| e.to_string())?["status"]["containerStatuses"]
                [0]
            .clone();
        let waits = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        if waits && status["lastState"]["terminated"]["exitCode"] == 3 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })?;
    has(
        &cluster.kubectl(&["logs", "crash", "--previous"])?,
        &["run"],
    )?;
    until("oom is killed", Duration::from_secs(60), || {
        let state =
            cluster.get("pod", "oom").map_err(|e| e.to_string())?["status"]["containerStatuses"][0]
                ["state"]
                .clone();
        let ended = &state["terminated"];
        if ended["reason"] == "OOMKilled" && ended["exitCode"] == 137 {
            Ok(())
        } else {
            Err(state.to_string())
        }
    })?;
    cluster.kubectl(&[
        "delete",
        "pod",
        "crash",
        "oom",
        "web",
        "box",
        "--timeout=90s",
    ])?;
    Ok(())
}

fn nodes(cluster: &Cluster) -> Result<()> {
    step("cordon, drain, uncordon");
    cluster.kubectl(&[
        "create",
        "deployment",
        "site",
        "--image=registry.test/web:1",
        "--replicas=4",
    ])?;
    cluster.rolled_out("deployment/site", Duration::from_secs(90))?;
    cluster.kubectl(&["cordon", "h2"])?;
    has(
        &cluster.kubectl(&["get", "nodes"])?,
        &["SchedulingDisabled"],
    )?;
    cluster.kubectl(&[
        "drain",
        "h2",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=120s",
    ])?;
    let pods = cluster.list("pods", "app=site")?;
    let there = pods
        .iter()
        .filter(|p| p["spec"]["nodeName"] == "h2" && p["metadata"]["deletionTimestamp"].is_null());
    ensure!(there.count() == 0, "h2 is empty");
    cluster.kubectl(&["uncordon", "h2"])?;
    cluster.rolled_out("deployment/site", Duration::from_secs(60))?;
    cluster.kubectl(&["create", "namespace", "short"])?;
    cluster.kubectl(&["-n", "short", "create", "configmap", "x"])?;
    cluster.kubectl(&["delete", "namespace", "short", "--timeout=60s"])?;
    Ok(())
}
