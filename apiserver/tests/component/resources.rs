//! The gRPC service `corten.api.v1.Resources`: who may call it, every verb, its errors, and watches to their end.

use base64::Engine;
use corten_apiserver::request::full;
use corten_proto::corten::api::v1 as pb;
use corten_proto::corten::api::v1::resources_client::ResourcesClient;
use corten_proto::corten::api::v1::watch_reply::Type;
use http_body_util::BodyExt;
use prost::Message;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::harness::{Api, LIMIT, config_map, request, target};

type Client = ResourcesClient<Channel>;

fn maps(name: &str) -> Option<pb::Target> {
    target("", "configmaps", "default", name)
}

fn parse(object: &[u8]) -> Value {
    serde_json::from_slice(object).expect("JSON")
}

/// The metav1.Status behind an error.
fn told(status: &Status) -> Value {
    let trailer = status.metadata().get_bin("corten-status-bin");
    let bytes = trailer.expect("a Status in the trailer").to_bytes();
    parse(&bytes.expect("base64"))
}

#[track_caller]
fn assert_told(status: &Status, code: Code, http: u16, reason: &str) {
    let told = told(status);
    assert_eq!(status.code(), code, "{told}");
    assert_eq!(
        (&told["code"], &told["reason"]),
        (&json!(http), &json!(reason)),
        "{told}"
    );
    assert_eq!(told["message"], status.message());
}

/// The head of the answer to a Get on a connection without a client certificate.
async fn unproved(api: &Api, message: &pb::GetRequest, token: Option<&str>) -> http::HeaderMap {
    let encoded = message.encode_to_vec();
    let length = u32::try_from(encoded.len()).expect("short").to_be_bytes();
    let framed = [&[0], length.as_slice(), encoded.as_slice()].concat();
    let url = "https://127.0.0.1/corten.api.v1.Resources/Get";
    let mut request = request("POST", url, "application/grpc", full(framed));
    if let Some(token) = token {
        let token = token.parse().expect("a header");
        request.headers_mut().insert("authorization", token);
    }
    let mut sender = api.h2_of(api.unproved_tls().await).await;
    let response = sender.send_request(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body");
    // Refused before the method: in the head. Refused by it: behind the body.
    let mut all = head.headers;
    all.extend(body.trailers().cloned().unwrap_or_default());
    all
}

async fn create(client: &mut Client, object: &Value) -> Result<Value, Status> {
    let request = pb::CreateRequest {
        target: maps(""),
        object: object.to_string().into(),
        ..pb::CreateRequest::default()
    };
    let reply = client.create(request).await?.into_inner();
    Ok(parse(&reply.object))
}

async fn get(client: &mut Client, name: &str) -> Result<Value, Status> {
    let request = pb::GetRequest {
        target: maps(name),
        ..pb::GetRequest::default()
    };
    let reply = client.get(request).await?.into_inner();
    Ok(parse(&reply.object))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_a_rule() {
    let api = Api::start(|_| {}).await;
    let mut nobody = api.grpc("nobody");
    let refused = create(&mut nobody, &config_map("a", 1))
        .await
        .expect_err("refused");
    assert_told(&refused, Code::PermissionDenied, 403, "Forbidden");
    assert!(
        refused.message().contains(
            "User \"nobody\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\""
        ),
        "{refused}"
    );
    let refused = get(&mut nobody, "a").await.expect_err("refused");
    assert_told(&refused, Code::PermissionDenied, 403, "Forbidden");
    let watch = pb::WatchRequest {
        target: maps(""),
        ..pb::WatchRequest::default()
    };
    let refused = nobody.watch(watch).await.expect_err("refused");
    assert_told(&refused, Code::PermissionDenied, 403, "Forbidden");

    // A connection that proves nobody gets nothing but health and version, whatever token it makes up.
    for token in [None, Some("Bearer forged")] {
        let message = pb::GetRequest {
            target: maps("a"),
            ..pb::GetRequest::default()
        };
        let answer = unproved(&api, &message, token).await;
        assert_eq!(answer["grpc-status"], "16", "{answer:?}");
        let status = answer["corten-status-bin"].as_bytes();
        let status = base64::engine::general_purpose::STANDARD_NO_PAD.decode(status);
        let status = parse(&status.expect("base64"));
        assert_eq!(status["reason"], "Unauthorized", "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one object's life, told in order")]
async fn every_verb() {
    let api = Api::start(|_| {}).await;
    let mut client = api.grpc("jane");
    let created = create(&mut client, &config_map("a", 1))
        .await
        .expect("created");
    assert_eq!(created["kind"], "ConfigMap");
    assert_eq!(get(&mut client, "a").await.expect("read"), created);

    let mut changed = created.clone();
    changed["data"]["x"] = "z".into();
    let update = pb::UpdateRequest {
        target: maps("a"),
        object: changed.to_string().into(),
        dry_run: true,
        ..pb::UpdateRequest::default()
    };
    let tried = client
        .update(update.clone())
        .await
        .expect("tried")
        .into_inner();
    assert_eq!(parse(&tried.object)["data"]["x"], "z");
    assert_eq!(get(&mut client, "a").await.expect("read"), created);
    let update = pb::UpdateRequest {
        dry_run: false,
        ..update
    };
    client.update(update.clone()).await.expect("updated");
    let stale = client
        .update(update)
        .await
        .expect_err("the revision is old");
    assert_told(&stale, Code::AlreadyExists, 409, "Conflict");

    use pb::patch_request::Kind;
    let patches = [
        (
            Kind::Json,
            json!([{"op": "add", "path": "/data/json", "value": "1"}]),
        ),
        (Kind::Merge, json!({"data": {"merge": "1"}})),
        (Kind::Strategic, json!({"data": {"strategic": "1"}})),
    ];
    for (kind, patch) in patches {
        let request = pb::PatchRequest {
            target: maps("a"),
            kind: kind.into(),
            patch: patch.to_string().into(),
            ..pb::PatchRequest::default()
        };
        client.patch(request).await.expect("patched");
    }
    let data = &get(&mut client, "a").await.expect("read")["data"];
    assert_eq!(
        data,
        &json!({"x": "z", "json": "1", "merge": "1", "strategic": "1"})
    );
    let without = pb::PatchRequest {
        target: maps("a"),
        patch: "{}".into(),
        ..pb::PatchRequest::default()
    };
    let refused = client.patch(without).await.expect_err("no kind");
    assert_told(&refused, Code::InvalidArgument, 400, "BadRequest");

    for name in ["b", "c", "d"] {
        create(&mut client, &config_map(name, 1))
            .await
            .expect("created");
    }
    let mut list = pb::ListRequest {
        target: maps(""),
        limit: 3,
        ..pb::ListRequest::default()
    };
    let first = client
        .list(list.clone())
        .await
        .expect("listed")
        .into_inner();
    assert_eq!((first.items.len(), first.remaining_item_count), (3, 1));
    list.continue_token = first.continue_token;
    let second = client.list(list).await.expect("listed").into_inner();
    assert_eq!(
        (second.items.len(), second.continue_token.as_str()),
        (1, "")
    );
    assert_eq!(first.resource_version, second.resource_version);

    let options = json!({"preconditions": {"uid": "another"}}).to_string();
    let delete = |options: String| pb::DeleteRequest {
        target: maps("a"),
        options: options.into(),
    };
    let refused = client
        .delete(delete(options))
        .await
        .expect_err("another uid");
    assert_told(&refused, Code::AlreadyExists, 409, "Conflict");
    client.delete(delete(String::new())).await.expect("deleted");
    let gone = get(&mut client, "a").await.expect_err("gone");
    assert_told(&gone, Code::NotFound, 404, "NotFound");
    let collection = pb::DeleteCollectionRequest {
        target: maps(""),
        field_selector: "metadata.name!=d".to_owned(),
        ..pb::DeleteCollectionRequest::default()
    };
    let deleted = client.delete_collection(collection).await.expect("deleted");
    assert_eq!(deleted.into_inner().items.len(), 2);
    get(&mut client, "d").await.expect("left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_carries_its_status() {
    let api = Api::start(|_| {}).await;
    let mut client = api.grpc("jane");
    create(&mut client, &config_map("a", 1))
        .await
        .expect("created");
    let taken = create(&mut client, &config_map("a", 1))
        .await
        .expect_err("taken");
    assert_told(&taken, Code::AlreadyExists, 409, "AlreadyExists");
    let invalid = create(&mut client, &config_map("Not A Name", 1)).await;
    let invalid = invalid.expect_err("invalid");
    assert_told(&invalid, Code::InvalidArgument, 422, "Invalid");
    assert_eq!(
        told(&invalid)["details"]["causes"][0]["field"],
        "metadata.name"
    );
    let broken = pb::CreateRequest {
        target: maps(""),
        object: "{".into(),
        ..pb::CreateRequest::default()
    };
    let broken = client.create(broken).await.expect_err("no JSON");
    assert_told(&broken, Code::InvalidArgument, 400, "BadRequest");
    let unknown = pb::GetRequest {
        target: target("", "unicorns", "default", "a"),
        ..pb::GetRequest::default()
    };
    let unknown = client.get(unknown).await.expect_err("no such kind");
    assert_told(&unknown, Code::NotFound, 404, "NotFound");
    let nameless = client
        .get(pb::GetRequest::default())
        .await
        .expect_err("no target");
    assert_told(&nameless, Code::InvalidArgument, 400, "BadRequest");
    let large = create(&mut client, &config_map("large", 2 << 20)).await;
    let large = large.expect_err("over 1 MiB of data");
    assert!(
        matches!(told(&large)["code"].as_u64(), Some(413 | 422)),
        "{large}"
    );
    // Beyond the message limit the transport itself refuses, without a Status.
    let huge = create(&mut client, &config_map("huge", 8 << 20)).await;
    assert_eq!(
        huge.expect_err("over the message limit").code(),
        Code::OutOfRange
    );
}

/// Follows the ConfigMaps of a namespace.
struct Follow(Streaming<pb::WatchReply>);

impl Follow {
    async fn from(client: &mut Client, revision: &str, labels: &str) -> Result<Self, Status> {
        let request = pb::WatchRequest {
            target: maps(""),
            resource_version: revision.to_owned(),
            label_selector: labels.to_owned(),
            ..pb::WatchRequest::default()
        };
        Ok(Self(client.watch(request).await?.into_inner()))
    }

    async fn next(&mut self) -> pb::WatchReply {
        let next = tokio::time::timeout(LIMIT, self.0.message()).await;
        next.expect("in time").expect("a stream").expect("a reply")
    }

    /// The next change, as type and name.
    async fn change(&mut self) -> (Type, String) {
        loop {
            let reply = self.next().await;
            if reply.r#type() != Type::Bookmark {
                let name = parse(&reply.object)["metadata"]["name"].clone();
                return (reply.r#type(), name.as_str().expect("a name").to_owned());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begins_with_the_state_and_resumes_behind_a_revision() {
    let api = Api::start(|_| {}).await;
    let mut client = api.grpc("jane");
    let first = create(&mut client, &config_map("a", 1))
        .await
        .expect("created");
    let mut watch = Follow::from(&mut client, "", "").await.expect("a watch");
    assert_eq!(watch.change().await, (Type::Added, "a".to_owned()));
    let end = watch.next().await;
    assert!(
        end.initial_events_end && end.r#type() == Type::Bookmark,
        "{end:?}"
    );
    let reached: u64 = end.resource_version.parse().expect("a revision");
    let revision = first["metadata"]["resourceVersion"].as_str().expect("set");
    assert!(reached >= revision.parse().expect("a number"));

    create(&mut client, &config_map("b", 1))
        .await
        .expect("created");
    let delete = pb::DeleteRequest {
        target: maps("a"),
        ..pb::DeleteRequest::default()
    };
    client.delete(delete).await.expect("deleted");
    let story = [
        (Type::Added, "b".to_owned()),
        (Type::Deleted, "a".to_owned()),
    ];
    for step in &story {
        assert_eq!(watch.change().await, *step);
    }
    let mut resumed = Follow::from(&mut client, revision, "")
        .await
        .expect("a watch");
    for step in &story {
        assert_eq!(resumed.change().await, *step);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_told_how_far_it_is_while_nothing_happens() {
    let api = Api::start(|_| {}).await;
    let mut client = api.grpc("jane");
    let mut watch = Follow::from(&mut client, "", "nothing=here")
        .await
        .expect("a watch");
    let end = watch.next().await;
    assert!(end.initial_events_end);
    let before: u64 = end.resource_version.parse().expect("a revision");
    create(&mut client, &config_map("a", 1))
        .await
        .expect("created");
    // The change is not selected; the revision moves all the same, within the interval of bookmarks.
    let mark = watch.next().await;
    assert_eq!(mark.r#type(), Type::Bookmark);
    assert!(!mark.initial_events_end && mark.object.is_empty());
    assert!(mark.resource_version.parse::<u64>().expect("a revision") > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_is_forgotten_is_410() {
    let api = Api::start(|config| config.watch_cache_budget = Some(16)).await;
    let mut client = api.grpc("jane");
    let first = create(&mut client, &config_map("a", 900 << 10))
        .await
        .expect("created");
    let revision = first["metadata"]["resourceVersion"].as_str().expect("set");
    for n in 0..6 {
        let patch = pb::PatchRequest {
            target: maps("a"),
            kind: pb::patch_request::Kind::Merge.into(),
            patch: json!({"data": {"n": n.to_string()}}).to_string().into(),
            ..pb::PatchRequest::default()
        };
        client.patch(patch).await.expect("patched");
    }
    // A consistent read waits until the cache has seen the last write.
    get(&mut client, "a").await.expect("read");
    let refused = Follow::from(&mut client, revision, "").await;
    let refused = refused.err().expect("the revision is forgotten");
    assert_told(&refused, Code::OutOfRange, 410, "Expired");
}
