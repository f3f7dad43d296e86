//! A server with controllers on it, and what a node agent would write.
//!
//! The controllers come as the user that their certificate names, so that user's roles are tested too. Invariant: everything ends
//! with the harness.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use corten_apiserver::authn::User;
use corten_apiserver::{Config as ServerConfig, Server};
use corten_base::pki::{Authority, CertRequest, Usage};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::client::{DeleteOptions, ListOptions, Patch};
use corten_client::{Client, Object};
use corten_controllers::{Config, Controllers};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Longer than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Controllers of one test: those that act, and rivals.
const MANAGERS: usize = 2;

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) shutdown: Shutdown,
    /// Clients of controllers that the test starts itself.
    pub(crate) managers: Vec<Client>,
    /// The last number of the next pod's address.
    addresses: AtomicU8,
    dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn server_config(dir: &Path) -> ServerConfig {
    let authority = Authority::create("test").expect("an authority");
    authority.write(dir, "ca").expect("written");
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request = CertRequest {
        common_name: "kubernetes".to_owned(),
        ips: vec![local],
        usage: Usage::Server,
        ..CertRequest::default()
    };
    let (cert, key) = (dir.join("server.crt"), dir.join("server.key"));
    authority
        .issue_to_files(&request, &cert, &key)
        .expect("issued");
    ServerConfig {
        bind_address: Some(local),
        secure_port: Some(0),
        client_ca_file: Some(dir.join("ca.crt")),
        tls_cert_file: Some(cert),
        tls_private_key_file: Some(key),
        ..ServerConfig::default()
    }
}

/// A server with one set of controllers on it.
pub(crate) async fn start(settings: impl FnOnce(&mut Config)) -> Cluster {
    let cluster = start_without_controllers().await;
    let mut config = cluster.config();
    settings(&mut config);
    let client = cluster.managers[0].clone();
    let controllers = Controllers::build(config, Some(client)).expect("controllers");
    spawn(
        "controllers",
        TaskKind::Background,
        controllers.run(cluster.shutdown.clone()),
    );
    cluster
}

/// A server that is ready. Whoever wants controllers starts them.
pub(crate) async fn start_without_controllers() -> Cluster {
    let dir = tempfile::tempdir().expect("a folder");
    let config = server_config(dir.path());
    let server = Server::build_on(&config, corten_store::memory::channel())
        .await
        .expect("a server");
    let client = |name: &str, groups: &[&str]| {
        Client::from_channel(server.channel(User::authenticated(name, groups.iter().copied())))
    };
    let ours = client("test", &["system:masters"]);
    let managers = (0..MANAGERS).map(|_| client("system:kube-controller-manager", &[]));
    let managers = managers.collect();
    let (admin, shutdown) = (server.admin().clone(), Shutdown::new());
    spawn("server", TaskKind::Background, server.run(shutdown.clone()));
    until("the server is ready", async || {
        let answer = admin.handle("/readyz", None)?;
        (answer.status() == 200).then_some(())
    })
    .await;
    Cluster {
        client: ours,
        shutdown,
        managers,
        addresses: AtomicU8::new(2),
        dir,
    }
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, asked)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

pub(crate) fn parse<K: Object>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

impl Cluster {
    /// The controllers' settings, with an election that nobody else takes part in.
    pub(crate) fn config(&self) -> Config {
        Config {
            root_ca_file: Some(self.dir.path().join("ca.crt")),
            leader_elect: Some(true),
            ..Config::default()
        }
    }

    pub(crate) async fn create<K: Object>(&self, value: Value) -> K {
        self.client
            .create(&parse::<K>(value))
            .await
            .expect("created")
    }

    pub(crate) async fn merge<K: Object>(&self, namespace: &str, name: &str, patch: Value) -> K {
        let patched = self
            .client
            .patch(namespace, name, &Patch::Merge(patch))
            .await;
        patched.expect("patched")
    }

    pub(crate) async fn merge_status<K: Object>(&self, namespace: &str, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let patched = self.client.patch_status::<K>(namespace, name, &patch).await;
        patched.expect("patched");
    }

    pub(crate) async fn delete<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) {
        self.client
            .delete::<K>(namespace, name, options)
            .await
            .expect("deleted");
    }

    pub(crate) async fn list<K: Object>(&self, namespace: &str) -> Vec<K> {
        self.client
            .list::<K>(&ListOptions::namespace(namespace))
            .await
            .expect("listed")
            .items
    }

    /// Waits until the objects of a namespace are as asked for.
    pub(crate) async fn wait<K: Object>(
        &self,
        what: &str,
        namespace: &str,
        holds: impl Fn(&[K]) -> bool,
    ) -> Vec<K> {
        until(what, async || {
            let list = self.list::<K>(namespace).await;
            holds(&list).then_some(list)
        })
        .await
    }

    /// Says of every new pod that it runs and is ready, as its node agent would.
    pub(crate) async fn run_pods(&self, namespace: &str) {
        for pod in self.list::<Pod>(namespace).await {
            let status = pod.status.unwrap_or_default();
            let name = pod.metadata.name.as_deref().expect("a name");
            if status.phase.as_deref() == Some("Running") {
                continue;
            }
            let number = self.addresses.fetch_add(1, Ordering::Relaxed);
            let ip = format!("10.244.0.{number}");
            let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            // It may be gone by now.
            let _ = self
                .client
                .patch_status::<Pod>(namespace, name, &Patch::Merge(status))
                .await;
        }
    }

    /// Lets pods that are asked to go, go.
    pub(crate) async fn end_pods(&self, namespace: &str) {
        let pods = self.list::<Pod>(namespace).await;
        let going = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_some());
        for pod in going {
            let name = pod.metadata.name.as_deref().expect("a name");
            let _ = self
                .client
                .delete::<Pod>(namespace, name, &DeleteOptions::default().grace(0))
                .await;
        }
    }

    /// Plays node agent until the Deployment's rollout is through at this revision, with this image everywhere.
    pub(crate) async fn settle(&self, revision: &str, image: &str, replicas: usize) -> Deployment {
        until("the rollout settles", async || {
            self.run_pods("default").await;
            self.end_pods("default").await;
            let deployment: Deployment = self.client.get("default", "web").await.expect("read");
            let pods = self.list::<Pod>("default").await;
            let done = revision_of(&deployment) == revision
                && condition(&deployment, "Progressing") == "True NewReplicaSetAvailable"
                && pods.len() == replicas
                && pods.iter().all(|pod| image_of(pod) == image);
            done.then_some(deployment)
        })
        .await
    }
}

pub(crate) fn image_of(pod: &Pod) -> String {
    let spec = pod.spec.as_ref().expect("a spec");
    spec.containers[0].image.clone().unwrap_or_default()
}

pub(crate) fn revision_of(deployment: &Deployment) -> String {
    let annotations = deployment.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get("deployment.kubernetes.io/revision"))
        .cloned()
        .unwrap_or_default()
}

/// The Deployment that most tests begin with.
pub(crate) fn web(image: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}}},
    })
}

/// Status and reason of a condition.
pub(crate) fn condition(deployment: &Deployment, kind: &str) -> String {
    let conditions = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let found = conditions.filter(|condition| condition.type_ == kind);
    found
        .map(|c| format!("{} {}", c.status, c.reason.as_deref().unwrap_or_default()))
        .next()
        .unwrap_or_default()
}
