//! Probes by command, HTTP and TCP: liveness restarts, readiness gates endpoints, startup holds the others, redirects.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::{SOON, container, create, delete, has, until_container};

const MANIFEST: &str = "apiVersion: v1
kind: Pod
metadata: {name: lively}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'trap \"exit 9\" TERM; touch /tmp/alive; while :; do sleep 1 & wait $!; done']
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: gated, labels: {app: gated}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: registry.test/web:1
    readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1, failureThreshold: 1}
    # It tolerates a slow start of the server: what is tested is that readiness alone restarts nothing.
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 20}
    ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: gated}
spec:
  selector: {app: gated}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'trap \"exit 0\" TERM; sleep 6; touch /tmp/up; while :; do sleep 1 & wait $!; done']
    startupProbe: {exec: {command: [cat, /tmp/up]}, periodSeconds: 1, failureThreshold: 60}
    livenessProbe: {exec: {command: [cat, /tmp/up]}, periodSeconds: 1, failureThreshold: 1}
    readinessProbe: {exec: {command: [cat, /tmp/up]}, periodSeconds: 1}
";

/// A server that sends its clients on: to another path of its own, and to another host.
const REDIRECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: answer}
data:
  answer: |
    read method path rest
    while read header && [ ${#header} -gt 1 ]; do :; done
    case $path in
      /home) printf 'HTTP/1.0 302 Found\\r\\nLocation: /here\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
      /away) printf 'HTTP/1.0 302 Found\\r\\nLocation: http://other.example/\\r\\nContent-Length: 5\\r\\n\\r\\nmoved' ;;
      /loop) printf 'HTTP/1.0 302 Found\\r\\nLocation: /loop\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
      /bad) printf 'HTTP/1.0 302 Found\\r\\nLocation: /none\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
      /here) printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
      *) printf 'HTTP/1.0 404 Not Found\\r\\nContent-Length: 0\\r\\n\\r\\n' ;;
    esac
";

fn redirected(path: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: redirect-{path}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: registry.test/web:1
    command: [nc, -ll, -p, '8080', -e, sh, /etc/answer/answer]
    readinessProbe: {{httpGet: {{path: /{path}, port: 8080}}, periodSeconds: 1}}
    volumeMounts: [{{name: answer, mountPath: /etc/answer}}]
  volumes: [{{name: answer, configMap: {{name: answer}}}}]
"
    )
}

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    create(cluster, MANIFEST)?;
    startup(cluster)?;
    liveness(cluster)?;
    readiness(cluster)?;
    redirects(cluster)?;
    delete(cluster, &["lively", "gated", "slow"])
}

fn startup(cluster: &Cluster) -> Result<()> {
    step("a startup probe holds the others");
    let status = until_container(cluster, "slow", "running", |status| {
        status["state"]["running"].is_object()
    })?;
    ensure!(
        status["started"] == false && status["ready"] == false,
        "{status}"
    );
    cluster.ready(&["slow"], Duration::from_secs(30))?;
    let status = container(cluster, "slow")?;
    ensure!(
        status["started"] == true && status["restartCount"] == 0,
        "liveness must not have looked before: {status}"
    );
    Ok(())
}

fn liveness(cluster: &Cluster) -> Result<()> {
    step("a liveness probe that fails restarts the container, with TERM first");
    cluster.ready(&["lively"], SOON)?;
    cluster.exec("lively", &["rm", "/tmp/alive"])?;
    let status = until_container(cluster, "lively", "restarted", |status| {
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    })?;
    ensure!(
        status["lastState"]["terminated"]["exitCode"] == 9,
        "its own answer to TERM: {status}"
    );
    has(
        &cluster.kubectl(&["describe", "pod", "lively"])?,
        &[
            "Unhealthy",
            "Liveness probe failed: cat",
            "Container c failed liveness probe, will be restarted",
        ],
    )
}

fn readiness(cluster: &Cluster) -> Result<()> {
    step("readiness gates the endpoints and restarts nothing");
    let endpoints = |want: usize| {
        until(
            &format!("{want} ready endpoints"),
            Duration::from_secs(20),
            || {
                let ready = cluster
                    .field("endpoints", "gated", "/subsets/0/addresses/0/ip")
                    .map_err(|e| e.to_string())?;
                if usize::from(!ready.is_empty()) == want {
                    Ok(())
                } else {
                    Err(ready)
                }
            },
        )
    };
    until_container(cluster, "gated", "running", |status| {
        status["state"]["running"].is_object()
    })?;
    endpoints(0)?;
    let ip = cluster.field("service", "gated", "/spec/clusterIP")?;
    let url = format!("http://{ip}/");
    ensure!(cluster.curl("h1", &url).is_err(), "nobody is ready");
    cluster.exec("gated", &["touch", "/tmp/www/ready"])?;
    cluster.ready(&["gated"], Duration::from_secs(20))?;
    endpoints(1)?;
    cluster.answers("h1", &url, Duration::from_secs(5))?;
    cluster.exec("gated", &["rm", "/tmp/www/ready"])?;
    endpoints(0)?;
    let status = container(cluster, "gated")?;
    ensure!(
        status["ready"] == false && status["restartCount"] == 0,
        "{status}"
    );
    has(
        &cluster.kubectl(&["describe", "pod", "gated"])?,
        &["Readiness probe failed: HTTP probe failed with statuscode: 404"],
    )
}

fn redirects(cluster: &Cluster) -> Result<()> {
    step("HTTP probes follow redirects on the same host, and only warn about others");
    create(cluster, REDIRECTS)?;
    for path in ["home", "away", "loop", "bad"] {
        create(cluster, &redirected(path))?;
    }
    cluster.ready(&["redirect-home", "redirect-away"], SOON)?;
    let told = |pod: &str, what: &str| {
        until(what, SOON, || {
            let text = cluster
                .kubectl(&["describe", "pod", pod])
                .map_err(|e| e.to_string())?;
            if text.contains(what) {
                Ok(())
            } else {
                Err(text)
            }
        })
    };
    told(
        "redirect-away",
        "Readiness probe warning: Probe terminated redirects, Response body: moved",
    )?;
    told("redirect-loop", "stopped after 10 redirects")?;
    told("redirect-bad", "HTTP probe failed with statuscode: 404")?;
    for pod in ["redirect-loop", "redirect-bad"] {
        ensure!(
            container(cluster, pod)?["ready"] == false,
            "{pod} is not ready"
        );
    }
    delete(
        cluster,
        &[
            "redirect-home",
            "redirect-away",
            "redirect-loop",
            "redirect-bad",
        ],
    )
}
