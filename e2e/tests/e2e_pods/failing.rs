//! Containers that fail: out of memory, crash loops with back-off that outlives the agent, init containers, restart policies.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten::roles::Role;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::{container, create, delete, has, outcome, until_container};

const MANIFEST: &str = "apiVersion: v1
kind: Pod
metadata: {name: oom}
spec:
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'echo before; dd if=/dev/zero of=/dev/null bs=200M count=5']
    resources: {limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers:
  - {name: c, image: 'registry.test/web:1', command: [sh, -c, 'echo run $$; exit 3']}
---
apiVersion: v1
kind: Pod
metadata: {name: init-fails}
spec:
  initContainers:
  - {name: first, image: 'registry.test/web:1', command: [sh, -c, 'echo cannot prepare; exit 4']}
  containers:
  - {name: c, image: 'registry.test/web:1'}
---
apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: 'registry.test/web:1', command: [sh, -c, 'echo last words > /dev/termination-log; exit 5']}
---
apiVersion: v1
kind: Pod
metadata: {name: onfailure}
spec:
  restartPolicy: OnFailure
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'if [ -f /keep/seen ]; then echo second time; exit 0; fi; touch /keep/seen; exit 1']
    volumeMounts: [{name: keep, mountPath: /keep}]
  volumes: [{name: keep, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: badcmd}
spec:
  containers:
  - {name: c, image: 'registry.test/web:1', command: [/no/such/program]}
";

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    create(cluster, MANIFEST)?;
    out_of_memory(cluster)?;
    policies(cluster)?;
    init(cluster)?;
    back_off(cluster)?;
    delete(
        cluster,
        &["oom", "crash", "init-fails", "never", "onfailure", "badcmd"],
    )
}

fn out_of_memory(cluster: &Cluster) -> Result<()> {
    step("OOMKilled with 137, in lastState once it runs again");
    let status = until_container(cluster, "oom", "killed and waiting", |status| {
        status["restartCount"].as_u64() >= Some(1) && status["lastState"]["terminated"].is_object()
    })?;
    let last = &status["lastState"]["terminated"];
    ensure!(
        last["reason"] == "OOMKilled" && last["exitCode"] == 137,
        "{status}"
    );
    has(
        &cluster.kubectl(&["describe", "pod", "oom"])?,
        &["Reason:       OOMKilled", "Exit Code:    137"],
    )?;
    has(
        &cluster.kubectl(&["logs", "oom", "--previous"])?,
        &["before"],
    )
}

fn policies(cluster: &Cluster) -> Result<()> {
    step("restartPolicy Never and OnFailure; a termination message; a command that is not there");
    outcome(cluster, "never")?;
    let ended = container(cluster, "never")?["state"]["terminated"].clone();
    ensure!(
        ended["exitCode"] == 5 && ended["reason"] == "Error" && ended["message"] == "last words\n",
        "{ended}"
    );
    ensure!(
        cluster.field("pod", "never", "/status/phase")? == "Failed",
        "failed"
    );
    until_container(cluster, "onfailure", "through", |status| {
        status["state"]["terminated"]["reason"] == "Completed" && status["restartCount"] == 1
    })?;
    ensure!(
        cluster.field("pod", "onfailure", "/status/phase")? == "Succeeded",
        "the second run succeeded"
    );
    let shown = cluster.kubectl(&["get", "pods"])?;
    let line = |name: &str| {
        shown
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap_or_default()
    };
    has(line("never"), &["0/1", "Error"])?;
    has(line("onfailure"), &["0/1", "Completed"])?;
    until_container(cluster, "badcmd", "refused by the runtime", |status| {
        let last = &status["lastState"]["terminated"];
        last["reason"] == "StartError" && last["exitCode"] == 128
    })?;
    has(
        &cluster.kubectl(&["describe", "pod", "badcmd"])?,
        &["/no/such/program", "Failed"],
    )
}

fn init(cluster: &Cluster) -> Result<()> {
    step("an init container that fails holds the pod");
    until("Init:CrashLoopBackOff", Duration::from_secs(30), || {
        let shown = cluster
            .kubectl(&["get", "pod", "init-fails"])
            .map_err(|e| e.to_string())?;
        if shown.contains("Init:CrashLoopBackOff") {
            Ok(())
        } else {
            Err(shown)
        }
    })?;
    let status = cluster.get("pod", "init-fails")?["status"].clone();
    let first = &status["initContainerStatuses"][0];
    ensure!(
        first["lastState"]["terminated"]["exitCode"] == 4 && status["phase"] == "Pending",
        "{status}"
    );
    ensure!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing",
        "the app waits: {status}"
    );
    has(
        &cluster.kubectl(&["logs", "init-fails", "-c", "first"])?,
        &["cannot prepare"],
    )
}

/// The message of the wait, with the delay in it.
fn waits(cluster: &Cluster) -> Result<(String, u64)> {
    let status = container(cluster, "crash")?;
    let waiting = &status["state"]["waiting"];
    ensure!(waiting["reason"] == "CrashLoopBackOff", "{status}");
    let message = waiting["message"].as_str().unwrap_or_default().to_owned();
    Ok((message, status["restartCount"].as_u64().unwrap_or_default()))
}

fn back_off(cluster: &Cluster) -> Result<()> {
    step("CrashLoopBackOff grows, is told once a wait, and goes on over a restart of the agent");
    let wait_for = |delay: &str| {
        let what = format!("back-off {delay} ");
        until(&what, Duration::from_secs(60), || {
            let (message, restarts) = waits(cluster).map_err(|e| e.to_string())?;
            if message.starts_with(&what) {
                Ok(restarts)
            } else {
                Err(message)
            }
        })
    };
    let restarts = wait_for("20s")?;
    cluster.lab().kill_host("h1", Some(Role::NodeAgent))?;
    cluster.lab().start_host("h1", Some(Role::NodeAgent))?;
    has(
        &cluster.kubectl(&["events", "--for", "pod/crash"])?,
        &[
            "BackOff",
            "Back-off restarting failed container c in pod crash_default",
        ],
    )?;
    // The restarted agent must neither run it at once nor begin at 10 s again.
    let again = until("after the restart", Duration::from_secs(15), || {
        cluster
            .curl("h1", "http://127.0.0.1:10248/readyz")
            .map_err(|e| e.to_string())?;
        waits(cluster).map_err(|e| e.to_string())
    })?;
    ensure!(
        again.1 == restarts && again.0.starts_with("back-off 20s "),
        "{again:?}, before: {restarts} restarts"
    );
    ensure!(wait_for("40s")? == restarts + 1, "the next wait is longer");
    let previous = cluster.kubectl(&["logs", "crash", "--previous"])?;
    ensure!(previous.starts_with("run "), "{previous:?}");
    Ok(())
}
