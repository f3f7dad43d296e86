//! Losing the store's leader in a stream of writes, and a host cut off from the others: nothing that was acknowledged is
//! lost, and what was broken heals.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use corten::roles::Role;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::web;
use corten_e2e::wait::until;

/// The API must accept writes again within this after its store lost the leader.
const RESUME: Duration = Duration::from_secs(3);

#[test]
fn no_acknowledged_write_is_lost_and_a_cut_host_is_replaced_and_converges() {
    let cluster = Cluster::start("faults", 3, 3).expect("cluster");
    let done = kill_the_leader(&cluster).and_then(|()| cut_a_host(&cluster));
    done.unwrap_or_else(|error| panic!("{error:#}"));
}

/// The host whose store member leads, by the members' own metrics.
fn leader(cluster: &Cluster) -> Result<String> {
    for host in &cluster.lab().plan().hosts {
        let url = format!("http://{}:2381/metrics", host.ip);
        let out = cluster
            .lab()
            .beside("curl")
            .args(["-fsS", "-m", "2", &url])
            .output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if text
            .lines()
            .any(|line| line.starts_with("etcd_server_is_leader") && line.ends_with(" 1"))
        {
            return Ok(host.name.clone());
        }
    }
    bail!("no member says that it leads")
}

/// One stream of writes: ConfigMaps made one after another by a shell with kubectl's raw speed (curl with the admin's
/// certificate), each acknowledged one noted with its resourceVersion.
fn writer(cluster: &Cluster, server: &str) -> Result<(std::process::Child, std::path::PathBuf)> {
    let pki = cluster.lab().plan().dir.join("pki");
    let out = cluster.dir().join("acknowledged");
    let script = format!(
        "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); \
         body='{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"w'$i'\"}}}}'; \
         answer=$(curl -sS -m 5 -w ' %{{http_code}}' --cacert {pki}/ca.crt --cert {pki}/admin.crt --key {pki}/admin.key \
           -H 'Content-Type: application/json' -d \"$body\" https://{server}:6443/api/v1/namespaces/default/configmaps 2>&1); \
         now=$(date +%s%N); \
         case \"$answer\" in *' 201') rv=$(echo \"$answer\" | sed 's/.*\"resourceVersion\": *\"\\([0-9]*\\)\".*/\\1/' | tr -d '\\n '); \
           echo \"$now w$i $(echo $answer | grep -o '\"resourceVersion\": *\"[0-9]*\"' | head -n 1 | grep -o '[0-9]*')\" ;; \
         *) sleep 0.02 ;; esac; done > {out}",
        pki = pki.display(),
        out = out.display(),
    );
    let child = cluster
        .lab()
        .beside("bash")
        .arg("-c")
        .arg(script)
        .spawn()
        .context("cannot start the writer")?;
    Ok((child, out))
}

struct Write {
    at_nanos: u128,
    name: String,
    revision: u64,
}

fn writes(file: &std::path::Path) -> Vec<Write> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        Some(Write {
            at_nanos: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
            revision: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

fn kill_the_leader(cluster: &Cluster) -> Result<()> {
    let leader = until("a leader is known", Duration::from_secs(20), || {
        leader(cluster).map_err(|e| e.to_string())
    })?;
    step(&format!(
        "kill -9 of the store's leader {leader} in a stream of writes"
    ));
    let other = cluster
        .lab()
        .plan()
        .hosts
        .iter()
        .find(|h| h.name != leader)
        .context("another host")?;
    let (mut child, file) = writer(cluster, &other.ip.to_string())?;
    until("writes flow", Duration::from_secs(20), || {
        if writes(&file).len() > 50 {
            Ok(())
        } else {
            Err("few".into())
        }
    })?;
    cluster.lab().kill_host(&leader, Some(Role::Store))?;
    let killed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_nanos();
    let resumed = until("writes resume", Duration::from_secs(30), || {
        let after = writes(&file)
            .into_iter()
            .find(|w| w.at_nanos > killed + 50_000_000);
        after
            .map(|w| w.at_nanos)
            .ok_or_else(|| "no write since".to_owned())
    })?;
    let took = Duration::from_nanos(u64::try_from(resumed - killed)?);
    step(&format!("writes resumed after {} ms", took.as_millis()));
    cluster.lab().start_host(&leader, Some(Role::Store))?;
    std::thread::sleep(Duration::from_secs(2)); // some more writes with the member back
    child.kill()?;
    child.wait()?;
    let acknowledged = writes(&file);
    let names = cluster.kubectl(&["get", "configmaps", "-o", "name"])?;
    let present: BTreeSet<&str> = names
        .lines()
        .filter_map(|line| line.strip_prefix("configmap/"))
        .collect();
    let lost: Vec<&str> = acknowledged
        .iter()
        .map(|w| w.name.as_str())
        .filter(|name| !present.contains(name))
        .collect();
    let revisions: BTreeSet<u64> = acknowledged.iter().map(|w| w.revision).collect();
    step(&format!(
        "{} writes acknowledged, {} lost",
        acknowledged.len(),
        lost.len()
    ));
    ensure!(lost.is_empty(), "lost: {lost:?}");
    ensure!(
        revisions.len() == acknowledged.len(),
        "a revision was used twice"
    );
    ensure!(took <= RESUME, "writes resumed after {took:?}");
    Ok(())
}

const MANIFEST: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers:
      - {name: web, image: 'registry.test/web:1'}
";

fn cut_a_host(cluster: &Cluster) -> Result<()> {
    cluster.push(&web("1"), "web:1")?;
    cluster.apply(MANIFEST)?;
    cluster.rolled_out("deployment/web", Duration::from_secs(120))?;
    step("a host is cut off from the others");
    let begin = Instant::now();
    cluster.lab().cut("h3")?;
    // kubectl talks to the first host's API server.
    until(
        "the node is not ready and its pods are replaced",
        Duration::from_secs(150),
        || {
            let node = cluster.get("node", "h3").map_err(|e| e.to_string())?;
            let ready = node["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|c| c["type"] == "Ready");
            let status = ready.map(|c| c["status"].clone()).unwrap_or_default();
            if status == "True" {
                return Err("h3 is Ready still".to_owned());
            }
            let pods = cluster.list("pods", "app=web").map_err(|e| e.to_string())?;
            let good = pods.iter().filter(|p| {
                p["spec"]["nodeName"] != "h3"
                    && p["metadata"]["deletionTimestamp"].is_null()
                    && p["status"]["phase"] == "Running"
            });
            let good = good.count();
            if good == 3 {
                Ok(())
            } else {
                Err(format!("{good} of 3 pods run elsewhere"))
            }
        },
    )?;
    step(&format!(
        "replaced {:.0} s after the cut",
        begin.elapsed().as_secs_f64()
    ));
    cluster.kubectl(&["create", "configmap", "during-the-cut"])?;
    step("healed, it converges");
    cluster.lab().heal("h3")?;
    cluster.lab().wait_ready(Duration::from_secs(90))?;
    until(
        "old pods are gone and the member has caught up",
        Duration::from_secs(90),
        || {
            let pods = cluster.list("pods", "app=web").map_err(|e| e.to_string())?;
            if pods.len() != 3 {
                return Err(format!("{} pods", pods.len()));
            }
            // The healed host's own API server, on its own member, must know what happened meanwhile.
            let h3 = cluster
                .lab()
                .plan()
                .hosts
                .iter()
                .find(|h| h.name == "h3")
                .map(|h| h.ip.to_string())
                .unwrap_or_default();
            let server = format!("--server=https://{h3}:6443");
            let out = cluster
                .kubectl(&[&server, "get", "configmap", "during-the-cut", "-o", "name"])
                .map_err(|e| e.to_string())?;
            if out.trim() == "configmap/during-the-cut" {
                Ok(())
            } else {
                Err(out)
            }
        },
    )
}
