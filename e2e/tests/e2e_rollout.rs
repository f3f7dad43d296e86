//! A Deployment over three nodes, reached from everywhere, rolled forward and back under load; a bad image harms nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::web;
use corten_e2e::load::Load;
use corten_e2e::wait::until;

const ROLLOUT: Duration = Duration::from_secs(180);

fn manifest(version: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: 6
  selector: {{matchLabels: {{app: web}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 2}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: registry.test/web:{version}
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
        resources: {{requests: {{cpu: 10m, memory: 8Mi}}, limits: {{memory: 64Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"
    )
}

#[test]
fn a_deployment_is_spread_reached_updated_and_undone() {
    let cluster = Cluster::start("rollout", 3, 3).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

fn run(cluster: &Cluster) -> Result<()> {
    for version in ["1", "2"] {
        cluster.push(&web(version), &format!("web:{version}"))?;
    }
    cluster.apply(&manifest("1"))?;
    cluster.rolled_out("deployment/web", ROLLOUT)?;
    let pods = cluster.list("pods", "app=web")?;
    let nodes: BTreeSet<_> = pods
        .iter()
        .filter_map(|p| p["spec"]["nodeName"].as_str())
        .collect();
    ensure!(
        pods.len() == 6 && nodes.len() == 3,
        "6 pods on 3 nodes: {} on {nodes:?}",
        pods.len()
    );
    let service = cluster.get("service", "web")?;
    let ip = service["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let node_port = service["spec"]["ports"][0]["nodePort"].to_string();
    reach(cluster, &ip, &node_port, &pods)?;
    update_under_load(cluster, &ip)?;
    undo(cluster)?;
    bad_image(cluster, &ip)
}

fn reach(cluster: &Cluster, ip: &str, node_port: &str, pods: &[serde_json::Value]) -> Result<()> {
    step("every host reaches the ClusterIP and every node's port");
    for host in ["h1", "h2", "h3"] {
        cluster.answers(host, &format!("http://{ip}/"), Duration::from_secs(20))?;
        for target in &cluster.lab().plan().hosts {
            cluster.answers(
                host,
                &format!("http://{}:{node_port}/", target.ip),
                Duration::from_secs(20),
            )?;
        }
    }
    step("every pod reaches the Service by address and by name");
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        for target in [ip, "web", "web.default.svc.cluster.local"] {
            let out = cluster.kubectl(&["exec", name, "--", "fetch", target])?;
            ensure!(
                out.starts_with("1 web-"),
                "{name} got {out:?} from {target}"
            );
        }
    }
    Ok(())
}

fn update_under_load(cluster: &Cluster, ip: &str) -> Result<()> {
    step("a rolling update under continuous requests");
    let load = Load::start(
        cluster.lab().on_host("h1", "sh")?,
        &format!("http://{ip}/"),
        cluster.dir(),
    )?;
    until("the load runs", Duration::from_secs(10), || {
        if load.so_far().answered > 10 {
            Ok(())
        } else {
            Err("starting".into())
        }
    })?;
    cluster.kubectl(&["set", "image", "deployment/web", "web=registry.test/web:2"])?;
    cluster.rolled_out("deployment/web", ROLLOUT)?;
    std::thread::sleep(Duration::from_secs(5)); // until the last old pod has drained
    let outcome = load.stop();
    step(&format!(
        "{} requests answered, {} failed",
        outcome.answered, outcome.failed
    ));
    ensure!(outcome.failed == 0 && outcome.answered > 50, "{outcome:?}");
    ensure!(
        cluster
            .curl("h2", &format!("http://{ip}/"))?
            .starts_with("2 "),
        "the new version answers"
    );
    Ok(())
}

fn undo(cluster: &Cluster) -> Result<()> {
    step("history and undo");
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"])?;
    ensure!(
        history.contains("\n1 ") && history.contains("\n2 "),
        "{history}"
    );
    cluster.kubectl(&["rollout", "undo", "deployment/web"])?;
    cluster.rolled_out("deployment/web", ROLLOUT)?;
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    ensure!(
        cluster.kubectl(&["get", "deployment", "web", "-o", image])? == "registry.test/web:1",
        "undone"
    );
    cluster.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=2"])?;
    cluster.rolled_out("deployment/web", ROLLOUT)?;
    ensure!(
        cluster.kubectl(&["get", "deployment", "web", "-o", image])? == "registry.test/web:2",
        "to revision 2"
    );
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"])?;
    ensure!(
        history.contains("\n3 ") && history.contains("\n4 ") && !history.contains("\n2 "),
        "{history}"
    );
    Ok(())
}

fn bad_image(cluster: &Cluster, ip: &str) -> Result<()> {
    step("a bad image stays ImagePullBackOff while the old pods serve");
    cluster.kubectl(&[
        "set",
        "image",
        "deployment/web",
        "web=registry.test/web:missing",
    ])?;
    let pod = until("a pod backs off", Duration::from_secs(90), || {
        let pods = cluster.list("pods", "app=web").map_err(|e| e.to_string())?;
        let backs_off = |pod: &&serde_json::Value| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
                == "ImagePullBackOff"
        };
        let found = pods
            .iter()
            .find(backs_off)
            .and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
        found.ok_or_else(|| "no pod in ImagePullBackOff".to_owned())
    })?;
    let described = cluster.kubectl(&["describe", "pod", &pod])?;
    ensure!(
        described.contains("web:missing") && described.contains("not found"),
        "an event names the cause:\n{described}"
    );
    let ready = cluster.get("deployment", "web")?["status"]["readyReplicas"].clone();
    ensure!(ready == 6, "all old pods are ready: {ready}");
    ensure!(
        cluster
            .curl("h3", &format!("http://{ip}/"))?
            .starts_with("2 "),
        "and serve"
    );
    Ok(())
}
