//! Pods: admission, binding, eviction.

use super::*;
use crate::testing::pod;

fn target(name: &str, subresource: &str) -> Target {
    Target {
        subresource: subresource.to_owned(),
        ..Target::of("", "pods", "default", name).unwrap()
    }
}

fn binding(node: &str) -> Value {
    json!({"metadata": {}, "target": {"kind": "Node", "name": node}})
}

#[tokio::test]
async fn admission_completes_a_pod() {
    let api = TestApi::start().await;
    let created = api.create("", "pods", "default", pod("a")).await;
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    assert_eq!(created["spec"]["priority"], 0);
    assert_eq!(created["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let mount = &created["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(
        mount["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(created["spec"]["volumes"][0]["name"], mount["name"]);
    let mut critical = pod("b");
    critical["spec"]["priorityClassName"] = "system-node-critical".into();
    assert_eq!(
        api.create("", "pods", "default", critical).await["spec"]["priority"],
        2_000_001_000
    );
    let mut orphan = pod("c");
    orphan["spec"]["serviceAccountName"] = "nobody".into();
    let refused = api
        .registry
        .create(&Context::internal(), &target("", ""), orphan)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), 403);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let api = TestApi::start().await;
    api.create("", "pods", "default", pod("a")).await;
    let context = Context::internal();
    let bound = api
        .registry
        .create(&context, &target("a", "binding"), binding("n1"))
        .await
        .unwrap();
    assert_eq!(bound.code, 201);
    let read = api.get("", "pods", "default", "a").await;
    assert_eq!(read["spec"]["nodeName"], "n1");
    let scheduled = &read["status"]["conditions"][0];
    assert_eq!(
        (&scheduled["type"], &scheduled["status"]),
        (&json!("PodScheduled"), &json!("True"))
    );
    let again = api
        .registry
        .create(&context, &target("a", "binding"), binding("n2"))
        .await
        .unwrap_err();
    assert!(again.is(&Reason::Conflict), "{again}");
    assert!(
        again.message.contains("already assigned to node \"n1\""),
        "{again}"
    );
}

#[tokio::test]
async fn eviction_respects_the_budget() {
    let api = TestApi::start().await;
    api.create("", "pods", "default", pod("a")).await;
    let context = Context::internal();
    api.registry
        .create(&context, &target("a", "binding"), binding("n1"))
        .await
        .unwrap();
    let mut running = api.get("", "pods", "default", "a").await;
    running["status"]["phase"] = "Running".into();
    running["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    api.registry
        .update(&context, &target("a", "status"), running)
        .await
        .unwrap();
    let budget = json!({
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}},
    });
    api.create("policy", "poddisruptionbudgets", "default", budget)
        .await;
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let refused = api
        .registry
        .create(&context, &target("a", "eviction"), eviction.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), 429);
    assert!(refused.to_json().to_string().contains("DisruptionBudget"));
    // The budget's controller allows one.
    let status = Target {
        subresource: "status".to_owned(),
        ..Target::of("policy", "poddisruptionbudgets", "default", "b").unwrap()
    };
    let mut allowed = api
        .get("policy", "poddisruptionbudgets", "default", "b")
        .await;
    allowed["status"] = json!({
        "observedGeneration": allowed["metadata"]["generation"], "disruptionsAllowed": 1,
        "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
    });
    api.registry
        .update(&context, &status, allowed)
        .await
        .unwrap();
    let answer = api
        .registry
        .create(&context, &target("a", "eviction"), eviction)
        .await
        .unwrap();
    assert_eq!(answer.code, 201);
    let budget = api
        .get("policy", "poddisruptionbudgets", "default", "b")
        .await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["a"].is_string());
    let evicted = api.get("", "pods", "default", "a").await;
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    let conditions = evicted["status"]["conditions"].as_array().unwrap();
    let marked = conditions
        .iter()
        .find(|condition| condition["type"] == "DisruptionTarget")
        .expect("eviction tells the pod's owner");
    assert_eq!(
        (&marked["status"], &marked["reason"]),
        (&json!("True"), &json!("EvictionByEvictionAPI"))
    );
}

#[tokio::test]
async fn an_eviction_of_another_revision_changes_nothing() {
    let api = TestApi::start().await;
    let pod = api.create("", "pods", "default", pod("a")).await;
    let eviction = |revision: &str| json!({"metadata": {"name": "a"}, "deleteOptions": {"preconditions": {"resourceVersion": revision}}});
    let context = Context::internal();
    let refused = api
        .registry
        .create(&context, &target("a", "eviction"), eviction("1"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), 409);
    assert_eq!(api.get("", "pods", "default", "a").await, pod);
    let revision = pod["metadata"]["resourceVersion"].as_str().unwrap();
    api.registry
        .create(&context, &target("a", "eviction"), eviction(revision))
        .await
        .expect("marking the pod does not void its precondition");
}

#[tokio::test]
async fn scale_changes_replicas_and_nothing_else() {
    let api = TestApi::start().await;
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    api.create("apps", "deployments", "default", deployment)
        .await;
    let scale = Target {
        subresource: "scale".to_owned(),
        ..Target::of("apps", "deployments", "default", "d").unwrap()
    };
    let mut read = api.registry.get(&scale, None).await.unwrap().into_value();
    assert_eq!(
        (&read["spec"]["replicas"], &read["status"]["selector"]),
        (&json!(2), &json!("app=d"))
    );
    read["spec"]["replicas"] = 5.into();
    let context = Context::internal();
    let written = api
        .registry
        .update(&context, &scale, read.clone())
        .await
        .unwrap()
        .into_value();
    assert_eq!(written["spec"]["replicas"], 5);
    let deployment = api.get("apps", "deployments", "default", "d").await;
    assert_eq!(
        (
            &deployment["spec"]["replicas"],
            &deployment["metadata"]["generation"]
        ),
        (&json!(5), &json!(2))
    );
    let stale = api
        .registry
        .update(&context, &scale, read)
        .await
        .unwrap_err();
    assert!(stale.is(&Reason::Conflict), "{stale}");
}
