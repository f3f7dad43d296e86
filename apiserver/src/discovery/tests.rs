//! The documents against the registry, and the forms by Accept header.

use corten_api::kinds::registry;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;

use super::*;
use crate::request::empty;

fn get(path: &str, accept: &str) -> Result<Response<Body>, Status> {
    let request = Request::get(path)
        .header(ACCEPT, accept)
        .body(empty())
        .expect("a request");
    serve(&request)
}

async fn body(response: Response<Body>) -> Value {
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[tokio::test]
async fn classic_documents_list_every_resource_and_subresource() {
    let groups = body(get("/apis", "application/json").expect("served")).await;
    assert_eq!(groups["kind"], "APIGroupList");
    let mut listed = 0;
    for descriptor in registry().all() {
        let path = match descriptor.group {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/{}", descriptor.version),
        };
        let document = body(get(&path, "*/*").expect("served")).await;
        assert_eq!(document["groupVersion"], descriptor.api_version());
        let resources = document["resources"].as_array().expect("a list");
        let found = resources
            .iter()
            .find(|resource| resource["name"] == descriptor.resource)
            .expect("listed");
        assert_eq!(found["kind"], descriptor.kind);
        assert_eq!(found["namespaced"], descriptor.namespaced);
        for sub in descriptor.subresources {
            let name = format!("{}/{}", descriptor.resource, sub.name);
            assert!(
                resources.iter().any(|resource| resource["name"] == *name),
                "{name}"
            );
        }
        listed += 1;
    }
    assert!(listed > 20);
    let core = body(get("/api", "").expect("served")).await;
    assert_eq!(core["versions"], serde_json::json!(["v1"]));
}

#[tokio::test]
async fn aggregated_documents_by_accept_header() {
    let kubectl = format!(
        "{AGGREGATED_V2},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    );
    let response = get("/apis", &kubectl).expect("served");
    assert_eq!(response.headers()[CONTENT_TYPE], AGGREGATED_V2);
    let tag = response.headers()[ETAG].clone();
    let document = body(response).await;
    assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
    let apps = document["items"]
        .as_array()
        .expect("items")
        .iter()
        .find(|item| item["metadata"]["name"] == "apps");
    let resources = apps.expect("apps")["versions"][0]["resources"]
        .as_array()
        .expect("resources")
        .clone();
    let deployments = resources
        .iter()
        .find(|resource| resource["resource"] == "deployments")
        .expect("deployments");
    assert_eq!(deployments["scope"], "Namespaced");
    let scale = deployments["subresources"]
        .as_array()
        .expect("subresources");
    let scale = scale
        .iter()
        .find(|sub| sub["subresource"] == "scale")
        .expect("scale");
    assert_eq!(scale["responseKind"]["group"], "autoscaling");

    let request = Request::get("/apis")
        .header(ACCEPT, &kubectl)
        .header(IF_NONE_MATCH, tag)
        .body(empty());
    let again = serve(&request.expect("a request")).expect("served");
    assert_eq!(again.status(), 304);
    let core = body(get("/api", AGGREGATED_V2).expect("served")).await;
    assert_eq!(core["items"][0]["metadata"]["name"], Value::Null);
    assert_eq!(
        get("/apis", "application/vnd.kubernetes.protobuf")
            .expect_err("refused")
            .code(),
        406
    );
    assert_eq!(get("/apis/none", "*/*").expect_err("unknown").code(), 404);
}
