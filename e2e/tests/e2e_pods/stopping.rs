//! The end of pods: preStop first, then TERM, KILL after the grace period; postStart; sidecars first and last.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};

use crate::{SOON, create, delete, has, until_container};

fn manifest(out: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: polite}}
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'trap \"echo term >> /out/order; exit 0\" TERM; while :; do sleep 1 & wait $!; done']
    lifecycle:
      postStart: {{exec: {{command: [sh, -c, 'echo started >> /out/order']}}}}
      preStop: {{exec: {{command: [sh, -c, 'echo stopping >> /out/order; sleep 2']}}}}
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes: [{{name: out, hostPath: {{path: {out}, type: DirectoryOrCreate}}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: stubborn}}
spec:
  terminationGracePeriodSeconds: 4
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done']
---
apiVersion: v1
kind: Pod
metadata: {{name: waits}}
spec:
  terminationGracePeriodSeconds: 300
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done']
---
apiVersion: v1
kind: Pod
metadata: {{name: work}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: side
    image: registry.test/web:1
    restartPolicy: Always
    command: [sh, -c, 'trap \"echo side-ends >> /out/order; exit 0\" TERM; echo side >> /out/order; touch /out/up; while :; do sleep 1 & wait $!; done']
    startupProbe: {{exec: {{command: [cat, /out/up]}}, periodSeconds: 1}}
    volumeMounts: [{{name: out, mountPath: /out}}]
  - name: before
    image: registry.test/web:1
    command: [sh, -c, 'echo init >> /out/order']
    volumeMounts: [{{name: out, mountPath: /out}}]
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'echo app >> /out/order; sleep 1; echo app-ends >> /out/order']
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes: [{{name: out, hostPath: {{path: {out}-work, type: DirectoryOrCreate}}}}]
"
    )
}

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    let out = cluster.dir().join("order");
    let read = |suffix: &str| {
        std::fs::read_to_string(format!("{}{suffix}/order", out.display())).unwrap_or_default()
    };
    create(cluster, &manifest(&out.display().to_string()))?;
    cluster.ready(&["polite", "stubborn", "waits"], SOON)?;
    step("preStop, then TERM; postStart at the start");
    let took = timed(cluster, &["polite"])?;
    ensure!(read("") == "started\nstopping\nterm\n", "{:?}", read(""));
    ensure!(
        took > Duration::from_secs(2) && took < Duration::from_secs(15),
        "{took:?}"
    );
    step("KILL after the grace period");
    let took = timed(cluster, &["stubborn"])?;
    ensure!(
        took > Duration::from_secs(4) && took < Duration::from_secs(12),
        "{took:?}"
    );
    step("--grace-period=1 shortens what was asked before; --force does not wait");
    cluster.kubectl(&["delete", "pod", "waits", "--wait=false"])?;
    let shown = cluster.kubectl(&["get", "pod", "waits"])?;
    has(&shown, &["Terminating"])?;
    let took = timed(cluster, &["waits", "--grace-period=1"])?;
    ensure!(took < Duration::from_secs(8), "{took:?}");
    step("a sidecar starts before the rest and ends after it; the pod completes without it");
    until_container(cluster, "work", "over", |status| {
        status["state"]["terminated"]["reason"] == "Completed"
    })?;
    corten_e2e::wait::until("the sidecar has ended", SOON, || {
        if read("-work") == "side\ninit\napp\napp-ends\nside-ends\n" {
            Ok(())
        } else {
            Err(read("-work"))
        }
    })?;
    ensure!(
        cluster.field("pod", "work", "/status/phase")? == "Succeeded",
        "succeeded"
    );
    delete(cluster, &["work"])
}

fn timed(cluster: &Cluster, args: &[&str]) -> Result<Duration> {
    let begin = Instant::now();
    cluster.kubectl(&[&["delete", "pod", "--timeout=60s"][..], args].concat())?;
    Ok(begin.elapsed())
}
