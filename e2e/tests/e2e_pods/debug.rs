//! `kubectl debug`: an ephemeral container in a running pod that sees the processes of the container that it is aimed at,
//! and a copy of a pod.

use anyhow::{Result, ensure};
use corten_e2e::background::Background;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::{SOON, create, delete, has};

const MANIFEST: &str = "apiVersion: v1
kind: Pod
metadata: {name: sick}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: 'registry.test/web:1', command: [sleep, '7101']}
  - {name: other, image: 'registry.test/web:1', command: [sleep, '7102']}
";

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    create(cluster, MANIFEST)?;
    cluster.ready(&["sick"], SOON)?;
    targeted(cluster)?;
    interactive(cluster)?;
    copied(cluster)?;
    delete(cluster, &["sick", "sick-copy"])
}

fn targeted(cluster: &Cluster) -> Result<()> {
    step("kubectl debug --target shares the process namespace of one container");
    let before = cluster.get("pod", "sick")?["status"]["containerStatuses"].clone();
    cluster.kubectl(&[
        "debug",
        "sick",
        "--image=registry.test/web:1",
        "--target=main",
        "--container=look",
        "--",
        "sh",
        "-c",
        "ps; cat /proc/1/root/etc/passwd; exit 6",
    ])?;
    let status = until("the debugger is through", SOON, || {
        let status = cluster.get("pod", "sick").map_err(|e| e.to_string())?["status"].clone();
        let ended = status["ephemeralContainerStatuses"][0]["state"]["terminated"].clone();
        if ended["exitCode"] == 6 {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })?;
    let log = cluster.kubectl(&["logs", "sick", "-c", "look"])?;
    has(&log, &["sleep 7101", "root:x:0:0"])?;
    ensure!(
        !log.contains("sleep 7102"),
        "only the target's processes:\n{log}"
    );
    ensure!(
        status["containerStatuses"] == before && status["phase"] == "Running",
        "the pod goes on undisturbed: {status}"
    );
    has(
        &cluster.kubectl(&["describe", "pod", "sick"])?,
        &["Ephemeral Containers:", "look:"],
    )
}

fn interactive(cluster: &Cluster) -> Result<()> {
    step("kubectl debug -it: a terminal in the pod's network");
    let kubectl = std::env::var("CORTEN_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let inner = format!(
        "KUBECONFIG={} {kubectl} debug -it sick --image=registry.test/web:1 --container=shell -- sh",
        cluster.lab().kubeconfig().display()
    );
    let mut script = cluster.lab().beside("script");
    script.args(["-qec", &inner, "/dev/null"]);
    let mut session = Background::spawn(script, cluster.dir().join("debug"))?;
    session.until_it_says("prompt")?;
    session.write("echo sum-$((40 + 2)); ip -o -4 address show eth0\n")?;
    session.until_it_says("sum-42")?;
    session.until_it_says(&cluster.field("pod", "sick", "/status/podIP")?)?;
    session.write("exit\n")?;
    session.wait().map(drop)
}

fn copied(cluster: &Cluster) -> Result<()> {
    step("kubectl debug --copy-to: a copy with another command and shared processes");
    cluster.kubectl(&[
        "debug",
        "sick",
        "--copy-to=sick-copy",
        "--share-processes",
        "--container=main",
        "--",
        "sleep",
        "7103",
    ])?;
    cluster.ready(&["sick-copy"], SOON)?;
    let seen = cluster.exec("sick-copy", &["ps"])?;
    has(&seen, &["sleep 7103", "sleep 7102"])
}
