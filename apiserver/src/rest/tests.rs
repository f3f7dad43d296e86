//! HTTP in, HTTP out, over a real registry: codes, media types, bodies.

mod binary;
mod faults;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::request::full;
use crate::testing::{TestApi, config_map};

struct Call<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: String,
}

fn call(method: Method, path: &str) -> Call<'_> {
    Call {
        method,
        path,
        headers: &[],
        body: String::new(),
    }
}

async fn send(api: &TestApi, call: Call<'_>) -> Response<Body> {
    let mut request = Request::builder().method(call.method).uri(call.path);
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(full(call.body)).unwrap();
    let caller = Caller {
        info: Arc::new(RequestInfo::resolve(request.method(), request.uri())),
        ..Caller::internal(Arc::new(User::apiserver()), "test/1.0")
    };
    request.extensions_mut().insert(caller);
    handle(&api.rest(), request).await
}

async fn json_of(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn the_usual_round_over_http() {
    let api = TestApi::start().await;
    let body = config_map("a", json!({})).to_string();
    let created = send(
        &api,
        Call {
            body: body.clone(),
            ..call(Method::POST, MAPS)
        },
    )
    .await;
    assert_eq!(created.status(), StatusCode::CREATED);
    assert_eq!(created.headers()["content-type"], "application/json");
    let again = send(
        &api,
        Call {
            body,
            ..call(Method::POST, MAPS)
        },
    )
    .await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let one = json_of(send(&api, call(Method::GET, &format!("{MAPS}/a"))).await).await;
    assert_eq!(
        (&one["kind"], &one["apiVersion"]),
        (&json!("ConfigMap"), &json!("v1"))
    );
    let list = json_of(send(&api, call(Method::GET, MAPS)).await).await;
    assert_eq!(
        (&list["kind"], list["items"].as_array().unwrap().len()),
        (&json!("ConfigMapList"), 1)
    );
    assert!(list["metadata"]["resourceVersion"].is_string());
    let patched = Call {
        headers: &[("content-type", "application/merge-patch+json")],
        body: json!({"data": {"a": "z"}}).to_string(),
        ..call(Method::PATCH, "/api/v1/namespaces/default/configmaps/a")
    };
    assert_eq!(json_of(send(&api, patched).await).await["data"]["a"], "z");
    let yaml =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  a: b\n".to_owned();
    let headers = &[
        ("content-type", "application/yaml"),
        ("accept", "application/yaml"),
    ];
    let yaml = send(
        &api,
        Call {
            headers,
            body: yaml,
            ..call(Method::POST, MAPS)
        },
    )
    .await;
    assert_eq!(
        (yaml.status(), &yaml.headers()["content-type"]),
        (StatusCode::CREATED, &"application/yaml".parse().unwrap())
    );
    let deleted = send(&api, call(Method::DELETE, MAPS)).await;
    assert_eq!(json_of(deleted).await["items"].as_array().unwrap().len(), 2);
    let gone = send(&api, call(Method::GET, &format!("{MAPS}/a"))).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(gone).await["reason"], "NotFound");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
async fn bad_requests_get_the_code_that_upstream_gives() {
    let api = TestApi::start().await;
    let json = &[("content-type", "application/json")][..];
    let protobuf = &[("content-type", "application/vnd.kubernetes.protobuf")][..];
    let wants_xml = &[("accept", "application/xml")][..];
    let big = format!("{{\"data\":\"{}\"}}", "x".repeat(4 << 20));
    let post = |headers, body: &str| Call {
        headers,
        body: body.to_owned(),
        ..call(Method::POST, MAPS)
    };
    let cases = [
        (post(json, "{"), 400),
        (post(json, "{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}"), 400),
        (post(json, "{\"metadata\":{\"name\":\"A b\"}}"), 422),
        (post(json, &big), 413),
        (post(protobuf, "k8s"), 400),
        (post(&[("content-type", "text/plain")], "k8s"), 415),
        (
            Call {
                headers: wants_xml,
                ..call(Method::GET, MAPS)
            },
            406,
        ),
        (
            call(Method::GET, "/api/v1/namespaces/default/nonsense"),
            404,
        ),
        (
            call(
                Method::GET,
                "/api/v1/namespaces/default/configmaps/a/nonsense",
            ),
            404,
        ),
        (
            call(Method::POST, "/api/v1/namespaces/default/configmaps/a"),
            405,
        ),
        (
            call(Method::PATCH, "/api/v1/namespaces/default/configmaps/a"),
            415,
        ),
        (call(Method::GET, "/api/v1/configmaps?limit=-1"), 400),
        (
            call(Method::GET, "/api/v1/configmaps?resourceVersion=x"),
            400,
        ),
        (
            call(Method::GET, "/api/v1/configmaps?fieldSelector=a.b%3Dc"),
            400,
        ),
        (
            Call {
                body: "{}".to_owned(),
                ..call(
                    Method::POST,
                    "/api/v1/namespaces/default/configmaps?dryRun=Some",
                )
            },
            422,
        ),
    ];
    for (call, code) in cases {
        let name = format!("{} {}", call.method, call.path);
        let response = send(&api, call).await;
        assert_eq!(response.status().as_u16(), code, "{name}");
        let status = json_of(response).await;
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&serde_json::json!("Status"), &serde_json::json!(code)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn tables_and_metadata_are_negotiated() {
    let api = TestApi::start().await;
    api.create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let table = json_of(
        send(
            &api,
            Call {
                headers: &[("accept", accept)],
                ..call(Method::GET, MAPS)
            },
        )
        .await,
    )
    .await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = json_of(
        send(
            &api,
            Call {
                headers: &[("accept", accept)],
                ..call(Method::GET, MAPS)
            },
        )
        .await,
    )
    .await;
    assert_eq!(
        (&partial["kind"], &partial["items"][0]["data"]),
        (&json!("PartialObjectMetadataList"), &Value::Null)
    );
}

#[tokio::test]
async fn a_watch_streams_lines_until_its_time_is_over() {
    let api = TestApi::start().await;
    api.create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    let path = "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true\
        &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let response = send(&api, call(Method::GET, path)).await;
    api.create("", "configmaps", "default", config_map("b", json!({})))
        .await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let lines: Vec<Value> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let types: Vec<&str> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["ADDED", "BOOKMARK", "ADDED"]);
    assert_eq!(
        lines[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(lines[2]["object"]["metadata"]["name"], "b");
}
