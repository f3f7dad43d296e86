//! Upstream's own kube-apiserver on three members: it starts, serves kubectl, and goes on when the leader is killed.
//! Not a test of that server.
//!
//! Building it takes many minutes, so it is not part of `make test`: `make e2e-upstream` builds it and runs this. The
//! programs are `kube-apiserver` and `kubectl` in the PATH.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::harness::{free_port, wait_for};
use super::process::Processes;

const TOKEN: &str = "of-this-test";

struct KubeApiserver {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for KubeApiserver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

impl KubeApiserver {
    fn start(servers: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(
            path("tokens"),
            format!("{TOKEN},admin,1,\"system:masters\"\n"),
        )
        .expect("written");
        let (private, public) = corten_base::pki::signing_key_pair().expect("a key");
        std::fs::write(path("sa.key"), private).expect("written");
        std::fs::write(path("sa.pub"), public).expect("written");
        let log = std::fs::File::create(path("log")).expect("a log");
        let process = Command::new("kube-apiserver")
            .arg(format!("--etcd-servers={servers}"))
            .arg(format!("--secure-port={port}"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--cert-dir={}", path("certs")))
            .arg(format!("--token-auth-file={}", path("tokens")))
            .arg(format!("--service-account-key-file={}", path("sa.pub")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                path("sa.key")
            ))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .args([
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .stdout(log.try_clone().expect("a copy"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("a kube-apiserver in the PATH: make e2e-upstream");
        Self { process, port, dir }
    }

    fn kubectl(&self, line: &str) -> Result<String, String> {
        let output = Command::new("kubectl")
            .arg(format!("--server=https://127.0.0.1:{}", self.port))
            .args(["--insecure-skip-tls-verify", "--request-timeout=20s"])
            .arg(format!("--token={TOKEN}"))
            .arg(format!("--cache-dir={}", self.dir.path().display()))
            .env("HOME", self.dir.path())
            .env_remove("KUBECONFIG")
            .args(line.split(' '))
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    async fn until(&self, line: &str, shows: &str) {
        wait_for(&format!("{shows:?} of kubectl {line}"), async || {
            let said = self.kubectl(line);
            let found = said.as_ref().is_ok_and(|text| text.contains(shows));
            if !found {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            found.then_some(())
        })
        .await;
    }
}

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds upstream's kube-apiserver: make e2e-upstream"]
async fn upstreams_api_server_works_on_three_members() {
    let mut members = Processes::start(3);
    members.leader().await;
    let servers: Vec<String> = members
        .client_ports
        .iter()
        .map(|port| format!("http://127.0.0.1:{port}"))
        .collect();
    let api = KubeApiserver::start(&servers.join(","));
    api.until("get --raw /readyz", "ok").await;
    api.until("get namespaces", "kube-system").await;
    let ok = |line: &str| {
        api.kubectl(line)
            .unwrap_or_else(|error| panic!("kubectl {line}: {error}"))
    };
    ok("create namespace smoke");
    ok("-n smoke create configmap m --from-literal=a=1");
    ok("-n smoke create deployment web --image=web:1 --replicas=3");
    ok("-n smoke scale deployment web --replicas=5");
    assert_eq!(
        ok("-n smoke get deployment web -o jsonpath={.spec.replicas}"),
        "5"
    );
    let crd = written(api.dir.path(), "crd.yaml", CRD);
    ok(&format!("apply -f {crd}"));
    api.until(
        "get crd widgets.example.com -o jsonpath={.status.conditions}",
        "Established",
    )
    .await;
    let before = ok("-n smoke get configmap m -o jsonpath={.metadata.resourceVersion}");
    let leader = members.leader().await;
    members.kill(leader);
    api.until(
        "-n smoke create configmap after --from-literal=b=2",
        "created",
    )
    .await;
    // Nothing that was there has changed or gone.
    assert_eq!(
        ok("-n smoke get configmap m -o jsonpath={.metadata.resourceVersion}"),
        before
    );
    assert_eq!(
        ok("-n smoke get deployment web -o jsonpath={.spec.replicas}"),
        "5"
    );
    let list = ok("-n smoke get configmaps");
    assert!(list.contains("after") && list.contains('m'), "{list}");
    ok("delete namespace smoke --wait=false");
}

const CRD: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
";
