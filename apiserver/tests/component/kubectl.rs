//! The real kubectl against the real server: what people type first.
//!
//! The binary is taken from `CORTEN_KUBECTL` or the PATH; the tests fail without one.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use super::harness::Api;

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
    api: Api,
}

impl Cluster {
    async fn start() -> Self {
        let kubectl = kubectl_binary();
        let kubectl = kubectl.expect("a kubectl: `make unit` builds one; or set CORTEN_KUBECTL");
        let api = Api::start(|_| ()).await;
        for user in ["admin", "dev", "node", "anonymous"] {
            write_kubeconfig(&api, user);
        }
        Self { kubectl, api }
    }

    async fn run(&self, user: &str, line: &str) -> Output {
        let mut command = tokio::process::Command::new(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.api.dir().join(user).with_extension("conf"));
        command.arg("--cache-dir").arg(self.api.dir().join("cache"));
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

fn write_kubeconfig(api: &Api, user: &str) {
    let dir = api.dir();
    let path = |name: &str| dir.join(name).display().to_string();
    let credentials = match user {
        "anonymous" => serde_json::json!({}),
        user => serde_json::json!({
            "client-certificate": path(&format!("{user}.crt")), "client-key": path(&format!("{user}.key"))}),
    };
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{}", api.address), "certificate-authority": path("ca.crt")}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
    });
    std::fs::write(dir.join(user).with_extension("conf"), text.to_string()).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_is_and_offers() {
    let cluster = Cluster::start().await;
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
    let components = cluster.run("admin", "get cs").await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (told, warned) = (text(&components.stdout), text(&components.stderr));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = told.lines().map(words).collect();
    assert_eq!(lines[0], "NAME STATUS MESSAGE ERROR");
    assert!(
        lines.contains(&"etcd-0 Healthy ok".to_owned()),
        "the store answers: {told}"
    );
    assert!(
        lines.contains(
            &"scheduler Unhealthy nobody has taken the lease kube-scheduler yet".to_owned()
        ),
        "there is none here: {told}"
    );
    assert!(
        warned.contains("v1 ComponentStatus is deprecated in v1.19+"),
        "{warned}"
    );
    let unknown = cluster.fails("admin", "get cs nobody").await;
    assert!(
        unknown.contains(r#"(NotFound): componentstatus "nobody" not found"#),
        "{unknown}"
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
    let cluster = Cluster::start().await;
    let forbidden = cluster.fails("dev", "get pods").await;
    assert!(
        forbidden.contains("pods is forbidden: User \"dev\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""),
        "{forbidden}"
    );
    assert!(
        cluster
            .fails("dev", "auth can-i list pods")
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
            "create rolebinding devs --clusterrole=edit --group=developers",
        )
        .await;
    let can = async {
        while cluster
            .run("dev", "auth can-i create deployments.apps")
            .await
            .stdout
            != b"yes\n"
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), can)
        .await
        .expect("the aggregated role reaches dev");
    let listed = cluster.ok("dev", "auth can-i --list").await;
    assert!(
        listed.contains("selfsubjectaccessreviews.authorization.k8s.io"),
        "{listed}"
    );
    cluster
        .ok("dev", "create configmap mine --from-literal=a=b")
        .await;
    let refused = cluster
        .fails(
            "dev",
            "create rolebinding more --clusterrole=cluster-admin --user=dev",
        )
        .await;
    assert!(refused.contains("forbidden"), "{refused}");
    assert!(
        cluster
            .fails("admin", "get secrets -A --as=dev")
            .await
            .contains("User \"dev\" cannot list resource")
    );

    cluster.ok("admin", "create serviceaccount robot").await;
    let token = cluster.ok("admin", "create token robot").await;
    let whoami = cluster
        .ok(
            "anonymous",
            &format!("auth whoami --token {}", token.trim()),
        )
        .await;
    assert!(
        whoami.contains("system:serviceaccount:default:robot"),
        "{whoami}"
    );
    let refused = cluster
        .fails("anonymous", &format!("get pods --token {}x", token.trim()))
        .await;
    assert!(refused.contains("Unauthorized"), "{refused}");
    let node = cluster.fails("node", "get secrets").await;
    assert!(node.contains("No Object name found"), "{node}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applies_on_the_server_know_whose_field_is_whose() {
    let cluster = Cluster::start().await;
    let file = cluster.api.dir().join("map.yaml");
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
    let old = cluster.api.dir().join("old.yaml");
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
