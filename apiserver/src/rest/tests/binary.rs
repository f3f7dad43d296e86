//! Protobuf answers, read back by the reader of protobuf bodies.

use bytes::Bytes;
use corten_api::meta::GroupVersionKind;
use corten_api::protobuf;

use super::*;

const ACCEPT: &[(&str, &str)] = &[(
    "accept",
    "application/vnd.kubernetes.protobuf,application/json",
)];

async fn get(api: &TestApi, path: &str, accept: &[(&str, &str)]) -> (String, Bytes) {
    let response = send(
        api,
        Call {
            headers: accept,
            ..call(Method::GET, path)
        },
    )
    .await;
    let content_type = response.headers()[CONTENT_TYPE]
        .to_str()
        .unwrap()
        .to_owned();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (content_type, bytes)
}

fn read(bytes: &[u8]) -> Value {
    let unknown = GroupVersionKind::from_static("", "v1", "Unknown");
    protobuf::parse(bytes, &unknown).unwrap()
}

#[tokio::test]
async fn objects_and_lists_are_the_same_in_both_encodings() {
    let api = TestApi::start().await;
    for name in ["a", "b", "c"] {
        let mut object = config_map(name, json!({"k": "v"}));
        object["data"] = json!({"k": "v".repeat(20_000)});
        api.create("", "configmaps", "default", object).await;
    }
    for path in [&format!("{MAPS}/a"), MAPS] {
        let (content_type, bytes) = get(&api, path, ACCEPT).await;
        assert_eq!(content_type, "application/vnd.kubernetes.protobuf");
        let plain = json_of(send(&api, call(Method::GET, path)).await).await;
        let mut read = read(&bytes);
        // Items of a list say their kind in JSON only.
        let items = read.get_mut("items").and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            item["apiVersion"] = json!("v1");
            item["kind"] = json!("ConfigMap");
        }
        assert_eq!(read, plain, "{path}");
    }
    let accept =
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (_, bytes) = get(&api, MAPS, &[("accept", accept)]).await;
    assert!(bytes.starts_with(b"k8s\0"));
    assert!(bytes.len() < 4_000, "only metadata: {}", bytes.len());
    let path = format!("{MAPS}/none");
    let missing = send(
        &api,
        Call {
            headers: ACCEPT,
            ..call(Method::GET, &path)
        },
    );
    assert_eq!(missing.await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_watch_sends_frames() {
    let api = TestApi::start().await;
    api.create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    let path = "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true\
        &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let response = send(
        &api,
        Call {
            headers: ACCEPT,
            ..call(Method::GET, path)
        },
    )
    .await;
    assert_eq!(
        response.headers()[CONTENT_TYPE],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    api.create("", "configmaps", "default", config_map("b", json!({})))
        .await;
    let delete = call(Method::DELETE, "/api/v1/namespaces/default/configmaps/b");
    assert_eq!(send(&api, delete).await.status(), StatusCode::OK);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut rest = &bytes[..];
    let mut seen = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        rest = after;
        // Field 1 is the type, field 2 the raw object in its envelope.
        let length = usize::from(frame[1]);
        let kind = String::from_utf8(frame[2..2 + length].to_vec()).unwrap();
        let start = frame.windows(4).position(|four| four == b"k8s\0").unwrap();
        let object = read(&frame[start..]);
        seen.push((kind, object["metadata"]["name"].clone()));
    }
    let expected = [
        ("ADDED", json!("a")),
        ("BOOKMARK", Value::Null),
        ("ADDED", json!("b")),
        ("DELETED", json!("b")),
    ];
    assert_eq!(seen, expected.map(|(kind, name)| (kind.to_owned(), name)));
}
