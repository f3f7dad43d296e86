//! kill -9 of agent and proxy: containers keep their pids, a connection through a Service keeps flowing, and the restarted
//! agent adopts everything.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten::roles::Role;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::{Recipe, web};
use corten_e2e::wait::until;

/// Sends a line each 100 ms on every connection.
fn ticker() -> Recipe {
    let tick = "#!/bin/sh\nwhile :; do date +%s%N; sleep 0.1; done\n";
    let serve = "#!/bin/sh\ntrap 'exit 0' TERM\nnc -ll -p 9000 -e /bin/tick &\nwait\n";
    Recipe {
        files: vec![
            ("bin/tick".to_owned(), tick.to_owned()),
            ("bin/serve".to_owned(), serve.to_owned()),
        ],
        command: vec!["/bin/serve".to_owned()],
        ..Recipe::default()
    }
}

const MANIFEST: &str = "apiVersion: v1
kind: Pod
metadata: {name: ticker, labels: {app: ticker}}
spec:
  nodeName: h2
  terminationGracePeriodSeconds: 2
  containers: [{name: ticker, image: 'registry.test/ticker:1'}]
---
apiVersion: v1
kind: Service
metadata: {name: ticker}
spec:
  selector: {app: ticker}
  ports: [{port: 9000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: registry.test/web:1
        livenessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 2}
";

#[test]
fn containers_and_connections_outlive_agent_and_proxy() {
    let cluster = Cluster::start("restart", 1, 2).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Container ids with start times: the same pairs mean that nothing was restarted.
fn containers(cluster: &Cluster) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for selector in ["app=web", "app=ticker"] {
        for pod in cluster.list("pods", selector)? {
            let status = &pod["status"]["containerStatuses"][0];
            seen.push(format!(
                "{} {} {} {}",
                pod["metadata"]["name"],
                status["containerID"],
                status["state"]["running"]["startedAt"],
                status["restartCount"]
            ));
        }
    }
    seen.sort();
    Ok(seen)
}

/// Pids of the processes in the lab's containers, from the kernel.
fn pids(cluster: &Cluster) -> Vec<String> {
    let name = cluster.lab().plan().name.clone();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let main = command.contains("/bin/web") || command.contains("/bin/serve");
        if main && cgroup.contains(&format!("/corten-lab/{name}/")) {
            found.push(pid);
        }
    }
    found.sort();
    found
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn run(cluster: &Cluster) -> Result<()> {
    cluster.push(&ticker(), "ticker:1")?;
    cluster.push(&web("1"), "web:1")?;
    cluster.apply(MANIFEST)?;
    cluster.rolled_out("deployment/web", Duration::from_secs(120))?;
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/ticker",
        "--timeout=60s",
    ])?;
    let before = (containers(cluster)?, pids(cluster));
    ensure!(before.1.len() == 5, "five main processes: {:?}", before.1);
    let ip = cluster.get("service", "ticker")?["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let lines = cluster.dir().join("ticks");
    let out = std::fs::File::create(&lines)?;
    let mut connection = cluster
        .lab()
        .on_host("h1", "busybox")?
        .args(["nc", &ip, "9000"])
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .context("cannot connect")?;
    let count = || {
        std::fs::read_to_string(&lines)
            .unwrap_or_default()
            .lines()
            .count()
    };
    until("ticks flow", Duration::from_secs(20), || {
        if count() > 5 {
            Ok(())
        } else {
            Err(format!("{} ticks", count()))
        }
    })?;
    step("kill -9 of every agent and proxy");
    for host in ["h1", "h2"] {
        cluster.lab().kill_host(host, Some(Role::NodeAgent))?;
        cluster.lab().kill_host(host, Some(Role::Proxy))?;
    }
    let at_kill = count();
    std::thread::sleep(Duration::from_secs(3));
    ensure!(
        count() > at_kill + 15,
        "the connection flows without agent and proxy: {} then {}",
        at_kill,
        count()
    );
    ensure!(pids(cluster) == before.1, "containers keep their pids");
    step("restarted, the agent adopts everything");
    for host in ["h1", "h2"] {
        cluster.lab().start_host(host, None)?;
    }
    cluster.lab().wait_ready(Duration::from_secs(60))?;
    std::thread::sleep(Duration::from_secs(6)); // three rounds of probes by the new agent
    let after = containers(cluster)?;
    ensure!(
        after == before.0,
        "the API shows the same containers:\n{:#?}\n{after:#?}",
        before.0
    );
    ensure!(
        pids(cluster) == before.1,
        "containers keep their pids after adoption"
    );
    let after = count();
    until("ticks still flow", Duration::from_secs(5), || {
        if count() > after + 10 {
            Ok(())
        } else {
            Err("stalled".into())
        }
    })?;
    ensure!(
        connection.try_wait()?.is_none(),
        "it is the same connection"
    );
    connection.kill()?;
    connection.wait()?;
    let out = cluster.kubectl(&["exec", "ticker", "--", "echo", "alive"])?;
    ensure!(
        out.trim() == "alive",
        "exec into an adopted container: {out:?}"
    );
    bridge_comes_back(cluster)?;
    cluster.kubectl(&["delete", "pod", "ticker", "--timeout=30s"])?;
    Ok(())
}

/// Somebody removes the bridge while the agent is away: the containers run on, and must be reached again.
fn bridge_comes_back(cluster: &Cluster) -> Result<()> {
    step("an agent that finds no bridge puts running pods on the new one");
    let before = containers(cluster)?;
    cluster.lab().kill_host("h2", Some(Role::NodeAgent))?;
    let mut remove = cluster.lab().on_host("h2", "ip")?;
    let removed = remove.args(["link", "delete", "br-h2"]).status()?;
    ensure!(removed.success(), "the bridge is named br-h2");
    cluster.lab().start_host("h2", None)?;
    let ip = cluster.get("pod", "ticker")?["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    until("the pod is reached", Duration::from_secs(30), || {
        let nc = cluster.lab().on_host("h1", "timeout");
        let mut nc = nc.map_err(|error| error.to_string())?;
        let out = nc.args(["2", "busybox", "nc", &ip, "9000"]).output();
        let out = out.map_err(|error| error.to_string())?;
        if out.stdout.is_empty() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned());
        }
        Ok(())
    })?;
    let after = containers(cluster)?;
    ensure!(
        after == before,
        "nothing was restarted: {before:#?} {after:#?}"
    );
    Ok(())
}
