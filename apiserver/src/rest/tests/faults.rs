//! Faults that reviews found in what a path or a query is taken for.

use super::*;

#[tokio::test]
async fn a_cluster_scoped_object_was_reached_through_a_namespace() {
    let api = TestApi::start().await;
    api.create("", "nodes", "", json!({"metadata": {"name": "n1"}}))
        .await;
    let cases = [
        (Method::GET, "/api/v1/namespaces/default/nodes/n1", 404),
        (Method::GET, "/api/v1/namespaces/default/nodes", 404),
        (
            Method::GET,
            "/api/v1/watch/namespaces/default/nodes?timeoutSeconds=1",
            404,
        ),
        (Method::DELETE, "/api/v1/namespaces/default/nodes/n1", 404),
        (Method::DELETE, "/api/v1/namespaces/default/nodes", 404),
        (
            Method::GET,
            "/api/v1/namespaces/default/namespaces/kube-system",
            404,
        ),
        (
            Method::GET,
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/clusterroles",
            404,
        ),
        // What a namespace is reached by itself stays.
        (Method::GET, "/api/v1/namespaces/default", 200),
        (Method::GET, "/api/v1/namespaces/default/status", 200),
        (Method::GET, "/api/v1/namespaces", 200),
        (Method::GET, "/api/v1/nodes/n1", 200),
    ];
    for (method, path, code) in cases {
        let name = format!("{method} {path}");
        let response = send(&api, call(method, path)).await;
        assert_eq!(response.status().as_u16(), code, "{name}");
    }
}

#[tokio::test]
async fn a_repeated_selector_was_authorised_by_its_first_and_served_by_its_last() {
    let api = TestApi::start().await;
    for name in ["mine", "other"] {
        api.create("", "configmaps", "default", config_map(name, json!({})))
            .await;
    }
    let path = "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dmine\
        &fieldSelector=metadata.name%3Dother";
    let list = json_of(send(&api, call(Method::GET, path)).await).await;
    let names: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["mine"]);
    // An empty first one counts as none, for both.
    let path = "/api/v1/namespaces/default/configmaps?labelSelector=&labelSelector=a%3Db";
    let list = json_of(send(&api, call(Method::GET, path)).await).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    // dryRun is a list.
    let post = Call {
        body: config_map("dry", json!({})).to_string(),
        ..call(
            Method::POST,
            "/api/v1/namespaces/default/configmaps?dryRun=&dryRun=All",
        )
    };
    assert_eq!(send(&api, post).await.status(), StatusCode::CREATED);
    let path = "/api/v1/namespaces/default/configmaps/dry";
    assert_eq!(
        send(&api, call(Method::GET, path)).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_watch_of_one_name_lost_the_selector_that_it_was_authorised_by() {
    let api = TestApi::start().await;
    for (name, label) in [("mine", "a"), ("other", "b")] {
        let map = config_map(name, json!({"of": label}));
        api.create("", "configmaps", "default", map).await;
    }
    let path = "/api/v1/watch/namespaces/default/configmaps/other?timeoutSeconds=1\
        &fieldSelector=metadata.name%3Dmine";
    let response = send(&api, call(Method::GET, path)).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(String::from_utf8_lossy(&bytes), "");
}

#[tokio::test]
async fn reading_the_log_subresource_gave_the_whole_pod() {
    let api = TestApi::start().await;
    api.create("", "pods", "default", crate::testing::pod("a"))
        .await;
    for subresource in ["log", "exec", "attach", "portforward"] {
        let path = format!("/api/v1/namespaces/default/pods/a/{subresource}");
        let response = send(&api, call(Method::GET, &path)).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}
