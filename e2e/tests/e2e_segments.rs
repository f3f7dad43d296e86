//! Hosts on two segments with a router between them that knows nothing of pods: direct routes within a segment, VXLAN across,
//! the same for Services, and no packet too large.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten::lab::Shape;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::tools;

/// One pod for each host; h1 and h3 share a segment, h2 is on the other.
fn manifest() -> String {
    let mut text = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: web, port: 80, targetPort: 8080}, {name: udp, port: 9000, protocol: UDP}]
"
    .to_owned();
    for host in ["h1", "h2", "h3"] {
        text.push_str(&format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: on-{host}, labels: {{app: web}}}}
spec:
  nodeName: {host}
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: web, image: 'registry.test/tools:1'}}
  - {{name: udp, image: 'registry.test/tools:1', command: [udp-serve, '9000']}}
"
        ));
    }
    text
}

#[test]
fn pods_cross_segments_by_vxlan_and_stay_direct_within() {
    let shape = Shape {
        members: 1,
        nodes: 3,
        segments: 2,
    };
    let cluster = Cluster::start_shaped("segment", shape).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

fn ip(cluster: &Cluster, host: &str) -> Result<String> {
    cluster.field("pod", &format!("on-{host}"), "/status/podIP")
}

fn run(cluster: &Cluster) -> Result<()> {
    cluster.push(&tools("1"), "tools:1")?;
    cluster.apply(&manifest())?;
    cluster.ready(&["on-h1", "on-h2", "on-h3"], Duration::from_secs(90))?;
    routes(cluster)?;
    pods(cluster)?;
    payloads(cluster)?;
    services(cluster)
}

fn routes(cluster: &Cluster) -> Result<()> {
    step("each host goes straight to its own segment and through VXLAN to the other");
    for (from, to, vxlan) in [
        ("h1", "h2", true),
        ("h2", "h1", true),
        ("h3", "h2", true),
        ("h1", "h3", false),
        ("h3", "h1", false),
    ] {
        let route = cluster.on(from, &["ip", "route", "get", &ip(cluster, to)?])?;
        ensure!(
            route.contains("dev corten-vxlan") == vxlan && route.contains("dev u0") != vxlan,
            "{from} to a pod on {to}: {route}"
        );
    }
    let link = cluster.on("h2", &["ip", "-o", "link", "show", "corten-vxlan"])?;
    ensure!(link.contains("mtu 1450"), "{link}");
    let ping = ["ping", "-c1", "-W1", &ip(cluster, "h2")?];
    let bare = cluster.lab().beside("busybox").args(ping).output()?;
    ensure!(!bare.status.success(), "the router must not know pods");
    Ok(())
}

fn pods(cluster: &Cluster) -> Result<()> {
    step("pods and hosts reach pods on the other segment, and are seen as themselves");
    for from in ["h1", "h2", "h3"] {
        for to in ["h1", "h2", "h3"] {
            let url = format!("http://{}:8080/cgi-bin/whoami", ip(cluster, to)?);
            let seen = cluster.exec(&format!("on-{from}"), &["curl", "-fsSm3", &url])?;
            ensure!(
                seen.trim() == ip(cluster, from)?,
                "a pod on {from} is seen on {to} as {seen:?}"
            );
            cluster.curl(from, &url)?;
        }
    }
    Ok(())
}

fn payloads(cluster: &Cluster) -> Result<()> {
    step("the pods' MTU leaves room for VXLAN; 1400 bytes and a megabyte pass both ways");
    for (from, to) in [("on-h1", "h2"), ("on-h2", "h1"), ("on-h1", "h3")] {
        let mtu = cluster.exec(from, &["cat", "/sys/class/net/eth0/mtu"])?;
        ensure!(mtu.trim() == "1450", "{mtu}");
        let server = format!("on-{to}");
        for size in ["1400", "1048576"] {
            cluster.shell(
                &server,
                &format!("head -c {size} /dev/zero > /tmp/www/{size}"),
            )?;
            let url = format!("http://{}:8080/{size}", ip(cluster, to)?);
            let get = [
                "curl",
                "-fsSm10",
                "-o",
                "/dev/null",
                "-w",
                "%{size_download}",
                &url,
            ];
            let got = cluster.exec(from, &get)?;
            ensure!(got == size, "{from} got {got} of {size} bytes from {to}");
        }
        // A datagram that fills the MTU to the byte, and one that must be cut.
        for bytes in ["1400", "1422", "4000"] {
            let ask = ["udp-ask", &ip(cluster, to)?, "9000", bytes, "1"];
            let got = cluster.exec(from, &ask)?;
            ensure!(
                got.trim() == format!("on-{to} {bytes}"),
                "{bytes} bytes from {from} to {to}: {got:?}"
            );
        }
    }
    Ok(())
}

fn services(cluster: &Cluster) -> Result<()> {
    step(
        "Services by address, by name and by node port, from pods and hosts, to endpoints on both segments",
    );
    let service = cluster.get("service", "web")?;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    let port = &service["spec"]["ports"][0]["nodePort"];
    for from in ["h1", "h2"] {
        let pod = format!("on-{from}");
        for target in [format!("http://{address}/"), "http://web/".to_owned()] {
            let line = format!("for i in $(seq 60); do curl -fsSm3 {target} || exit 1; done");
            let answers = cluster.shell(&pod, &line)?;
            for to in ["on-h1", "on-h2", "on-h3"] {
                ensure!(
                    answers.contains(to),
                    "{pod} never got {to} by {target}: {answers}"
                );
            }
        }
        for _ in 0..6 {
            cluster.curl(from, &format!("http://{address}/"))?;
            for to in &cluster.lab().plan().hosts {
                cluster.curl(from, &format!("http://{}:{port}/", to.ip))?;
            }
        }
    }
    Ok(())
}
