//! Services beyond the plain case: clients that stay with their endpoint, UDP clients that outlive theirs, node ports from
//! outside and with policy Local, headless Services and SRV records.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use corten::roles::Role;
use corten_e2e::background::Background;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::tools;
use corten_e2e::wait::until;

const SETUP: &str = "apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  nodeName: h1
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'registry.test/tools:1'}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: registry.test/tools:1
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: named}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

/// One UDP server after another behind one Service.
fn udp(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: udp}}}}
spec:
  nodeName: h2
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: 'registry.test/tools:1', command: [udp-serve, '9000']}}]
---
apiVersion: v1
kind: Service
metadata: {{name: udp}}
spec:
  type: NodePort
  selector: {{app: udp}}
  ports: [{{port: 9000, protocol: UDP}}]
"
    )
}

const LOCAL: &str = "apiVersion: v1
kind: Pod
metadata: {name: here, labels: {app: here}}
spec:
  nodeName: h2
  terminationGracePeriodSeconds: 1
  hostname: one
  subdomain: local
  containers: [{name: c, image: 'registry.test/tools:1'}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: here}
  ports: [{port: 80, targetPort: 8080}]
";

#[test]
fn services_keep_clients_and_follow_endpoints() {
    let cluster = Cluster::start("services", 1, 3).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

fn run(cluster: &Cluster) -> Result<()> {
    cluster.push(&tools("1"), "tools:1")?;
    cluster.apply(SETUP)?;
    cluster.rolled_out("deployment/web", Duration::from_secs(90))?;
    cluster.ready(&["client"], Duration::from_secs(60))?;
    affinity(cluster)?;
    udp_follows(cluster)?;
    local_policy(cluster)?;
    headless(cluster)
}

/// The pods that answer `times` requests from a pod and as many from a host.
fn answered(cluster: &Cluster, url: &str, times: u32) -> Result<[BTreeSet<String>; 2]> {
    let line = format!("for i in $(seq {times}); do curl -fsSm3 {url} || exit 1; done");
    let names = |text: String| text.lines().map(str::to_owned).collect();
    Ok([
        names(cluster.shell("client", &line)?),
        names(cluster.on("h3", &["sh", "-c", &line])?),
    ])
}

fn affinity(cluster: &Cluster) -> Result<()> {
    step("sessionAffinity ClientIP: one client, one pod, also over a restart of the proxy");
    let ip = cluster.field("service", "sticky", "/spec/clusterIP")?;
    let url = format!("http://{ip}/");
    cluster.answers("h3", &url, Duration::from_secs(20))?;
    let before = answered(cluster, &url, 20)?;
    ensure!(
        before.iter().all(|pods| pods.len() == 1),
        "20 requests of one client went to {before:?}"
    );
    let plain = cluster.field("service", "named", "/spec/clusterIP")?;
    let spread = answered(cluster, &format!("http://{plain}/"), 20)?;
    ensure!(
        spread[0].len() == 3,
        "without affinity all pods answer: {spread:?}"
    );
    for host in ["h1", "h3"] {
        cluster.lab().kill_host(host, Some(Role::Proxy))?;
        cluster.lab().start_host(host, Some(Role::Proxy))?;
        let ready = ["curl", "-fsSm2", "http://127.0.0.1:10256/readyz"];
        until("the proxy has synced", Duration::from_secs(20), || {
            cluster
                .on(host, &ready)
                .map(drop)
                .map_err(|e| e.to_string())
        })?;
    }
    let after = answered(cluster, &url, 20)?;
    ensure!(after == before, "{before:?}, after the restart {after:?}");
    step("a client whose pod is gone moves to another, and stays there");
    let gone = before[0].first().cloned().unwrap_or_default();
    let gone = gone.trim_start_matches("1 ");
    cluster.kubectl(&["delete", "pod", gone, "--timeout=60s"])?;
    cluster.rolled_out("deployment/web", Duration::from_secs(60))?;
    let moved = until(
        "the client is served again",
        Duration::from_secs(20),
        || {
            let seen = answered(cluster, &url, 10).map_err(|e| e.to_string())?;
            if seen[0].len() == 1 {
                Ok(seen)
            } else {
                Err(format!("{seen:?}"))
            }
        },
    )?;
    ensure!(!moved[0].contains(&format!("1 {gone}")), "{moved:?}");
    Ok(())
}

fn udp_follows(cluster: &Cluster) -> Result<()> {
    step("a UDP client keeps its socket while the endpoint is replaced");
    cluster.apply(&udp("first"))?;
    cluster.ready(&["first"], Duration::from_secs(60))?;
    let ip = cluster.field("service", "udp", "/spec/clusterIP")?;
    let node_port = cluster.field("service", "udp", "/spec/ports/0/nodePort")?;
    let h1 = cluster.lab().plan().hosts[0].ip.to_string();
    let start = |name: &str, command: &[&str]| -> Result<Background> {
        let mut ask = cluster.lab().kubectl();
        ask.args(["exec", "client", "--"]).args(command);
        Background::spawn(ask, cluster.dir().join(name))
    };
    let mut by_address = start("udp-address", &["udp-ask", &ip, "9000"])?;
    let mut by_port = start("udp-port", &["udp-ask", &h1, &node_port])?;
    for client in [&by_address, &by_port] {
        client.until_it_says("first 1")?;
    }
    cluster.apply(&udp("second"))?;
    cluster.ready(&["second"], Duration::from_secs(60))?;
    cluster.kubectl(&["delete", "pod", "first", "--timeout=60s"])?;
    let begin = Instant::now();
    for client in [&by_address, &by_port] {
        client.until_it_says("second 1")?;
    }
    let took = begin.elapsed();
    step(&format!(
        "moved within {:.1} s of the deletion",
        took.as_secs_f64()
    ));
    ensure!(took < Duration::from_secs(5), "{took:?}");
    step("also when the endpoint goes while the proxy is away");
    cluster.lab().kill_host("h1", Some(Role::Proxy))?;
    cluster.apply(&udp("third"))?;
    cluster.ready(&["third"], Duration::from_secs(60))?;
    cluster.kubectl(&["delete", "pod", "second", "--timeout=60s"])?;
    cluster.lab().start_host("h1", Some(Role::Proxy))?;
    for client in [&mut by_address, &mut by_port] {
        client.until_it_says("third 1")?;
        client.end()?;
    }
    Ok(())
}

fn local_policy(cluster: &Cluster) -> Result<()> {
    step("a node port from another host; externalTrafficPolicy Local keeps the client's address");
    cluster.apply(LOCAL)?;
    cluster.ready(&["here"], Duration::from_secs(60))?;
    let port = cluster.field("service", "local", "/spec/ports/0/nodePort")?;
    let hosts = &cluster.lab().plan().hosts;
    let url = |host: usize| format!("http://{}:{port}/cgi-bin/whoami", hosts[host].ip);
    let seen = cluster.answers("h1", &url(1), Duration::from_secs(20))?;
    ensure!(seen == hosts[0].ip.to_string(), "h1 is seen as {seen}");
    ensure!(
        cluster.curl("h1", &url(2)).is_err(),
        "h3 has no endpoint: clients from outside are turned away"
    );
    step("but pods and the node itself are served");
    cluster.curl("h3", &url(2))?;
    cluster.exec("client", &["curl", "-fsSm3", &url(0)])?;
    cluster.kubectl(&[
        "patch",
        "service",
        "local",
        "-p",
        r#"{"spec": {"externalTrafficPolicy": "Cluster"}}"#,
    ])?;
    let seen = cluster.answers("h1", &url(2), Duration::from_secs(10))?;
    ensure!(
        seen != hosts[0].ip.to_string(),
        "policy Cluster hides the client: {seen}"
    );
    Ok(())
}

fn headless(cluster: &Cluster) -> Result<()> {
    step("headless Services, SRV records, host names, reverse names");
    let pods = cluster.list("pods", "app=web")?;
    let ips: BTreeSet<&str> = pods
        .iter()
        .filter_map(|pod| pod["status"]["podIP"].as_str())
        .collect();
    let lookup = |kind: &str, name: &str| {
        cluster.exec("client", &["nslookup", &format!("-type={kind}"), name])
    };
    let all = lookup("a", "headless.default.svc.cluster.local")?;
    ensure!(
        ips.len() == 3 && ips.iter().all(|ip| all.contains(ip)),
        "{ips:?} in {all}"
    );
    let srv = lookup("srv", "_http._tcp.headless.default.svc.cluster.local")?;
    ensure!(
        srv.matches("8080").count() == 3 && srv.contains("headless.default.svc.cluster.local"),
        "one record for each pod: {srv}"
    );
    let srv = lookup("srv", "_http._tcp.named.default.svc.cluster.local")?;
    ensure!(
        srv.contains(" 80 named.default.svc.cluster.local"),
        "the Service's port and name: {srv}"
    );
    let ip = cluster.field("service", "named", "/spec/clusterIP")?;
    let reverse = cluster.exec("client", &["nslookup", &ip])?;
    ensure!(
        reverse.contains("named.default.svc.cluster.local"),
        "{reverse}"
    );
    cluster.kubectl(&["delete", "service", "local"])?;
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: local}\nspec: {clusterIP: None, selector: {app: here}, ports: [{port: 80}]}\n",
    )?;
    let here = cluster.field("pod", "here", "/status/podIP")?;
    until(
        "the pod's own name is known",
        Duration::from_secs(10),
        || {
            let text =
                lookup("a", "one.local.default.svc.cluster.local").map_err(|e| e.to_string())?;
            if text.contains(&here) {
                Ok(())
            } else {
                Err(text)
            }
        },
    )?;
    let gone = cluster.kubectl_output(
        &[
            "exec",
            "client",
            "--",
            "nslookup",
            "-type=a",
            "nobody.default.svc.cluster.local",
        ],
        "",
    )?;
    let text = String::from_utf8_lossy(&gone.stdout).into_owned();
    ensure!(text.contains("NXDOMAIN"), "{text}");
    Ok(())
}
