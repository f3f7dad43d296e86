//! A pod looked at from outside while it runs: watch, describe, wait, events, logs, exec, cp, attach, port-forward.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::background::Background;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::has;

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

/// Pods that listen on their standard input, one of them at a terminal.
const LISTENERS: &str = "apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: registry.test/web:1
    stdin: true
    command: [sh, -c, 'echo ready; while read line; do echo \"got $line\"; done']
---
apiVersion: v1
kind: Pod
metadata: {name: term}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: registry.test/web:1
    stdin: true
    tty: true
    command: [sh]
";

const LINES: &str = "apiVersion: v1
kind: Pod
metadata: {name: lines}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: registry.test/web:1
    command: [sh, -c, 'for i in 1 2 3 4 5 6; do echo line-$i; sleep 0.5; done']
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  containers:
  - name: main
    image: registry.test/web:1
    command: [sh, -c, 'echo run-of-it; exit 3']
";

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    look(cluster)?;
    logs(cluster)?;
    exec(cluster)?;
    copy(cluster)?;
    attach(cluster)?;
    attach_terminal(cluster)?;
    step("port-forward to a pod");
    cluster.kubectl(&["run", "web", "--image=registry.test/web:1", "--port=8080"])?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])?;
    has(
        &forwarded(cluster, "pod/web", "18080:8080", 18080)?,
        &["1 web"],
    )?;
    cluster.kubectl(&[
        "delete",
        "pod",
        "web",
        "box",
        "talk",
        "term",
        "lines",
        "again",
        "--timeout=90s",
    ])?;
    Ok(())
}

fn look(cluster: &Cluster) -> Result<()> {
    step("get -w, wait, get -o wide, describe, events");
    let mut watch = Background::kubectl(cluster, "watched", &["get", "pods", "-w"])?;
    cluster.apply(POD)?;
    has(
        &cluster.kubectl(&["wait", "--for=condition=Ready", "pod/box", "--timeout=90s"])?,
        &["pod/box condition met"],
    )?;
    let shown = cluster.kubectl(&["get", "pods", "-o", "wide"])?;
    has(&shown, &["NODE", "box", "1/1", "Running", "10.244."])?;
    has(
        &cluster.kubectl(&["describe", "pod", "box"])?,
        &[
            "Scheduled",
            "Pulled",
            "Created",
            "Started",
            "QoS Class",
            "Init Containers:",
            "ContainersReady",
        ],
    )?;
    has(
        &cluster.kubectl(&["events", "--for", "pod/box"])?,
        &["REASON", "Scheduled", "Started"],
    )?;
    watch.until_it_says("Running")?;
    watch.until_it_says("Init:")?;
    watch.end()
}

fn logs(cluster: &Cluster) -> Result<()> {
    step("logs: both streams, --timestamps, --tail, -f to the end, --previous");
    has(
        &cluster.kubectl(&["logs", "box"])?,
        &["started", "to-stderr"],
    )?;
    let stamped = cluster.kubectl(&["logs", "box", "--timestamps", "--tail=1"])?;
    ensure!(
        stamped.lines().count() == 1 && stamped.starts_with("20") && stamped.contains("Z "),
        "{stamped}"
    );
    cluster.apply(LINES)?;
    let running = "--for=jsonpath={.status.phase}=Running";
    cluster.kubectl(&["wait", running, "pod/lines", "--timeout=60s"])?;
    let followed = cluster.kubectl(&["logs", "-f", "lines"])?;
    let expected: String = (1..=6).map(|n| format!("line-{n}\n")).collect();
    ensure!(followed == expected, "followed to the end: {followed:?}");
    until("a second run", Duration::from_secs(60), || {
        let count =
            cluster.get("pod", "again").map_err(|e| e.to_string())?["status"]["containerStatuses"]
                [0]["restartCount"]
                .as_u64();
        if count >= Some(1) {
            Ok(())
        } else {
            Err(format!("{count:?} restarts"))
        }
    })?;
    let previous = cluster.kubectl(&["logs", "again", "--previous"])?;
    has(&previous, &["run-of-it"])?;
    has(
        &cluster.kubectl_fails(&["logs", "box", "--previous"], "")?,
        &["BadRequest"],
    )
}

fn exec(cluster: &Cluster) -> Result<()> {
    step("exec: output, exit code, -i, -it");
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
    let out = under_terminal(
        cluster,
        "exec -it box -- sh -c 'test -t 0 && echo a-terminal'",
    )
    .output()?;
    has(&String::from_utf8_lossy(&out.stdout), &["a-terminal"])
}

fn copy(cluster: &Cluster) -> Result<()> {
    step("cp there and back");
    let file = cluster.dir().join("copied");
    std::fs::write(&file, "copied content")?;
    cluster.kubectl(&["cp", &file.display().to_string(), "box:/tmp/copied"])?;
    ensure!(
        cluster.kubectl(&["exec", "box", "--", "cat", "/tmp/copied"])? == "copied content",
        "to the pod"
    );
    let back = cluster.dir().join("back");
    cluster.kubectl(&["cp", "box:/tmp/copied", &back.display().to_string()])?;
    ensure!(
        std::fs::read_to_string(&back)? == "copied content",
        "from the pod"
    );
    Ok(())
}

fn attach(cluster: &Cluster) -> Result<()> {
    step("attach -i, twice; run -i with a container whose input ends");
    cluster.apply(LISTENERS)?;
    for pod in ["pod/talk", "pod/term"] {
        cluster.kubectl(&["wait", "--for=condition=Ready", pod, "--timeout=60s"])?;
    }
    for word in ["hello", "again"] {
        let mut attached = Background::kubectl(cluster, word, &["attach", "-i", "talk"])?;
        attached.write(&format!("{word}\n"))?;
        attached.until_it_says(&format!("got {word}"))?;
        attached.end()?;
    }
    has(
        &cluster.kubectl(&["logs", "talk"])?,
        &["ready", "got hello", "got again"],
    )?;
    let out = cluster.kubectl_with(
        &[
            "run",
            "once",
            "-i",
            "--rm",
            "--restart=Never",
            "--image=registry.test/web:1",
            "--",
            "cat",
        ],
        "through attach\n",
    )?;
    has(&out, &["through attach\n", "pod \"once\" deleted"])?;
    has(
        &cluster.kubectl_fails(&["get", "pod", "once"], "")?,
        &["NotFound"],
    )
}

fn attach_terminal(cluster: &Cluster) -> Result<()> {
    step("attach -it");
    let out = cluster.dir().join("terminal");
    let mut attached = Background::spawn(under_terminal(cluster, "attach -it term"), out)?;
    attached.until_it_says("prompt")?; // kubectl says so once it is attached
    attached.write("test -t 0 && echo sum-$((40 + 2))\n")?;
    attached.until_it_says("sum-42")?;
    attached.write("exit 5\n")?;
    attached.wait()?;
    let code = "/status/containerStatuses/0/state/terminated/exitCode";
    until("the shell's end", Duration::from_secs(20), || {
        let code = cluster
            .field("pod", "term", code)
            .map_err(|e| e.to_string())?;
        if code == "5" { Ok(()) } else { Err(code) }
    })
}

/// kubectl under a real terminal, made by script(1).
fn under_terminal(cluster: &Cluster, args: &str) -> Command {
    let kubectl = std::env::var("CORTEN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let inner = format!(
        "KUBECONFIG={} {kubectl} {args}",
        cluster.lab().kubeconfig().display()
    );
    let mut command = cluster.lab().beside("script");
    command.args(["-qec", &inner, "/dev/null"]);
    command
}

/// What a forwarded port answers.
pub(crate) fn forwarded(cluster: &Cluster, to: &str, ports: &str, local: u16) -> Result<String> {
    let name = format!("forward-{local}");
    let mut forward = Background::kubectl(cluster, &name, &["port-forward", to, ports])?;
    forward.until_it_says("Forwarding from 127.0.0.1:")?;
    let answer = until(
        "the forwarded port answers",
        Duration::from_secs(20),
        || {
            let url = format!("http://127.0.0.1:{local}/");
            let out = cluster
                .lab()
                .beside("curl")
                .args(["-fsS", "-m", "2", &url])
                .output()
                .map_err(|e| e.to_string())?;
            if out.status.success() {
                Ok(String::from_utf8_lossy(&out.stdout).into_owned())
            } else {
                Err("no answer".into())
            }
        },
    );
    forward.end()?;
    answer
}
