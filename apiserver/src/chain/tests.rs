//! Requests through the whole chain, over an in-process connection, with a stand-in for what lies behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corten_base::shutdown::Shutdown;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::objects::Change;
use super::*;
use crate::request::{BoxError, empty, full};
use crate::server::Local;

/// Tells the caller who reached it.
fn echo(label: &'static str) -> Handler {
    Arc::new(move |request: Request<Body>| {
        Box::pin(async move {
            let caller = request
                .extensions()
                .get::<Caller>()
                .expect("the chain sets it")
                .clone();
            assert!(
                request.headers().get(AUTHORIZATION).is_none(),
                "credentials end at the chain"
            );
            match caller.info.name.as_str() {
                "panic" => panic!("as the test asks for"),
                "large" => respond::json_bytes(vec![b'x'; 300_000].into()),
                _ => respond::json(
                    &json!({"by": label, "user": caller.user.name, "verb": caller.info.verb}),
                ),
            }
        })
    })
}

fn edge() -> Arc<Edge> {
    edge_with(echo("grpc"))
}

fn edge_with(grpc: Handler) -> Arc<Edge> {
    let authorizer = Live::new();
    authorizer.apply(
        "clusterroles",
        Change::Set(json!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]})),
    );
    authorizer.apply("clusterrolebindings", Change::Set(json!({"metadata": {"name": "r"},
        "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]})));
    Edge::new(Parts {
        grpc,
        ..fixture::parts(authorizer, echo("rest"))
    })
}

struct Client {
    sender: http1::SendRequest<Body>,
    /// Connections end with what opened them.
    _local: Local,
}

impl Client {
    async fn new(user: User) -> Self {
        let local = Local::new(&edge(), user, &Shutdown::new());
        let stream = TokioIo::new(local.connect());
        let (sender, connection) = http1::handshake(stream).await.expect("connected");
        let kind = corten_base::tasks::TaskKind::Connection;
        corten_base::tasks::spawn("test-client", kind, connection);
        Self {
            sender,
            _local: local,
        }
    }

    async fn send(
        &mut self,
        request: http::request::Builder,
    ) -> (u16, http::HeaderMap, bytes::Bytes) {
        let request = request.body(empty()).expect("a request");
        let response = self.sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        (
            head.status.as_u16(),
            head.headers,
            body.collect().await.expect("a body").to_bytes(),
        )
    }

    async fn get(&mut self, path: &str) -> (u16, Value) {
        let (code, _, body) = self.send(Request::get(path)).await;
        (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

fn jane() -> User {
    User::authenticated("jane", Vec::<String>::new())
}

#[tokio::test]
async fn allowed_and_forbidden() {
    let mut client = Client::new(jane()).await;
    let (code, body) = client.get("/api/v1/namespaces/a/pods").await;
    assert_eq!(
        (code, body),
        (200, json!({"by": "rest", "user": "jane", "verb": "list"}))
    );
    let (code, body) = client.get("/api/v1/namespaces/a/secrets/s").await;
    assert_eq!(code, 403);
    assert_eq!(
        body["message"],
        "secrets \"s\" is forbidden: User \"jane\" cannot get resource \"secrets\" in API group \"\" in the namespace \"a\""
    );
    assert_eq!(body["details"], json!({"name": "s", "kind": "secrets"}));
    assert_eq!(client.get("/livez").await.0, 200);
}

#[tokio::test]
async fn administrators_documents() {
    let mut client = Client::new(User::apiserver()).await;
    let (code, version) = client.get("/version").await;
    assert_eq!(
        (code, &version["major"], &version["minor"]),
        (200, &json!("1"), &json!("35"))
    );
    assert!(
        version["gitVersion"]
            .as_str()
            .expect("text")
            .starts_with("v1.35.0+corten.")
    );
    assert_eq!(client.get("/api").await.1["kind"], "APIVersions");
    assert_eq!(
        client.get("/apis/apps/v1").await.1["kind"],
        "APIResourceList"
    );
    assert!(
        client.get("/").await.1["paths"]
            .as_array()
            .is_some_and(|paths| paths.len() > 10)
    );
    let (code, body) = client.get("/nowhere").await;
    assert_eq!((code, &body["kind"]), (404, &json!("Status")));
    let (code, _, metrics) = client.send(Request::get("/metrics")).await;
    assert_eq!(code, 200);
    assert!(String::from_utf8_lossy(&metrics).contains("apiserver_request_total"));
    let (code, ..) = client.send(Request::post("/version")).await;
    assert_eq!(code, 405);
    let (code, body) = client.get("/api/v1/namespaces/a/services/s/proxy/x").await;
    assert_eq!((code, &body["reason"]), (404, &json!("NotFound")));
}

#[tokio::test]
async fn acting_as_somebody_else() {
    let mut root = Client::new(User::apiserver()).await;
    let as_jane = |path: &str| Request::get(path).header("Impersonate-User", "jane");
    let (code, _, body) = root.send(as_jane("/api/v1/pods")).await;
    assert_eq!(code, 200);
    assert!(String::from_utf8_lossy(&body).contains("\"jane\""));
    assert_eq!(root.send(as_jane("/api/v1/secrets")).await.0, 403);
    let mut client = Client::new(jane()).await;
    assert_eq!(
        client
            .send(Request::get("/api/v1/pods").header("Impersonate-User", "root"))
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_connection_lives() {
    let mut client = Client::new(jane()).await;
    let (code, body) = client.get("/api/v1/namespaces/a/pods/panic").await;
    assert_eq!((code, &body["reason"]), (500, &json!("InternalError")));
    assert_eq!(client.get("/api/v1/pods").await.0, 200);
}

/// A body in three parts, which counts those that were taken.
fn counted(taken: &Arc<AtomicUsize>) -> Body {
    let taken = Arc::clone(taken);
    let parts = futures::stream::iter(0..3).map(move |_| {
        taken.fetch_add(1, Ordering::Relaxed);
        Ok::<_, BoxError>(http_body::Frame::data(bytes::Bytes::from_static(b"part")))
    });
    http_body_util::StreamBody::new(parts).boxed_unsync()
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_was_lost() {
    let edge = edge();
    for (user, code) in [(jane(), 200), (User::anonymous(), 403)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let peer = Peer {
            user: Some(Arc::new(user)),
            address: None,
        };
        // Neither the stand-in behind the chain nor the refusal within it reads the body.
        let request = Request::put("/api/v1/namespaces/default/pods")
            .body(counted(&taken))
            .expect("a request");
        assert_eq!(edge.handle(&peer, request).await.status(), code);
        assert_eq!(
            taken.load(Ordering::Relaxed),
            3,
            "the client could send all of it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_does_not_hold_the_answer_for_ever() {
    let endless = http_body_util::StreamBody::new(futures::stream::pending::<
        Result<http_body::Frame<bytes::Bytes>, BoxError>,
    >());
    let peer = Peer {
        user: Some(Arc::new(jane())),
        address: None,
    };
    let request = Request::put("/api/v1/namespaces/default/pods").body(endless.boxed_unsync());
    let edge = edge();
    let answer = edge.handle(&peer, request.expect("a request"));
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
    assert_eq!(answer.expect("in time").status(), 200);
}

#[tokio::test]
async fn large_answers_are_compressed_on_demand() {
    let mut client = Client::new(jane()).await;
    let path = "/api/v1/namespaces/a/pods/large";
    let (_, headers, plain) = client.send(Request::get(path)).await;
    assert!(!headers.contains_key("content-encoding"));
    let (_, headers, packed) = client
        .send(Request::get(path).header("accept-encoding", "gzip"))
        .await;
    assert_eq!(headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed), &mut unpacked)
        .expect("gzip");
    assert_eq!(unpacked, plain);
}

#[tokio::test]
async fn grpc_refusals_are_grpc() {
    let edge = edge();
    let request =
        Request::post("/corten.api.v1.Resources/Get").header(CONTENT_TYPE, "application/grpc");
    let response = edge
        .handle(&Peer::default(), request.body(full("")).expect("a request"))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "16");
    assert!(response.headers().contains_key("corten-status-bin"));
    let peer = Peer {
        user: Some(Arc::new(jane())),
        address: None,
    };
    let request =
        Request::post("/corten.api.v1.Resources/Get").header(CONTENT_TYPE, "application/grpc");
    let response = edge
        .handle(&peer, request.body(full("")).expect("a request"))
        .await;
    assert!(
        !response.headers().contains_key("grpc-status"),
        "the method itself authorises"
    );
}

#[tokio::test]
async fn nobody_gets_401_but_health_and_version() {
    let edge = edge();
    for (path, expected) in [("/livez", 200), ("/api/v1/pods", 401), ("/metrics", 401)] {
        let request = Request::get(path).body(empty()).expect("a request");
        assert_eq!(
            edge.handle(&Peer::default(), request).await.status(),
            expected,
            "{path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_without_a_deadline_held_its_slot_for_ever() {
    let stuck: Handler = Arc::new(|_| Box::pin(std::future::pending()));
    let edge = edge_with(stuck);
    let peer = Peer {
        user: Some(Arc::new(jane())),
        address: None,
    };
    let call = |method: &str| {
        let uri = format!("/corten.api.v1.Resources/{method}");
        let request = Request::post(uri).header(CONTENT_TYPE, "application/grpc");
        request.body(full("")).expect("a request")
    };
    let response = edge.handle(&peer, call("Update")).await;
    // DEADLINE_EXCEEDED
    assert_eq!(response.headers()["grpc-status"], "4");
    let watch = edge.handle(&peer, call("Watch"));
    let unlimited = tokio::time::timeout(10 * REQUEST_TIMEOUT, watch).await;
    assert!(unlimited.is_err(), "watches last");
}
