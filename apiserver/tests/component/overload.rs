//! More requests than the server works on at once: 429 with Retry-After for those that do not fit, and nobody else is touched,
//! by priority and fairness and by the fixed bounds that hold without it.

use bytes::Bytes;
use corten_apiserver::config::Config;
use corten_apiserver::request::{Body, BoxError, empty, full};
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::api::v1 as pb;
use futures::future::join_all;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{Answer, Api, config_map, request, target, until};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const INFLIGHT: &str = "apiserver_current_inflight_requests{request_kind=\"mutating\"}";
const REJECTED: &str = "apiserver_rejected_requests_total{request_kind=\"mutating\"}";

/// A body that ends when its sender is dropped.
fn slow_body() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(4);
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok::<_, BoxError>(Frame::data(bytes)));
    (sender, StreamBody::new(frames).boxed_unsync())
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.code, 429);
    assert_eq!(answer.headers["retry-after"], "1");
    let status = answer.json();
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["reason"], "TooManyRequests");
    assert_eq!(status["code"], 429);
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
}

fn assert_refused_by_grpc(refused: &tonic::Status) {
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let trailer = refused.metadata().get_bin("corten-status-bin");
    let trailer = trailer.expect("a Status").to_bytes().expect("base64");
    let status: Value = serde_json::from_slice(&trailer).expect("JSON");
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
}

fn creation(object: &Value) -> pb::CreateRequest {
    pb::CreateRequest {
        target: target("", "configmaps", "default", ""),
        object: object.to_string().into(),
        ..pb::CreateRequest::default()
    }
}

/// Jane's requests get a level of one seat and one place to wait; returns the uid of the schema.
async fn narrow_for_jane(api: &Api) -> String {
    const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = json!({
        "metadata": {"name": "narrow"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}},
        }},
    });
    let schema = json!({
        "metadata": {"name": "narrow"},
        "spec": {
            "priorityLevelConfiguration": {"name": "narrow"}, "matchingPrecedence": 50,
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "jane"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                    "namespaces": ["*"], "clusterScope": true}],
            }],
        },
    });
    // The schema first: for a moment it has no level.
    let path = format!("{GROUP}/flowschemas");
    let made = api.rest("admin", "POST", &path, Some(&schema)).await;
    assert_eq!(made.code, 201, "{:?}", made.json());
    let dangles = async |expected: &str| {
        let schema = api
            .rest("admin", "GET", &format!("{path}/narrow"), None)
            .await;
        let condition = &schema.json()["status"]["conditions"][0];
        assert!(condition.is_null() || condition["type"] == "Dangling");
        (condition["status"] == expected).then_some(())
    };
    until("the schema dangles", async || dangles("True").await).await;
    let path = format!("{GROUP}/prioritylevelconfigurations");
    let made = api.rest("admin", "POST", &path, Some(&level)).await;
    assert_eq!(made.code, 201, "{:?}", made.json());
    until("the schema dangles no more", async || {
        dangles("False").await
    })
    .await;
    let schema = api
        .rest("admin", "GET", &format!("{GROUP}/flowschemas/narrow"), None)
        .await;
    schema.json()["metadata"]["uid"]
        .as_str()
        .expect("a uid")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_that_is_full_refuses_its_own_requests_only() {
    let api = Api::start(|config| {
        // Enough for every level to have one that it does not lend.
        config.max_requests_inflight = Some(20);
        config.max_mutating_requests_inflight = Some(0);
    })
    .await;
    let uid = narrow_for_jane(&api).await;
    let answer = api.rest("jane", "GET", MAPS, None).await;
    assert_eq!(answer.code, 200);
    assert_eq!(
        answer.headers["x-kubernetes-pf-flowschema-uid"],
        uid.as_str()
    );
    // Many watches, begun one after another, hold nothing.
    let mut watches = Vec::new();
    for _ in 0..5 {
        let mut sender = api.h1("jane").await;
        let path = format!("{MAPS}?watch=true");
        let watch = sender.send_request(request("GET", &path, "application/json", empty()));
        let response = watch.await.expect("an answer");
        assert_eq!(response.status(), 200);
        watches.push((sender, response));
    }
    let (parts, body) = slow_body();
    let mut holder = api.h1("jane").await;
    let held = holder.send_request(request("POST", MAPS, "application/json", body));
    let held = spawn("holder", TaskKind::Background, held);
    parts.send(Bytes::from_static(b"{")).await.expect("read");
    let executing = "apiserver_flowcontrol_current_executing_requests{priority_level=\"narrow\",flow_schema=\"narrow\"}";
    let waiting = executing.replace("executing", "inqueue");
    until("the seat is taken", async || {
        (api.metric(executing).await >= 1.0).then_some(())
    })
    .await;
    let map = config_map("waits", 1);
    let mut second = api.grpc("jane");
    let message = creation(&map);
    let waits = spawn("waiter", TaskKind::Background, async move {
        second.create(message).await
    });
    until("the queue is full", async || {
        (api.metric(&waiting).await >= 1.0).then_some(())
    })
    .await;
    let refused = api.rest("jane", "GET", MAPS, None).await;
    assert_refused(&refused);
    assert_eq!(
        refused.json()["message"],
        "too many requests, please try again later"
    );
    let mut jane = api.grpc("jane");
    let refused = jane.create(creation(&config_map("refused", 1))).await;
    assert_refused_by_grpc(&refused.expect_err("no room"));

    // Others have levels of their own.
    for user in ["admin", "node", "nobody"] {
        assert_ne!(api.rest(user, "GET", MAPS, None).await.code, 429, "{user}");
    }
    assert_eq!(api.rest("nobody", "GET", "/livez", None).await.code, 200);

    // Whoever waits comes to his turn when the slow one goes away.
    held.abort();
    drop((holder, parts));
    assert!(waits.await.expect("no panic").is_ok());
    assert_eq!(api.rest("jane", "GET", MAPS, None).await.code, 200);
}

/// Without priority and fairness, and with one place for writers.
fn one_writer(config: &mut Config) {
    config.enable_priority_and_fairness = Some(false);
    config.max_mutating_requests_inflight = Some(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_fit_is_told_when_to_come_back() {
    let api = Api::start(one_writer).await;
    // One writer that does not come to its end holds the only place.
    let (parts, body) = slow_body();
    let mut holder = api.h1("jane").await;
    let held = holder.send_request(request("POST", MAPS, "application/json", body));
    let held = spawn("holder", TaskKind::Background, held);
    parts.send(Bytes::from_static(b"{")).await.expect("read");
    until("the place is taken", async || {
        (api.metric(INFLIGHT).await >= 1.0).then_some(())
    })
    .await;

    // Four may wait for a moment, the others are refused at once; in the end all are.
    let map = config_map("refused", 1);
    let more = (0..12).map(|_| api.rest("jane", "POST", MAPS, Some(&map)));
    for answer in join_all(more).await {
        assert_refused(&answer);
    }
    assert!(api.metric(REJECTED).await >= 12.0);
    let refused = api
        .grpc("jane")
        .create(creation(&map))
        .await
        .expect_err("no room");
    assert_refused_by_grpc(&refused);

    // Readers, administrators, watches and health checks have nothing to do with it.
    assert_eq!(api.rest("jane", "GET", MAPS, None).await.code, 200);
    let made = api
        .rest("admin", "POST", MAPS, Some(&config_map("a", 1)))
        .await;
    assert_eq!(made.code, 201);
    assert_eq!(api.rest("nobody", "GET", "/livez", None).await.code, 200);

    // The slow one comes to its end, and there is room again.
    let rest = json!({"metadata": {"name": "slow"}}).to_string();
    parts
        .send(Bytes::from(rest[1..].to_owned()))
        .await
        .expect("read");
    drop(parts);
    let response = held.await.expect("no panic").expect("an answer");
    assert_eq!(response.status(), 201);
    assert_eq!(api.rest("jane", "POST", MAPS, Some(&map)).await.code, 201);
    until("the place is free", async || {
        (api.metric(INFLIGHT).await < 0.5).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_take_no_place() {
    let api = Api::start(|config| {
        config.enable_priority_and_fairness = Some(false);
        config.max_requests_inflight = Some(1);
    })
    .await;
    let mut watches = Vec::new();
    for _ in 0..5 {
        let mut sender = api.h1("jane").await;
        let path = format!("{MAPS}?watch=true");
        let watch = sender.send_request(request("GET", &path, "application/json", empty()));
        let response = watch.await.expect("an answer");
        assert_eq!(response.status(), 200);
        watches.push((sender, response));
    }
    assert_eq!(api.rest("jane", "GET", MAPS, None).await.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_gives_its_place_back() {
    let api = Api::start(one_writer).await;
    for _ in 0..3 {
        let (parts, body) = slow_body();
        let mut sender = api.h1("jane").await;
        let held = sender.send_request(request("POST", MAPS, "application/json", body));
        parts.send(Bytes::from_static(b"{")).await.expect("read");
        let cut = tokio::time::timeout(std::time::Duration::from_millis(300), held).await;
        assert!(cut.is_err(), "it waits for the rest of the body");
        drop(sender);
    }
    let map = full(config_map("b", 1).to_string());
    let made = api
        .send("jane", request("POST", MAPS, "application/json", map))
        .await;
    assert_eq!(made.code, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_name_the_schema_and_the_level_that_let_them_in() {
    let api = Api::start(|_| {}).await;
    let flow_control = "/apis/flowcontrol.apiserver.k8s.io/v1";
    for (header, resource) in [
        ("x-kubernetes-pf-flowschema-uid", "flowschemas"),
        (
            "x-kubernetes-pf-prioritylevel-uid",
            "prioritylevelconfigurations",
        ),
    ] {
        let path = format!("{flow_control}/{resource}/global-default");
        let uid = until("the default objects are there", async || {
            let object = api.rest("admin", "GET", &path, None).await.json();
            object["metadata"]["uid"].as_str().map(str::to_owned)
        })
        .await;
        until("the gate knows them", async || {
            let answer = api.rest("jane", "GET", MAPS, None).await;
            assert_eq!(answer.code, 200);
            (answer.headers.get(header)? == uid.as_str()).then_some(())
        })
        .await;
    }
    let seats = "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"global-default\"}";
    assert!(api.metric(seats).await >= 1.0);
    let running =
        "apiserver_flowcontrol_current_executing_seats{priority_level=\"global-default\"}";
    until("no seat is lost", async || {
        (api.metric(running).await < 0.5).then_some(())
    })
    .await;
}
