//! Deployments, their ReplicaSets and pods, and what follows the pods: endpoints and disruption budgets.

use corten_client::client::DeleteOptions;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::harness::{Cluster, condition, image_of, revision_of, start, until, web};

async fn with_service() -> Cluster {
    let cluster = start(|_| {}).await;
    cluster
        .create::<Service>(json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}))
        .await;
    cluster
}

/// How many ready and how many other endpoints the slices of the Service have.
fn counted(slices: &[EndpointSlice]) -> (usize, usize) {
    let ours = slices.iter().filter(|slice| {
        let labels = slice.metadata.labels.as_ref();
        labels.is_some_and(|labels| {
            labels.get("kubernetes.io/service-name").map(String::as_str) == Some("web")
        })
    });
    let ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint.conditions.as_ref().and_then(|it| it.ready) == Some(true)
    };
    let (yes, no): (Vec<_>, Vec<_>) = ours
        .flat_map(|slice| slice.endpoints.iter())
        .partition(|endpoint| ready(endpoint));
    (yes.len(), no.len())
}

fn addresses(all: &[Endpoints]) -> usize {
    let subsets = all
        .iter()
        .filter(|endpoints| endpoints.metadata.name.as_deref() == Some("web"))
        .flat_map(|endpoints| endpoints.subsets.iter().flatten());
    subsets
        .map(|subset| subset.addresses.as_ref().map_or(0, Vec::len))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_becomes_pods() {
    let cluster = start(|_| {}).await;
    let created: Deployment = cluster.create(web("a", 3)).await;
    let pods = cluster
        .wait::<Pod>("three pods", "default", |pods| pods.len() == 3)
        .await;
    let sets = cluster.list::<ReplicaSet>("default").await;
    assert_eq!(sets.len(), 1);
    let owner = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        metadata.owner_references.clone().expect("an owner")[0]
            .uid
            .clone()
    };
    assert_eq!(Some(owner(&sets[0].metadata)), created.metadata.uid);
    for pod in &pods {
        assert_eq!(Some(owner(&pod.metadata)), sets[0].metadata.uid);
        assert!(
            pod.metadata
                .labels
                .as_ref()
                .expect("labels")
                .contains_key("pod-template-hash")
        );
    }
    let deployment = cluster.settle("1", "a", 3).await;
    assert_eq!(
        condition(&deployment, "Available"),
        "True MinimumReplicasAvailable"
    );
    let status = deployment.status.expect("a status");
    assert_eq!(
        (status.ready_replicas, status.updated_replicas),
        (Some(3), Some(3))
    );

    // A pod that is lost is made again.
    let lost = pods[0].metadata.name.as_deref().expect("a name");
    cluster
        .delete::<Pod>("default", lost, &DeleteOptions::default().grace(0))
        .await;
    cluster.settle("1", "a", 3).await;
    let left = cluster.list::<Pod>("default").await;
    assert!(
        left.iter()
            .all(|pod| pod.metadata.name.as_deref() != Some(lost))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_keeps_its_bounds() {
    let cluster = start(|_| {}).await;
    let mut deployment = web("a", 4);
    deployment["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    cluster.create::<Deployment>(deployment).await;
    cluster.settle("1", "a", 4).await;
    cluster
        .merge::<Deployment>("default", "web", json!({"spec": web("b", 4)["spec"]}))
        .await;
    until("the update is through", async || {
        let pods = cluster.list::<Pod>("default").await;
        let ready = |pod: &&Pod| {
            let conditions = pod
                .status
                .iter()
                .flat_map(|it| it.conditions.iter().flatten());
            pod.metadata.deletion_timestamp.is_none()
                && conditions
                    .into_iter()
                    .any(|it| it.type_ == "Ready" && it.status == "True")
        };
        let going = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        assert!(pods.iter().filter(going).count() <= 5, "maxSurge");
        assert!(pods.iter().filter(ready).count() >= 4, "maxUnavailable");
        cluster.run_pods("default").await;
        cluster.end_pods("default").await;
        (pods.len() == 4 && pods.iter().all(|pod| image_of(pod) == "b")).then_some(())
    })
    .await;
    cluster.settle("2", "b", 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_takes_up_the_old_set_under_a_new_revision() {
    let cluster = start(|_| {}).await;
    cluster.create::<Deployment>(web("a", 2)).await;
    cluster.settle("1", "a", 2).await;
    let mut before = names(&cluster.list::<ReplicaSet>("default").await);
    for (image, revision) in [("b", "2"), ("a", "3")] {
        cluster
            .merge::<Deployment>("default", "web", json!({"spec": web(image, 2)["spec"]}))
            .await;
        cluster.settle(revision, image, 2).await;
    }
    let sets = cluster.list::<ReplicaSet>("default").await;
    assert_eq!(sets.len(), 2);
    let current = sets
        .iter()
        .find(|set| set.spec.as_ref().and_then(|spec| spec.replicas) == Some(2))
        .expect("one set runs");
    assert_eq!(
        Some(current.metadata.name.clone()),
        before.pop(),
        "the first one, again"
    );
    let annotations = current.metadata.annotations.clone().unwrap_or_default();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
    assert_eq!(
        annotations["deployment.kubernetes.io/revision-history"],
        "1"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_deployment_scales_but_does_not_roll() {
    let cluster = start(|_| {}).await;
    cluster.create::<Deployment>(web("a", 1)).await;
    cluster.settle("1", "a", 1).await;
    let mut changed = web("b", 3)["spec"].clone();
    changed["paused"] = true.into();
    cluster
        .merge::<Deployment>("default", "web", json!({"spec": changed}))
        .await;
    let pods = cluster
        .wait::<Pod>("three pods", "default", |pods| pods.len() == 3)
        .await;
    assert!(pods.iter().all(|pod| image_of(pod) == "a"));
    cluster
        .merge::<Deployment>("default", "web", json!({"spec": {"paused": false}}))
        .await;
    cluster.settle("2", "b", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_sets_are_forgotten_beyond_the_limit() {
    let cluster = start(|_| {}).await;
    let mut deployment = web("a", 1);
    deployment["spec"]["revisionHistoryLimit"] = 1.into();
    cluster.create::<Deployment>(deployment).await;
    cluster.settle("1", "a", 1).await;
    for (image, revision) in [("b", "2"), ("c", "3"), ("d", "4")] {
        cluster
            .merge::<Deployment>(
                "default",
                "web",
                json!({"spec": {"template": web(image, 1)["spec"]["template"]}}),
            )
            .await;
        let deployment = cluster.settle(revision, image, 1).await;
        assert_eq!(revision_of(&deployment), revision);
    }
    cluster
        .wait::<ReplicaSet>("the last two sets", "default", |sets| sets.len() == 2)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_the_pods() {
    let cluster = with_service().await;
    cluster.create::<Deployment>(web("a", 3)).await;
    cluster.settle("1", "a", 3).await;
    let slices = cluster
        .wait::<EndpointSlice>("three endpoints", "default", |all| counted(all) == (3, 0))
        .await;
    let ours = slices.iter().find(|slice| slice.endpoints.len() == 3);
    let ports = ours.expect("one slice").ports.clone().expect("ports");
    assert_eq!(ports[0].port, Some(8080));
    cluster
        .wait::<Endpoints>("three addresses", "default", |all| addresses(all) == 3)
        .await;

    // One is not ready any more: it stays listed, but gets no traffic.
    let pods = cluster.list::<Pod>("default").await;
    let one = pods[0].metadata.name.as_deref().expect("a name");
    let unready: Value = json!({"conditions": [{"type": "Ready", "status": "False"}]});
    cluster.merge_status::<Pod>("default", one, unready).await;
    cluster
        .wait::<EndpointSlice>("one is not ready", "default", |all| counted(all) == (2, 1))
        .await;
    cluster
        .wait::<Endpoints>("two addresses", "default", |all| addresses(all) == 2)
        .await;

    cluster
        .merge::<Deployment>("default", "web", json!({"spec": {"replicas": 0}}))
        .await;
    until("nobody is left", async || {
        cluster.end_pods("default").await;
        let slices = cluster.list::<EndpointSlice>("default").await;
        (counted(&slices) == (0, 0)).then_some(())
    })
    .await;
    cluster
        .wait::<Endpoints>("no addresses", "default", |all| addresses(all) == 0)
        .await;
    cluster
        .delete::<Service>("default", "web", &DeleteOptions::default())
        .await;
    let named = |name: &Option<String>| name.as_deref().is_some_and(|name| name.starts_with("web"));
    cluster
        .wait::<EndpointSlice>("the slices go with the Service", "default", |all| {
            !all.iter().any(|slice| named(&slice.metadata.name))
        })
        .await;
    cluster
        .wait::<Endpoints>("the Endpoints go with the Service", "default", |all| {
            !all.iter().any(|endpoints| named(&endpoints.metadata.name))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_knows_how_many_may_go() {
    let cluster = start(|_| {}).await;
    cluster
        .create::<PodDisruptionBudget>(json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}))
        .await;
    cluster.create::<Deployment>(web("a", 3)).await;
    cluster.settle("1", "a", 3).await;
    let allowed = |wanted: i32| {
        move |budgets: &[PodDisruptionBudget]| {
            budgets.iter().any(|budget| {
                let status = budget.status.as_ref();
                status.is_some_and(|status| status.disruptions_allowed == wanted)
            })
        }
    };
    cluster
        .wait::<PodDisruptionBudget>("one may go", "default", allowed(1))
        .await;
    let pods = cluster.list::<Pod>("default").await;
    let one = pods[0].metadata.name.as_deref().expect("a name");
    let unready = json!({"conditions": [{"type": "Ready", "status": "False"}]});
    cluster.merge_status::<Pod>("default", one, unready).await;
    cluster
        .wait::<PodDisruptionBudget>("none may go", "default", allowed(0))
        .await;
}

fn names(sets: &[ReplicaSet]) -> Vec<Option<String>> {
    sets.iter().map(|set| set.metadata.name.clone()).collect()
}
