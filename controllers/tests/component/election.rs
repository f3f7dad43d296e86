//! Two managers: one acts, and when it is killed the other takes over.

use std::time::Duration;

use corten_base::tasks::{TaskKind, spawn};
use corten_client::leader::LeaderConfig;
use corten_controllers::Controllers;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::harness::{Cluster, start_without_controllers, until, web};

fn times(identity: &str) -> LeaderConfig {
    LeaderConfig {
        lease_duration: Duration::from_secs(3),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_millis(300),
        ..LeaderConfig::new("kube-controller-manager", identity)
    }
}

fn manager(cluster: &Cluster, at: usize, identity: &str) -> Controllers {
    let client = cluster.managers[at].clone();
    let built = Controllers::build(cluster.config(), Some(client));
    built.expect("controllers").with_election(times(identity))
}

async fn holder(cluster: &Cluster) -> Option<String> {
    let lease = cluster
        .client
        .get_opt::<Lease>("kube-system", "kube-controller-manager")
        .await;
    let spec = lease.expect("read")?.spec?;
    spec.holder_identity.filter(|holder| !holder.is_empty())
}

async fn held_by(cluster: &Cluster, identity: &str) {
    until("the lease is held", async || {
        (holder(cluster).await.as_deref() == Some(identity)).then_some(())
    })
    .await;
}

#[test]
fn a_killed_manager_is_replaced() {
    // A runtime of its own: when it goes, all tasks of that manager go between two instructions, as by kill -9.
    let first = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let main = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    main.block_on(async {
        let cluster = start_without_controllers().await;
        let one = manager(&cluster, 0, "one");
        let never = corten_base::shutdown::Shutdown::new();
        let _running = first.spawn_blocking({
            let handle = first.handle().clone();
            move || handle.block_on(one.run(never))
        });
        held_by(&cluster, "one").await;
        let two = manager(&cluster, 1, "two");
        let loops = two.admin().loops();
        spawn(
            "two",
            TaskKind::Background,
            two.run(cluster.shutdown.clone()),
        );
        cluster.create::<Deployment>(web("a", 3)).await;
        cluster.settle("1", "a", 3).await;
        until("the second stands by", async || {
            let reports = loops.reports();
            let report = reports
                .iter()
                .find(|(name, _)| name == "replicaset-controller")?;
            assert!(
                report.1.note.starts_with("waits for the lease"),
                "{report:?}"
            );
            assert_eq!(report.1.runs, 0);
            Some(())
        })
        .await;
        assert_eq!(
            cluster.list::<Pod>("default").await.len(),
            3,
            "only one acts"
        );

        first.shutdown_background();
        cluster
            .merge::<Deployment>("default", "web", json!({"spec": {"replicas": 5}}))
            .await;
        held_by(&cluster, "two").await;
        cluster.settle("1", "a", 5).await;
        let reports = loops.reports();
        let report = reports
            .iter()
            .find(|(name, _)| name == "replicaset-controller");
        assert!(
            report.is_some_and(|(_, report)| report.runs > 0),
            "{reports:?}"
        );
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_stops_gives_the_lease_back() {
    let cluster = start_without_controllers().await;
    let stop = cluster.shutdown.child();
    let one = manager(&cluster, 0, "one");
    let running = spawn("one", TaskKind::Background, one.run(stop.clone()));
    held_by(&cluster, "one").await;
    stop.trigger();
    running.await.expect("no panic").expect("a clean end");
    assert_eq!(holder(&cluster).await, None);
}
