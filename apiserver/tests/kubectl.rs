//! The real kubectl against the real server over an in-memory store: what people type first.
//!
//! The binary is taken from `CORTEN_KUBECTL` or the PATH; without one these tests say so and pass, as the end-to-end tests,
//! which install it, cover the same ground. Invariant: each test owns its server, its certificates and its folder.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use corten_apiserver::{Config, Server};
use corten_base::pki::{self, Authority, CertRequest, Usage};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};

fn kubectl_binary() -> Option<PathBuf> {
    let found = std::env::var_os("CORTEN_KUBECTL")
        .map(PathBuf::from)
        .filter(|path| path.exists());
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join("kubectl"))
            .find(|file| file.exists())
    };
    found.or_else(in_path)
}

struct Cluster {
    kubectl: PathBuf,
    dir: tempfile::TempDir,
    shutdown: Shutdown,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Cluster {
    async fn start() -> Option<Self> {
        let Some(kubectl) = kubectl_binary() else {
            panic!("no kubectl found: run `make unit`, which builds one, or set CORTEN_KUBECTL");
        };
        let dir = tempfile::tempdir().expect("a folder");
        let config = write_pki(dir.path());
        let store = corten_store::memory::channel();
        let server = Server::build_on(&config, store).await.expect("a server");
        let address = server.address().expect("bound");
        let admin = server.admin().clone();
        let shutdown = Shutdown::new();
        spawn("server", TaskKind::Background, server.run(shutdown.clone()));
        for user in ["admin", "jane", "node", "nobody"] {
            write_kubeconfig(dir.path(), user, address.port());
        }
        let ready = async {
            while admin
                .handle("/readyz", None)
                .is_none_or(|answer| answer.status() != 200)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ready)
            .await
            .expect("ready in time");
        Some(Self {
            kubectl,
            dir,
            shutdown,
        })
    }

    async fn run(&self, user: &str, line: &str) -> Output {
        let mut command = tokio::process::Command::new(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.dir.path().join(user).with_extension("conf"));
        command
            .arg("--cache-dir")
            .arg(self.dir.path().join("cache"));
        command.args(line.split(' ')).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        output.expect("in time").expect("started")
    }

    /// Standard output of a command that must succeed.
    async fn ok(&self, user: &str, line: &str) -> String {
        let output = self.run(user, line).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "kubectl {line}: {errors}{text}");
        text
    }

    /// Standard error of a command that must fail.
    async fn fails(&self, user: &str, line: &str) -> String {
        let output = self.run(user, line).await;
        assert!(
            !output.status.success(),
            "kubectl {line} was expected to fail"
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn write_pki(dir: &Path) -> Config {
    let authority = Authority::create("test-ca").expect("an authority");
    authority.write(dir, "ca").expect("written");
    let issue = |name: &str, request: CertRequest| {
        let (cert, key) = (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        );
        authority
            .issue_to_files(&request, &cert, &key)
            .expect("issued");
    };
    let client = |name: &str, groups: &[&str]| CertRequest {
        common_name: name.to_owned(),
        organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..CertRequest::default()
    };
    issue("admin", client("kubernetes-admin", &["system:masters"]));
    issue("jane", client("jane", &["developers"]));
    issue("node", client("system:node:n1", &["system:nodes"]));
    let server = CertRequest {
        common_name: "apiserver".to_owned(),
        ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        usage: Usage::Server,
        ..CertRequest::default()
    };
    issue("apiserver", server);
    let (private, public) = pki::signing_key_pair().expect("a key");
    pki::write_private(&dir.join("sa.key"), &private).expect("written");
    pki::write_public(&dir.join("sa.pub"), &public).expect("written");
    Config {
        bind_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        secure_port: Some(0),
        tls_cert_file: Some(dir.join("apiserver.crt")),
        tls_private_key_file: Some(dir.join("apiserver.key")),
        client_ca_file: Some(dir.join("ca.crt")),
        service_account_signing_key_file: Some(dir.join("sa.key")),
        service_account_key_file: vec![dir.join("sa.pub")],
        audit_log_path: Some(dir.join("audit.log")),
        ..Config::default()
    }
}

fn write_kubeconfig(dir: &Path, user: &str, port: u16) {
    let path = |name: &str| dir.join(name).display().to_string();
    let credentials = match user {
        "nobody" => serde_json::json!({}),
        user => serde_json::json!({
            "client-certificate": path(&format!("{user}.crt")), "client-key": path(&format!("{user}.key"))}),
    };
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": path("ca.crt")}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
    });
    std::fs::write(dir.join(user).with_extension("conf"), text.to_string()).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_is_and_offers() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let version = cluster.ok("admin", "version -o json").await;
    assert!(version.contains("v1.35.0+corten."), "{version}");
    let resources = cluster.ok("admin", "api-resources").await;
    for line in [
        "pods",
        "deployments",
        "clusterrolebindings",
        "endpointslices",
    ] {
        assert!(resources.contains(line), "{line} missing in\n{resources}");
    }
    let versions = cluster.ok("admin", "api-versions").await;
    assert!(
        versions.contains("rbac.authorization.k8s.io/v1"),
        "{versions}"
    );
    assert_eq!(cluster.ok("admin", "get --raw /readyz").await, "ok");
    assert!(
        cluster
            .ok("admin", "get --raw /readyz?verbose")
            .await
            .contains("[+]bootstrap ok")
    );
    assert!(
        cluster
            .ok("admin", "get --raw /metrics")
            .await
            .contains("apiserver_request_total")
    );
    let explained = cluster
        .ok("admin", "explain pod.spec.containers.name")
        .await;
    assert!(explained.contains("FIELD: name <string>"), "{explained}");
    let info = cluster.ok("admin", "cluster-info").await;
    assert!(info.contains("Kubernetes control plane"), "{info}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn who_may_do_what() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let forbidden = cluster.fails("jane", "get pods").await;
    assert!(
        forbidden.contains("pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""),
        "{forbidden}"
    );
    assert!(
        cluster
            .fails("jane", "auth can-i list pods")
            .await
            .is_empty()
    );
    assert_eq!(cluster.ok("admin", "auth can-i * *").await.trim(), "yes");
    assert!(
        cluster
            .ok("admin", "auth whoami")
            .await
            .contains("kubernetes-admin")
    );

    cluster
        .ok(
            "admin",
            "create rolebinding dev --clusterrole=edit --group=developers",
        )
        .await;
    let can = async {
        while cluster
            .run("jane", "auth can-i create deployments.apps")
            .await
            .stdout
            != b"yes\n"
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), can)
        .await
        .expect("the aggregated role reaches jane");
    let listed = cluster.ok("jane", "auth can-i --list").await;
    assert!(
        listed.contains("selfsubjectaccessreviews.authorization.k8s.io"),
        "{listed}"
    );
    cluster
        .ok("jane", "create configmap mine --from-literal=a=b")
        .await;
    let refused = cluster
        .fails(
            "jane",
            "create rolebinding more --clusterrole=cluster-admin --user=jane",
        )
        .await;
    assert!(refused.contains("forbidden"), "{refused}");
    assert!(
        cluster
            .fails("admin", "get secrets -A --as=jane")
            .await
            .contains("User \"jane\" cannot list resource")
    );

    cluster.ok("admin", "create serviceaccount robot").await;
    let token = cluster.ok("admin", "create token robot").await;
    let whoami = cluster
        .ok("nobody", &format!("auth whoami --token {}", token.trim()))
        .await;
    assert!(
        whoami.contains("system:serviceaccount:default:robot"),
        "{whoami}"
    );
    let refused = cluster
        .fails("nobody", &format!("get pods --token {}x", token.trim()))
        .await;
    assert!(refused.contains("Unauthorized"), "{refused}");
    let node = cluster.fails("node", "get secrets").await;
    assert!(node.contains("No Object name found"), "{node}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applies_on_the_server_know_whose_field_is_whose() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let file = cluster.dir.path().join("map.yaml");
    let write = |value: &str| {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{mine: {value}}}\n"
        );
        std::fs::write(&file, text).expect("written");
    };
    let apply = format!("apply --server-side -f {}", file.display());
    write("one");
    let first = cluster.ok("admin", &apply).await;
    assert!(first.contains("configmap/m serverside-applied"), "{first}");
    cluster
        .ok(
            "admin",
            "patch configmap m --type=merge -p {\"data\":{\"other\":\"x\",\"mine\":\"two\"}}",
        )
        .await;
    let refused = cluster.fails("admin", &apply).await;
    assert!(
        refused.contains("conflict with \"kubectl-patch\" using v1: .data.mine"),
        "{refused}"
    );
    cluster
        .ok("admin", &format!("{apply} --force-conflicts"))
        .await;
    let read = cluster
        .ok("admin", "get configmap m -o jsonpath={.data}")
        .await;
    assert_eq!(read, "{\"mine\":\"one\",\"other\":\"x\"}");
    let managers = cluster
        .ok("admin", "get configmap m --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}")
        .await;
    assert_eq!(managers, "kubectl kubectl-patch");
    // What was made by the client's own apply moves over without a fight.
    let old = cluster.dir.path().join("old.yaml");
    std::fs::write(
        &old,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: old}\ndata: {a: \"1\"}\n",
    )
    .expect("written");
    cluster
        .ok("admin", &format!("apply -f {}", old.display()))
        .await;
    std::fs::write(
        &old,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: old}\ndata: {a: \"2\"}\n",
    )
    .expect("written");
    cluster
        .ok(
            "admin",
            &format!("apply --server-side -f {}", old.display()),
        )
        .await;
}
