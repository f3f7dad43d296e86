//! `corten up` on one machine (a network namespace of its own): ready, the demo answers by name and by node port, a crash
//! leaves containers running, the next start takes them over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_e2e::cluster::step;
use corten_e2e::image::{build, web};
use corten_e2e::machine::{Machine, output, sh};
use corten_e2e::wait::until;

#[test]
fn one_machine_starts_serves_crashes_and_adopts() {
    // Dropped after the panic of a failure, so that it shows its log.
    let machine = Machine::make("up", 99).expect("a machine");
    run(&machine).unwrap_or_else(|error| panic!("{error:#}"));
}

fn run(machine: &Machine) -> Result<()> {
    let out = machine.up(&[])?;
    step(out.lines().next().unwrap_or_default());
    let again = machine.up(&[])?;
    ensure!(again.contains("running already"), "{again}");
    let archive = build(&web("1"), "demo:1", &machine.dir().join("images"))?;
    output(machine.corten(&["image"]).arg("import").arg(&archive))?;
    let manifest = machine.dir().join("demo.yaml");
    std::fs::write(&manifest, MANIFEST)?;
    output(machine.corten(&["apply"]).arg("-f").arg(&manifest))?;
    machine.kubectl(&["rollout", "status", "deployment/demo", "--timeout=90s"])?;
    step("the demo answers through its name from a pod and through its node port from the host");
    let pod = machine.kubectl(&[
        "get",
        "pods",
        "-l",
        "app=demo",
        "-o",
        "jsonpath={.items[0].metadata.name}",
    ])?;
    until("by name", Duration::from_secs(20), || {
        let out = machine
            .kubectl(&[
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
    let url = format!("http://{}:30080/", machine.address());
    until("by node port", Duration::from_secs(20), || {
        output(machine.inside("curl").args(["-fsS", "-m", "3", &url]))
            .map(drop)
            .map_err(|e| e.to_string())
    })?;
    crash(machine)
}

fn crash(machine: &Machine) -> Result<()> {
    step("a crash leaves the containers running, the next start adopts them");
    let running = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let before = machine.kubectl(&["get", "pods", "-o", running])?;
    let pid: i32 = std::fs::read_to_string(machine.dir().join("run/corten.pid"))?
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
    let url = format!("http://{}:30080/", machine.address());
    output(machine.inside("curl").args(["-fsS", "-m", "3", &url]))
        .context("the demo answers without the process")?;
    machine.up(&[])?;
    machine.kubectl(&["rollout", "status", "deployment/demo", "--timeout=60s"])?;
    let after = machine.kubectl(&["get", "pods", "-o", running])?;
    ensure!(before == after, "the same containers:\n{before}\n{after}");
    let out = output(&mut machine.corten(&["status"]))?;
    ensure!(out.contains("Ready"), "{out}");
    output(&mut machine.corten(&["down"]))?;
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
