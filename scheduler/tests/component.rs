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
        Self::with_schedulers(&[true]).await
    }

    /// One scheduler for each entry, which says whether it takes part in the election.
    async fn with_schedulers(elections: &[bool]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let server = Server::build_on(&server_config(dir.path()), corten_store::memory::channel())
            .await
            .expect("a server");
        let user = |name: &str, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            Client::from_channel(server.channel(User::authenticated(name, groups)))
        };
        let admin = user("test", &["system:masters"]);
        let schedulers: Vec<(Client, bool)> = elections
            .iter()
            .map(|elects| (user("system:kube-scheduler", &[]), *elects))
            .collect();
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
        for (client, leader_elect) in schedulers {
            let config = Config {
                admin_listen: None,
                leader_elect,
                ..Config::default()
            };
            let scheduler = Scheduler::build(config, Some(client)).expect("a scheduler");
            let stop = cluster.shutdown.clone();
            spawn("scheduler", TaskKind::Background, async move {
                scheduler.run(stop).await.expect("it runs");
            });
        }
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
        let class = class.map_or(json!({}), |class| json!({"priorityClassName": class}));
        self.pod_with(name, cpu, class).await;
    }

    /// A pod with more in its spec; what is said of its container is put beside its requests.
    async fn pod_with(&self, name: &str, cpu: &str, more: Value) {
        let mut pod = json!({"metadata": {"namespace": "default", "name": name},
            "spec": {"containers": [{"name": "c", "image": "pause", "resources": {"requests": {"cpu": cpu}}}]}});
        for (field, value) in more.as_object().expect("fields") {
            match field.as_str() {
                "ports" => pod["spec"]["containers"][0]["ports"] = value.clone(),
                _ => pod["spec"][field] = value.clone(),
            }
        }
        self.admin.create(&object::<Pod>(pod)).await.expect("a pod");
    }

    async fn change_node(&self, name: &str, patch: Value) {
        self.admin
            .patch::<Node>("", name, &Patch::Merge(patch))
            .await
            .expect("changed");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_event_says_node_by_node_why() {
    let cluster = Cluster::start().await;
    for name in ["cordoned", "full", "other", "tainted"] {
        cluster.node(name, "1").await;
    }
    cluster
        .change_node(
            "cordoned",
            json!({"spec": {"unschedulable": true}, "metadata": {"labels": {"disk": "ssd"}}}),
        )
        .await;
    cluster
        .change_node("full", json!({"metadata": {"labels": {"disk": "ssd"}}}))
        .await;
    let taint = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    cluster
        .change_node(
            "tainted",
            json!({"spec": {"taints": taint}, "metadata": {"labels": {"disk": "ssd"}}}),
        )
        .await;
    let picky = json!({"nodeSelector": {"disk": "ssd"}});
    cluster.pod_with("big", "2", picky.clone()).await;
    let why = cluster.unschedulable("big").await;
    assert!(why.starts_with("0/4 nodes are available: "), "{why}");
    for part in [
        "1 Insufficient cpu",
        "1 node(s) didn't match Pod's node affinity/selector",
        "1 node(s) had untolerated taint {gpu: yes}",
        "1 node(s) were unschedulable",
        "cordoned (cordoned)",
        "full (cpu wants 2, free 1 of 1)",
        "other (node affinity/selector)",
        "tainted (taint gpu=yes)",
    ] {
        assert!(why.contains(part), "{part:?} is missing in {why:?}");
    }
    assert_eq!(cluster.event("FailedScheduling", "big").await, why);

    // Each obstacle that goes lets somebody through.
    cluster.pod_with("small", "500m", picky.clone()).await;
    assert_eq!(cluster.bound("small").await, "full");
    cluster.pod_with("patient", "1", picky.clone()).await;
    cluster.unschedulable("patient").await;
    cluster
        .change_node("cordoned", json!({"spec": {"unschedulable": null}}))
        .await;
    assert_eq!(cluster.bound("patient").await, "cordoned");
    let mut tolerant = picky;
    tolerant["tolerations"] =
        json!([{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]);
    cluster.pod_with("tolerant", "1", tolerant).await;
    assert_eq!(cluster.bound("tolerant").await, "tainted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_port_is_given_once_per_node() {
    let cluster = Cluster::start().await;
    cluster.node("n1", "4").await;
    cluster.node("n2", "4").await;
    let web = json!({"ports": [{"containerPort": 80, "hostPort": 8080}]});
    for name in ["a", "b", "c"] {
        cluster.pod_with(name, "100m", web.clone()).await;
    }
    let why = cluster
        .until("one of the three finds no port", async |_| {
            for name in ["a", "b", "c"] {
                let conditions = cluster
                    .get(name)
                    .await
                    .status?
                    .conditions
                    .unwrap_or_default();
                let told = conditions
                    .into_iter()
                    .find(|it| it.type_ == "PodScheduled" && it.status == "False");
                if let Some(told) = told {
                    return Some((name, told.message.unwrap_or_default()));
                }
            }
            None
        })
        .await;
    let (loser, message) = why;
    assert!(
        message.contains("2 node(s) didn't have free ports for the requested pod ports"),
        "{message}"
    );
    // The same port of another protocol is another port.
    let udp = json!({"ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}]});
    cluster.pod_with("udp", "100m", udp).await;
    cluster.bound("udp").await;
    let winner = ["a", "b", "c"]
        .into_iter()
        .find(|name| *name != loser)
        .expect("two won");
    let freed = cluster.bound(winner).await;
    cluster
        .admin
        .delete::<Pod>("default", winner, &DeleteOptions::default().grace(0))
        .await
        .expect("gone");
    assert_eq!(cluster.bound(loser).await, freed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_schedulers_that_bind_the_same_pods_lose_none_and_leak_no_room() {
    const PODS: usize = 40;
    let cluster = Cluster::with_schedulers(&[false, false]).await;
    cluster.node("n1", "4").await;
    cluster.node("n2", "4").await;
    for n in 0..PODS {
        cluster.pod(&format!("p{n}"), "100m", None).await;
    }
    for n in 0..PODS {
        cluster.bound(&format!("p{n}")).await;
    }
    // Both tried most of them; the refused bindings must have given their room back.
    for n in 0..PODS {
        cluster
            .admin
            .delete::<Pod>(
                "default",
                &format!("p{n}"),
                &DeleteOptions::default().grace(0),
            )
            .await
            .expect("gone");
    }
    // One for each node: two schedulers that do not know of each other's choice may well choose the same.
    for node in ["n1", "n2"] {
        let there = json!({"nodeSelector": {"kubernetes.io/hostname": node}});
        let name = format!("whole-{node}");
        cluster.pod_with(&name, "4", there).await;
        assert_eq!(cluster.bound(&name).await, node);
    }
}
