//! Namespaces: what each is furnished with, and that none goes before it is empty.

use corten_client::client::DeleteOptions;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use serde_json::json;

use crate::harness::{Cluster, start, until, web};

async fn room() -> Cluster {
    let cluster = start(|_| {}).await;
    cluster
        .create::<Namespace>(json!({"metadata": {"name": "room"}}))
        .await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_stays_so() {
    let cluster = room().await;
    let account = |all: &[ServiceAccount]| {
        all.iter()
            .any(|account| account.metadata.name.as_deref() == Some("default"))
    };
    cluster
        .wait::<ServiceAccount>("the default account", "room", account)
        .await;
    let published = |all: &[ConfigMap]| {
        all.iter().any(|map| {
            let data = map.data.as_ref();
            data.is_some_and(|data| data["ca.crt"].contains("BEGIN CERTIFICATE"))
        })
    };
    cluster
        .wait::<ConfigMap>("the root certificates", "room", published)
        .await;
    // Whoever damages or removes them gets them back.
    cluster
        .merge::<ConfigMap>(
            "room",
            "kube-root-ca.crt",
            json!({"data": {"ca.crt": "forged"}}),
        )
        .await;
    cluster
        .wait::<ConfigMap>("the root certificates again", "room", published)
        .await;
    cluster
        .delete::<ServiceAccount>("room", "default", &DeleteOptions::default())
        .await;
    cluster
        .wait::<ServiceAccount>("the account again", "room", account)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_when_it_is_empty_and_not_before() {
    let cluster = room().await;
    cluster
        .wait::<ServiceAccount>("the default account", "room", |all| !all.is_empty())
        .await;
    let mut deployment = web("a", 2);
    deployment["metadata"]["namespace"] = json!("room");
    cluster.create::<Deployment>(deployment).await;
    let held =
        json!({"metadata": {"namespace": "room", "name": "held", "finalizers": ["test/hold"]}});
    cluster.create::<Secret>(held).await;
    cluster
        .wait::<Pod>("pods", "room", |pods| pods.len() == 2)
        .await;
    cluster
        .delete::<Namespace>("", "room", &DeleteOptions::default())
        .await;
    // What holds it is said in its conditions.
    until("the namespace tells what it waits for", async || {
        cluster.end_pods("room").await;
        let room: Namespace = cluster.client.get("", "room").await.expect("still there");
        let conditions = room.status?.conditions?;
        let told = conditions.iter().find(|condition| {
            condition.type_ == "NamespaceFinalizersRemaining" && condition.status == "True"
        })?;
        told.message.as_deref()?.contains("test/hold").then_some(())
    })
    .await;
    let refused = cluster
        .client
        .create(&crate::harness::parse::<ConfigMap>(
            json!({"metadata": {"namespace": "room", "name": "late"}}),
        ))
        .await;
    assert!(
        matches!(refused, Err(corten_client::Error::Forbidden(_))),
        "{refused:?}"
    );
    cluster
        .merge::<Secret>("room", "held", json!({"metadata": {"finalizers": null}}))
        .await;
    until("the namespace is gone", async || {
        cluster.end_pods("room").await;
        let left = cluster.client.get_opt::<Namespace>("", "room").await;
        left.expect("read").is_none().then_some(())
    })
    .await;
    assert!(cluster.list::<ConfigMap>("room").await.is_empty());
    assert!(cluster.list::<Secret>("room").await.is_empty());
}
