//! `corten up` on one machine (a network namespace of its own): ready, the demo answers by name and by node port, a crash
//! leaves containers running, the next start takes them over.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corten_e2e::cluster::{binary, step};
use corten_e2e::image::{build, web};
use corten_e2e::wait::until;

const DIR: &str = "/var/lib/corten-e2e/up";
const NAMESPACE: &str = "corten-e2e-up";
const ADDRESS: &str = "192.168.99.1";

/// The machine: a namespace with an address and a default route, removed with the value.
struct Machine;

impl Machine {
    fn make() -> Result<Self> {
        Self::remove();
        sh(&format!(
            "ip netns add {NAMESPACE} && ip -n {NAMESPACE} link set lo up && \
             ip -n {NAMESPACE} link add u0 type veth peer name u1 && ip -n {NAMESPACE} link set u1 up && \
             ip -n {NAMESPACE} addr add {ADDRESS}/24 dev u0 && ip -n {NAMESPACE} link set u0 up && \
             ip -n {NAMESPACE} route add default via 192.168.99.254"
        ))?;
        Ok(Self)
    }

    fn remove() {
        if let Ok(corten) = binary() {
            let _ = command(&corten, &["down"]).output();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", NAMESPACE])
            .output();
        let _ = sh(&format!(
            "awk '{{print $2}}' /proc/self/mounts | grep '^{DIR}' | sort -r | xargs -r umount -l; rm -rf {DIR}"
        ));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log =
                std::fs::read_to_string(Path::new(DIR).join("data/corten.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- corten.log\n{}",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
        Self::remove();
    }
}

fn sh(script: &str) -> Result<String> {
    output(Command::new("sh").args(["-c", script]))
}

fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!(
            "{command:?}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn inside(program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{NAMESPACE}"))
        .arg(program);
    command
}

fn command(corten: &Path, args: &[&str]) -> Command {
    let mut command = inside(&corten.to_string_lossy());
    command.args(args).args([
        "--data-dir",
        &format!("{DIR}/data"),
        "--run-dir",
        &format!("{DIR}/run"),
    ]);
    command.args(["--config-dir", &format!("{DIR}/config")]);
    command
}

fn kubectl(args: &[&str]) -> Result<String> {
    let program = std::env::var("CORTEN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let config = format!("{DIR}/config/admin.kubeconfig");
    output(
        inside(&program)
            .env("KUBECONFIG", config)
            .env("HOME", format!("{DIR}/home"))
            .args(args),
    )
}

#[test]
fn one_machine_starts_serves_crashes_and_adopts() {
    let machine = Machine::make().expect("a machine");
    run().unwrap_or_else(|error| panic!("{error:#}"));
    drop(machine);
}

fn run() -> Result<()> {
    let corten = binary()?;
    let out = output(command(&corten, &["up", "--detach"]).args(["--node-ip", ADDRESS]))?;
    step(out.lines().next().unwrap_or_default());
    let again = output(command(&corten, &["up", "--detach"]).args(["--node-ip", ADDRESS]))?;
    ensure!(again.contains("running already"), "{again}");
    let archive = build(&web("1"), "demo:1", &PathBuf::from(DIR).join("images"))?;
    output(command(&corten, &["image"]).arg("import").arg(&archive))?;
    let manifest = format!("{DIR}/demo.yaml");
    std::fs::write(&manifest, MANIFEST)?;
    output(&mut command(&corten, &["apply", "-f", &manifest]))?;
    kubectl(&["rollout", "status", "deployment/demo", "--timeout=90s"])?;
    step("the demo answers through its name from a pod and through its node port from the host");
    let pod = kubectl(&[
        "get",
        "pods",
        "-l",
        "app=demo",
        "-o",
        "jsonpath={.items[0].metadata.name}",
    ])?;
    until("by name", Duration::from_secs(20), || {
        let out = kubectl(&[
            "exec",
            &pod,
            "--",
            "fetch",
            "demo.default.svc.cluster.local",
        ])
        .map_err(|e| e.to_string())?;
        if out.starts_with("1 demo-") {
            Ok(())
        } else {
            Err(out)
        }
    })?;
    let url = format!("http://{ADDRESS}:30080/");
    until("by node port", Duration::from_secs(20), || {
        output(inside("curl").args(["-fsS", "-m", "3", &url]))
            .map(drop)
            .map_err(|e| e.to_string())
    })?;
    crash(&corten)
}

fn crash(corten: &Path) -> Result<()> {
    step("a crash leaves the containers running, the next start adopts them");
    let running = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let before = kubectl(&["get", "pods", "-o", running])?;
    let pid: i32 = std::fs::read_to_string(format!("{DIR}/run/corten.pid"))?
        .trim()
        .parse()?;
    sh(&format!("kill -9 {pid}"))?;
    until("it is gone", Duration::from_secs(10), || {
        if corten::detach::is_alive(pid) {
            Err("alive".into())
        } else {
            Ok(())
        }
    })?;
    let url = format!("http://{ADDRESS}:30080/");
    output(inside("curl").args(["-fsS", "-m", "3", &url]))
        .context("the demo answers without the process")?;
    output(command(corten, &["up", "--detach"]).args(["--node-ip", ADDRESS]))?;
    kubectl(&["rollout", "status", "deployment/demo", "--timeout=60s"])?;
    let after = kubectl(&["get", "pods", "-o", running])?;
    ensure!(before == after, "the same containers:\n{before}\n{after}");
    let out = output(&mut command(corten, &["status"]))?;
    ensure!(out.contains("Ready"), "{out}");
    output(&mut command(corten, &["down"]))?;
    Ok(())
}

const MANIFEST: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: demo}
spec:
  replicas: 2
  selector: {matchLabels: {app: demo}}
  template:
    metadata: {labels: {app: demo}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - {name: web, image: 'demo:1', imagePullPolicy: IfNotPresent, ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: demo}
spec:
  type: NodePort
  selector: {app: demo}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";
