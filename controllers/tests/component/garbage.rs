//! Owners and dependents: the three ways in which an owner goes.

use corten_client::client::{DeleteOptions, Propagation};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

use crate::harness::{Cluster, start, until, web};

async fn with_deployment() -> Cluster {
    let cluster = start(|_| {}).await;
    cluster.create::<Deployment>(web("a", 3)).await;
    cluster.settle("1", "a", 3).await;
    cluster
}

async fn left(cluster: &Cluster) -> (usize, usize, usize) {
    (
        cluster.list::<Deployment>("default").await.len(),
        cluster.list::<ReplicaSet>("default").await.len(),
        cluster.list::<Pod>("default").await.len(),
    )
}

async fn all_go(cluster: &Cluster) {
    until("all is gone", async || {
        cluster.end_pods("default").await;
        (left(cluster).await == (0, 0, 0)).then_some(())
    })
    .await;
}

fn how(propagation: Propagation) -> DeleteOptions {
    DeleteOptions::default().propagation(propagation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_background_the_owner_goes_first() {
    let cluster = with_deployment().await;
    cluster
        .delete::<Deployment>("default", "web", &how(Propagation::Background))
        .await;
    let gone: Option<Deployment> = cluster
        .client
        .get_opt("default", "web")
        .await
        .expect("read");
    assert!(gone.is_none());
    all_go(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_foreground_the_owner_goes_last() {
    let cluster = with_deployment().await;
    let hold = async |finalizers: serde_json::Value| {
        for pod in cluster.list::<Pod>("default").await {
            let name = pod.metadata.name.as_deref().expect("a name");
            let patch = json!({"metadata": {"finalizers": finalizers}});
            cluster.merge::<Pod>("default", name, patch).await;
        }
    };
    hold(json!(["test/hold"])).await;
    cluster
        .delete::<Deployment>("default", "web", &how(Propagation::Foreground))
        .await;
    until("the pods are asked to go", async || {
        let pods = cluster.list::<Pod>("default").await;
        let asked = pods
            .iter()
            .all(|pod| pod.metadata.deletion_timestamp.is_some());
        (pods.len() == 3 && asked).then_some(())
    })
    .await;
    // Something holds them: nobody above them may go.
    assert_eq!(left(&cluster).await, (1, 1, 3));
    hold(json!(null)).await;
    all_go(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay_and_are_taken_up_again() {
    let cluster = with_deployment().await;
    cluster
        .delete::<Deployment>("default", "web", &how(Propagation::Orphan))
        .await;
    until("the owner goes", async || {
        (left(&cluster).await.0 == 0).then_some(())
    })
    .await;
    let sets = cluster.list::<ReplicaSet>("default").await;
    assert_eq!((sets.len(), left(&cluster).await.2), (1, 3));
    assert!(sets[0].metadata.owner_references.is_none());
    let again: Deployment = cluster.create(web("a", 3)).await;
    cluster
        .wait::<ReplicaSet>("the set is adopted", "default", |sets| {
            let owners = sets[0].metadata.owner_references.as_ref();
            sets.len() == 1
                && owners.is_some_and(|owners| Some(&owners[0].uid) == again.metadata.uid.as_ref())
        })
        .await;
    assert_eq!(left(&cluster).await.2, 3, "no pod was made or lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependent_stays_while_any_owner_does() {
    let cluster = start(|_| {}).await;
    let map = |name: &str, owners: serde_json::Value| json!({"metadata": {"namespace": "default", "name": name, "ownerReferences": owners}});
    let owner = |of: &ConfigMap| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": of.metadata.name, "uid": of.metadata.uid});
    let a: ConfigMap = cluster.create(map("a", json!(null))).await;
    let b: ConfigMap = cluster.create(map("b", json!(null))).await;
    cluster
        .create::<ConfigMap>(map("both", json!([owner(&a), owner(&b)])))
        .await;
    cluster
        .delete::<ConfigMap>("default", "a", &how(Propagation::Background))
        .await;
    let references = async || {
        let both: Option<ConfigMap> = cluster
            .client
            .get_opt("default", "both")
            .await
            .expect("read");
        both.map(|both| {
            both.metadata
                .owner_references
                .map_or(0, |owners| owners.len())
        })
    };
    until("the dangling reference goes", async || {
        (references().await.expect("it stays") == 1).then_some(())
    })
    .await;
    cluster
        .delete::<ConfigMap>("default", "b", &how(Propagation::Background))
        .await;
    until("it goes with the last", async || {
        references().await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_never_was_takes_its_dependents() {
    let cluster = start(|_| {}).await;
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "no-such-uid"}]);
    cluster
        .create::<ConfigMap>(
            json!({"metadata": {"namespace": "default", "name": "lost", "ownerReferences": owner}}),
        )
        .await;
    until("it goes", async || {
        let lost: Option<ConfigMap> = cluster
            .client
            .get_opt("default", "lost")
            .await
            .expect("read");
        lost.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_of_three_owners_was_never_collected() {
    let cluster = start(|_| {}).await;
    let names = ["one", "two", "three"];
    for name in names {
        let map =
            json!({"metadata": {"name": name, "namespace": "default", "labels": {"cycle": "yes"}}});
        cluster
            .create::<ConfigMap>(serde_json::from_value(map).expect("a map"))
            .await;
    }
    for (i, name) in names.iter().enumerate() {
        let owner = names[(i + 2) % 3];
        let held: Option<ConfigMap> = cluster
            .client
            .get_opt("default", owner)
            .await
            .expect("read");
        let uid = held.expect("just made").metadata.uid;
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid, "blockOwnerDeletion": true});
        let patch = json!({"metadata": {"ownerReferences": [reference]}});
        cluster.merge::<ConfigMap>("default", name, patch).await;
    }
    cluster
        .delete::<ConfigMap>("default", "one", &how(Propagation::Foreground))
        .await;
    until("all of the cycle are gone", async || {
        let left = cluster.list::<ConfigMap>("default").await;
        let cycle = |map: &ConfigMap| {
            map.metadata
                .labels
                .as_ref()
                .is_some_and(|l| l.contains_key("cycle"))
        };
        (!left.iter().any(cycle)).then_some(())
    })
    .await;
}
