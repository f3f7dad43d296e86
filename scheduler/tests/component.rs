//! The scheduler against the real API server over an in-memory store, in one process. Nodes are data: no agent runs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use corten_apiserver::authn::User;
use corten_apiserver::{Config as ServerConfig, Server};
use corten_base::pki::{self, Authority, CertRequest, Usage};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::client::{DeleteOptions, ListOptions, Patch};
use corten_client::{Client, Error};
use corten_scheduler::{Config, Scheduler};
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

struct Cluster {
    admin: Client,
    shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn server_config(dir: &Path) -> ServerConfig {
    let authority = Authority::create("test-ca").expect("an authority");
    authority.write(dir, "ca").expect("written");
    let request = CertRequest {
        common_name: "apiserver".to_owned(),
        ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        usage: Usage::Server,
        ..CertRequest::default()
    };
    let (cert, key) = (dir.join("apiserver.crt"), dir.join("apiserver.key"));
    authority
        .issue_to_files(&request, &cert, &key)
        .expect("issued");
    let (private, public) = pki::signing_key_pair().expect("a key");
    pki::write_private(&dir.join("sa.key"), &private).expect("written");
    pki::write_public(&dir.join("sa.pub"), &public).expect("written");
    ServerConfig {
        bind_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        secure_port: Some(0),
        tls_cert_file: Some(cert),
        tls_private_key_file: Some(key),
        client_ca_file: Some(dir.join("ca.crt")),
        service_account_signing_key_file: Some(dir.join("sa.key")),
        service_account_key_file: vec![dir.join("sa.pub")],
        ..ServerConfig::default()
    }
}

fn object<K: serde::de::DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("well-formed")
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let server = Server::build_on(&server_config(dir.path()), corten_store::memory::channel())
            .await
            .expect("a server");
        let user = |name: &str, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            Client::from_channel(server.channel(User::authenticated(name, groups)))
        };
        let admin = user("test", &["system:masters"]);
        let scheduler = user("system:kube-scheduler", &[]);
        let shutdown = Shutdown::new();
        spawn("server", TaskKind::Background, server.run(shutdown.clone()));
        let cluster = Self {
            admin,
            shutdown,
            _dir: dir,
        };
        cluster
            .until("the server is ready", async |admin| {
                admin
                    .get_opt::<Namespace>("", "kube-system")
                    .await
                    .ok()??
                    .metadata
                    .uid
            })
            .await;
        let account = json!({"metadata": {"namespace": "default", "name": "default"}});
        cluster
            .until("an account", async |admin| {
                match admin
                    .create(&object::<ServiceAccount>(account.clone()))
                    .await
                {
                    Ok(_) | Err(Error::AlreadyExists(_)) => Some(()),
                    Err(_) => None,
                }
            })
            .await;
        let config = Config {
            admin_listen: None,
            ..Config::default()
        };
        let scheduler = Scheduler::build(config, Some(scheduler)).expect("a scheduler");
        let stop = cluster.shutdown.clone();
        spawn("scheduler", TaskKind::Background, async move {
            scheduler.run(stop).await.expect("it runs");
        });
        cluster
    }

    /// Asks until there is an answer.
    async fn until<T>(&self, what: &str, ask: impl AsyncFn(&Client) -> Option<T>) -> T {
        let answer = async {
            loop {
                if let Some(answer) = ask(&self.admin).await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, answer)
            .await
            .unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    async fn node(&self, name: &str, cpu: &str) {
        let room = json!({"cpu": cpu, "memory": "8Gi", "pods": "110"});
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        self.admin
            .create(&object::<Node>(node))
            .await
            .expect("a node");
        let status = json!({"status": {"capacity": room, "allocatable": room}});
        self.admin
            .patch_status::<Node>("", name, &Patch::Merge(status))
            .await
            .expect("its status");
        // Whoever taints new nodes until they are ready is not running here; what admission put on is taken off.
        let open = json!({"spec": {"taints": null}});
        self.admin
            .patch::<Node>("", name, &Patch::Merge(open))
            .await
            .expect("no taints");
    }

    async fn pod(&self, name: &str, cpu: &str, class: Option<&str>) {
        let mut pod = json!({"metadata": {"namespace": "default", "name": name},
            "spec": {"containers": [{"name": "c", "image": "pause", "resources": {"requests": {"cpu": cpu}}}]}});
        if let Some(class) = class {
            pod["spec"]["priorityClassName"] = json!(class);
        }
        self.admin.create(&object::<Pod>(pod)).await.expect("a pod");
    }

    async fn get(&self, name: &str) -> Pod {
        self.admin.get("default", name).await.expect("the pod")
    }

    async fn bound(&self, name: &str) -> String {
        self.until(&format!("{name} is bound"), async |_| {
            self.get(name).await.spec?.node_name
        })
        .await
    }

    async fn unschedulable(&self, name: &str) -> String {
        self.until(&format!("{name} is told why it waits"), async |_| {
            let conditions = self.get(name).await.status?.conditions?;
            let told = conditions.into_iter().find(|condition| {
                condition.type_ == "PodScheduled" && condition.status == "False"
            })?;
            assert_eq!(told.reason.as_deref(), Some("Unschedulable"));
            told.message
        })
        .await
    }

    async fn event(&self, reason: &str, name: &str) -> String {
        self.until(&format!("event {reason} about {name}"), async |admin| {
            let events = admin
                .list::<Event>(&ListOptions::namespace("default"))
                .await
                .ok()?;
            let about = |event: &Event| {
                event.reason.as_deref() == Some(reason)
                    && event.involved_object.name.as_deref() == Some(name)
            };
            events.items.into_iter().find(about)?.message
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_bound_and_told_about() {
    let cluster = Cluster::start().await;
    cluster.node("n1", "2").await;
    cluster.node("n2", "2").await;
    cluster.pod("a", "1500m", None).await;
    cluster.pod("b", "1500m", None).await;
    let (a, b) = (cluster.bound("a").await, cluster.bound("b").await);
    assert_ne!(a, b);
    assert_eq!(
        cluster.event("Scheduled", "a").await,
        format!("Successfully assigned default/a to {a}")
    );
    let conditions = cluster
        .get("a")
        .await
        .status
        .and_then(|status| status.conditions)
        .expect("conditions");
    assert!(
        conditions
            .iter()
            .any(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_room_says_why_and_is_bound_when_room_comes() {
    let cluster = Cluster::start().await;
    cluster.node("n1", "1").await;
    cluster.pod("big", "3", None).await;
    let why = cluster.unschedulable("big").await;
    assert!(
        why.starts_with("0/1 nodes are available: 1 Insufficient cpu. preemption: "),
        "{why}"
    );
    assert!(why.contains("n1 (cpu wants 3, free 1 of 1)"), "{why}");
    assert_eq!(cluster.event("FailedScheduling", "big").await, why);
    cluster.node("n2", "4").await;
    assert_eq!(cluster.bound("big").await, "n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_important_pod_takes_the_place_of_a_lesser_one() {
    let cluster = Cluster::start().await;
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    cluster
        .admin
        .create(&object::<PriorityClass>(class))
        .await
        .expect("a class");
    cluster.node("n1", "1").await;
    cluster.pod("low", "1", None).await;
    assert_eq!(cluster.bound("low").await, "n1");
    cluster.pod("high", "1", Some("high")).await;
    let victim = cluster
        .until("the victim is going", async |_| {
            let victim = cluster.get("low").await;
            victim
                .metadata
                .deletion_timestamp
                .is_some()
                .then_some(victim)
        })
        .await;
    let conditions = victim
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let marked = conditions
        .iter()
        .find(|condition| condition.type_ == "DisruptionTarget");
    assert_eq!(
        marked.and_then(|condition| condition.reason.as_deref()),
        Some("PreemptionByScheduler")
    );
    let nominated = cluster
        .until("the nomination", async |_| {
            cluster.get("high").await.status?.nominated_node_name
        })
        .await;
    assert_eq!(nominated, "n1");
    // No agent ends the victim here.
    let now = DeleteOptions::default().grace(0);
    cluster
        .admin
        .delete::<Pod>("default", "low", &now)
        .await
        .expect("gone");
    assert_eq!(cluster.bound("high").await, "n1");
}
