//! Requests through a chain that is short of seats: floods, slow readers, watches, clients that go away, refusals.

use std::future::Future;
use std::pin::Pin;

use corten_api::kinds::flowcontrol::GROUP;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;

use super::*;
use crate::authn::Peer;
use crate::authz::live::Live;
use crate::chain::objects::fake::Fake;
use crate::chain::objects::{Change, Resource};
use crate::chain::{Edge, Handler, Load, Parts, fixture, respond};
use crate::request::{Body, BoxError, Caller, empty};

/// How long the stand-in behind the chain works on a request.
const WORK: Duration = Duration::from_millis(100);
const PODS: &str = "/api/v1/namespaces/a/pods";
const SCHEMAS: Resource = Resource {
    group: GROUP,
    name: "flowschemas",
};
const LEVELS: Resource = Resource {
    group: GROUP,
    name: "prioritylevelconfigurations",
};

/// A body whose pieces are ready at once, and which then ends or goes on for ever.
fn pieces(count: usize, ends: bool) -> Response<Body> {
    let pieces = futures::stream::iter(0..count)
        .map(|_| Ok::<_, BoxError>(http_body::Frame::data(bytes::Bytes::from_static(b"piece"))));
    Response::new(match ends {
        true => StreamBody::new(pieces).boxed_unsync(),
        false => StreamBody::new(pieces.chain(futures::stream::pending())).boxed_unsync(),
    })
}

/// Takes its time for everything, for ever for what is called `stuck`.
fn worker() -> Handler {
    Arc::new(|request: Request<Body>| {
        Box::pin(async move {
            let info = request
                .extensions()
                .get::<Caller>()
                .map(|c| Arc::clone(&c.info));
            let info = info.expect("the chain sets it");
            match (info.verb.as_str(), info.name.as_str()) {
                (_, "stuck") => std::future::pending().await,
                ("watch", _) => return pieces(2, false),
                ("list", _) => return pieces(3, true),
                _ => tokio::time::sleep(WORK).await,
            }
            respond::json(&json!({}))
        })
    })
}

/// A level that queues, neither lends nor borrows, and has nearly all seats of the server.
fn level(length: usize) -> Value {
    json!({
        "metadata": {"name": "narrow", "uid": "level-uid"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 95, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue",
                "queuing": {"queues": 64, "handSize": 2, "queueLengthLimit": length}},
        }},
    })
}

/// Everybody's requests, one flow for each user.
fn schema(name: &str, level: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": format!("{name}-uid")},
        "spec": {
            "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 100,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "Group", "group": {"name": "system:authenticated"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            }],
        },
    })
}

fn edge(seats: u32) -> Arc<Edge> {
    let authorizer = Live::new();
    authorizer.apply(
        "clusterroles",
        Change::Set(json!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]})),
    );
    authorizer.apply(
        "clusterrolebindings",
        Change::Set(json!({"metadata": {"name": "r"},
        "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "Group", "name": "system:authenticated"}]})),
    );
    Edge::new(Parts {
        load: Load::Fair {
            seats,
            objects: Arc::new(|_, _| 0),
        },
        ..fixture::parts(authorizer, worker())
    })
}

/// The same with one level for everybody, whose queues are so long.
fn narrow(seats: u32, length: usize) -> Arc<Edge> {
    let edge = edge(seats);
    seats_of(&edge).configure(&[schema("all", "narrow")], &[level(length)]);
    edge
}

fn seats_of(edge: &Edge) -> &Arc<Seats> {
    edge.seats().expect("fair")
}

/// Seats of the level that are in use, and that are waited for.
fn usage(edge: &Edge) -> (u32, u32) {
    let state = seats_of(edge).state.lock();
    assert!(state.waiting.len() < 1000);
    let usage = state.core.usage("narrow").expect("a level");
    (usage.running, usage.waiting)
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A request on its way; dropping it is what happens when its client goes away.
fn send(edge: &Arc<Edge>, user: User, path: &str) -> Answering {
    let edge = Arc::clone(edge);
    let request = Request::get(path).body(empty()).expect("a request");
    Box::pin(async move {
        let peer = Peer {
            user: Some(Arc::new(user)),
            address: None,
        };
        edge.handle(&peer, request).await
    })
}

fn user(name: &str) -> User {
    User::authenticated(name, Vec::<String>::new())
}

fn stuck(edge: &Arc<Edge>) -> Answering {
    send(edge, user("slow"), "/api/v1/namespaces/a/pods/stuck")
}

async fn status_of(response: Response<Body>) -> (u16, HeaderMap, Value) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    (head.status.as_u16(), head.headers, body)
}

fn metrics(edge: &Edge) -> String {
    let answer = edge.admin.handle("/metrics", None).expect("metrics");
    let body = answer.into_body().collect().now_or_never().expect("whole");
    String::from_utf8(body.expect("a body").to_bytes().into()).expect("text")
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_user_leaves_another_fast() {
    let edge = narrow(10, 50);
    let path = format!("{PODS}/p");
    let flood = (0..100).map(|_| send(&edge, user("flood"), &path));
    let flood = spawn("flood", TaskKind::Background, join_all(flood));
    tokio::time::sleep(WORK / 10).await;
    assert_eq!(usage(&edge), (10, 90));
    for _ in 0..4 {
        let since = Instant::now();
        assert_eq!(send(&edge, user("jane"), &path).await.status(), 200);
        // One turn of waiting and one of work, while the flood needs ten of each.
        assert!(since.elapsed() <= WORK * 2, "{:?}", since.elapsed());
    }
    assert!(usage(&edge).1 > 0, "the flood still waits");
    let answers = flood.await.expect("no panic");
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(usage(&edge), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn administrators_and_streams_need_no_room() {
    let edge = narrow(1, 5);
    let mut holder = stuck(&edge);
    assert!(futures::poll!(&mut holder).is_pending());
    let path = format!("{PODS}/p");
    let answer = send(&edge, User::apiserver(), &path).await;
    assert_eq!(answer.status(), 200);
    let headers = answer.headers();
    assert!(headers.contains_key("x-kubernetes-pf-prioritylevel-uid"));
    // No agent is there to stream from; what counts is that nobody waits.
    let log = send(&edge, user("jane"), &format!("{path}/log")).await;
    assert_ne!(log.status(), 429);
    assert_eq!(usage(&edge), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_watch_gives_its_seat_back_once_its_state_is_out() {
    let edge = narrow(1, 5);
    let path = format!("{PODS}?watch=true");
    let mut watch = send(&edge, user("jane"), &path).await.into_body();
    assert_eq!(usage(&edge), (1, 0));
    for _ in 0..2 {
        assert!(watch.frame().await.expect("a piece").is_ok());
        assert_eq!(usage(&edge), (1, 0));
    }
    assert!(watch.frame().now_or_never().is_none(), "no more for now");
    assert_eq!(usage(&edge), (0, 0));
    let other = send(&edge, user("bob"), &format!("{PODS}/p")).await;
    assert_eq!(other.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_list_gives_its_seat_back_at_its_end_or_with_its_client() {
    let edge = narrow(1, 5);
    let list = send(&edge, user("jane"), PODS).await;
    assert_eq!(usage(&edge), (1, 0));
    list.into_body().collect().await.expect("a list");
    assert_eq!(usage(&edge), (0, 0));
    let list = send(&edge, user("jane"), PODS).await;
    assert_eq!(usage(&edge), (1, 0));
    drop(list);
    assert_eq!(usage(&edge), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_keeps_nobody_waiting() {
    let edge = edge(1);
    let fake = Fake::with(&[(SCHEMAS, schema("all", "narrow")), (LEVELS, level(5))]);
    let (objects, shutdown): (Arc<dyn Objects>, _) = (fake, Shutdown::new());
    let seats = seats_of(&edge);
    seats.start(&objects, &shutdown);
    while !seats.is_configured() {
        tokio::time::sleep(WORK).await;
    }
    // Nobody reads it.
    let list = send(&edge, user("slow"), PODS).await;
    assert_eq!(usage(&edge), (1, 0));
    let since = Instant::now();
    let other = send(&edge, user("jane"), &format!("{PODS}/p")).await;
    assert_eq!(other.status(), 200);
    assert!(since.elapsed() <= LOOK_EVERY * 2 + WORK);
    // And the slow one gets the rest all the same.
    let list = list.into_body().collect().await.expect("a list");
    assert_eq!(list.to_bytes().len(), 15);
    assert_eq!(usage(&edge), (0, 0));
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_frees_its_place() {
    let edge = narrow(1, 5);
    let mut holder = stuck(&edge);
    assert!(futures::poll!(&mut holder).is_pending());
    let path = format!("{PODS}/p");
    let [mut first, mut second] = ["ann", "bob"].map(|name| send(&edge, user(name), &path));
    assert!(futures::poll!(&mut first).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(usage(&edge), (1, 2));
    drop(first);
    assert_eq!(usage(&edge), (1, 1));
    // It is told that it may start, and its client goes away before it has heard of it.
    drop(holder);
    assert_eq!(usage(&edge), (1, 0));
    drop(second);
    assert_eq!(usage(&edge), (0, 0));
    assert!(seats_of(&edge).state.lock().waiting.is_empty());
    assert_eq!(send(&edge, user("eve"), &path).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_fit_is_told_so() {
    let edge = narrow(1, 1);
    let mut holder = stuck(&edge);
    assert!(futures::poll!(&mut holder).is_pending());
    let path = format!("{PODS}/p");
    // Two queues for the flow, with room for one each.
    let mut waiting = [(); 2].map(|()| send(&edge, user("jane"), &path));
    for one in &mut waiting {
        assert!(futures::poll!(one).is_pending());
    }
    let refused = send(&edge, user("jane"), &path).await;
    let check = |(code, headers, body): (u16, HeaderMap, Value)| {
        assert_eq!(
            (code, &headers["retry-after"]),
            (429, &"1".parse().expect("a value"))
        );
        assert_eq!(headers["x-kubernetes-pf-flowschema-uid"], "all-uid");
        assert_eq!(headers["x-kubernetes-pf-prioritylevel-uid"], "level-uid");
        assert_eq!(
            (&body["kind"], &body["reason"]),
            (&json!("Status"), &json!("TooManyRequests"))
        );
        assert_eq!(body["message"], "too many requests, please try again later");
        assert_eq!(body["details"]["retryAfterSeconds"], 1);
    };
    check(status_of(refused).await);
    // A quarter of the time that a request has.
    let since = Instant::now();
    for one in join_all(waiting).await {
        check(status_of(one).await);
    }
    assert_eq!(since.elapsed().as_secs(), 15);
    assert_eq!(usage(&edge), (1, 0));
    let text = metrics(&edge);
    let labels = "priority_level=\"narrow\",flow_schema=\"all\"";
    for line in [
        format!("rejected_requests_total{{{labels},reason=\"queue-full\"}} 1"),
        format!("rejected_requests_total{{{labels},reason=\"time-out\"}} 2"),
        format!("dispatched_requests_total{{{labels}}} 1"),
        format!("current_executing_requests{{{labels}}} 1"),
        format!("current_inqueue_requests{{{labels}}} 0"),
        format!("request_wait_duration_seconds_count{{{labels},execute=\"false\"}} 2"),
        "nominal_limit_seats{priority_level=\"narrow\"} 1".to_owned(),
    ] {
        assert!(
            text.contains(&format!("\napiserver_flowcontrol_{line}\n")),
            "{line}\n{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_calls_enter_by_themselves() {
    let authorizer = Live::new();
    let call: Handler = Arc::new(|request: Request<Body>| {
        Box::pin(async move {
            let place = request
                .extensions()
                .get::<Place>()
                .expect("a place")
                .clone();
            let uri = PODS.parse().expect("a path");
            let info = RequestInfo::resolve(&http::Method::GET, &uri);
            match place.enter(&info, Reach::default()).await {
                Ok(()) => std::future::pending().await,
                Err(status) => respond::grpc_status(&status),
            }
        })
    });
    let edge = Edge::new(Parts {
        load: Load::Fair {
            seats: 1,
            objects: Arc::new(|_, _| 0),
        },
        ..fixture::parts(authorizer, call)
    });
    seats_of(&edge).configure(&[schema("all", "narrow")], &[level(0)]);
    let peer = Peer {
        user: Some(Arc::new(user("jane"))),
        address: None,
    };
    let request = || {
        let request = Request::post("/corten.api.v1.Resources/List");
        let request = request.header(http::header::CONTENT_TYPE, "application/grpc");
        request.body(empty()).expect("a request")
    };
    let mut holder = Box::pin(edge.handle(&peer, request()));
    assert!(futures::poll!(&mut holder).is_pending());
    assert_eq!(usage(&edge), (1, 0));
    let refused = edge.handle(&peer, request()).await;
    // RESOURCE_EXHAUSTED
    assert_eq!(refused.headers()["grpc-status"], "8");
    assert_eq!(
        refused.headers()["x-kubernetes-pf-flowschema-uid"],
        "all-uid"
    );
    // A call that hangs is ended, and its seat is free.
    assert_eq!(holder.await.headers()["grpc-status"], "4");
    assert_eq!(usage(&edge), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn schemas_are_told_whether_their_levels_exist() {
    let edge = edge(10);
    let mut told = schema("told", "narrow");
    told["status"]["conditions"] = json!([
        {"type": "Other", "status": "True"},
        {"type": "Dangling", "status": "True", "reason": "NotFound", "message": "as it was"},
    ]);
    let fake = Fake::with(&[
        (SCHEMAS, told),
        (SCHEMAS, schema("lost", "nowhere")),
        (LEVELS, level(5)),
    ]);
    let objects: Arc<dyn Objects> = Arc::clone(&fake) as _;
    let condition = |name: &str| {
        let all = fake.all(SCHEMAS);
        let schema = all.iter().find(|schema| schema["metadata"]["name"] == name);
        let conditions = schema.expect("there")["status"]["conditions"].clone();
        let all = conditions.as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|one| one["type"] == "Dangling")
            .unwrap_or_default()
    };
    for writes in [2, 2] {
        let shutdown = Shutdown::new();
        seats_of(&edge).start(&objects, &shutdown);
        tokio::time::sleep(WORK * 10).await;
        shutdown.trigger();
        assert_eq!(
            fake.writes(),
            writes,
            "the second server has nothing to say"
        );
    }
    assert_eq!(
        (&condition("told")["status"], &condition("told")["reason"]),
        (&json!("False"), &json!("Found"))
    );
    assert_eq!(
        (&condition("lost")["status"], &condition("lost")["reason"]),
        (&json!("True"), &json!("NotFound"))
    );
    assert!(condition("lost")["lastTransitionTime"].is_string());
    assert_eq!(
        fake.all(SCHEMAS)
            .iter()
            .filter(|s| s["status"]["conditions"][0]["type"] == "Other")
            .count(),
        1
    );
    // Requests of the schema without a level go where nothing else matches.
    let (flow, _) = seats_of(&edge).classify(&user("jane"), &RequestInfo::default());
    assert_eq!(&*flow.level, "catch-all");
}

#[tokio::test]
async fn series_of_what_is_gone_are_removed() {
    let edge = narrow(10, 5);
    assert!(metrics(&edge).contains("flow_schema=\"all\""));
    seats_of(&edge).configure(&[], &[]);
    let text = metrics(&edge);
    assert!(
        !text.contains("\"all\"") && !text.contains("\"narrow\""),
        "{text}"
    );
    assert!(text.contains("flow_schema=\"catch-all\""));
}
