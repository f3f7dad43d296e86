//! Bad input and aborted requests, over and over: nothing stays behind. Tasks, watchers, places, connections and memory are
//! counted before and after. In a process of its own, as most of these belong to the process.

#[path = "component/harness.rs"]
#[expect(dead_code, reason = "the component tests use the rest of it")]
mod harness;

use std::time::Duration;

use bytes::Bytes;
use corten_apiserver::request::{empty, full};
use corten_proto::corten::api::v1 as pb;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use harness::{Api, LIMIT, config_map, request, target, until};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCHERS: &str = "apiserver_registered_watchers";
const READS: &str = "apiserver_current_inflight_requests{request_kind=\"readOnly\"}";
const WRITES: &str = "apiserver_current_inflight_requests{request_kind=\"mutating\"}";
const PANICS: &str = "apiserver_panics_total";

/// What must come back to where it was.
#[derive(Debug, Clone, Copy)]
struct Held {
    tasks: usize,
    watchers: f64,
    places: f64,
    files: f64,
}

async fn held(api: &Api) -> Held {
    Held {
        tasks: tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        watchers: api.metric(WATCHERS).await,
        places: api.metric(READS).await + api.metric(WRITES).await,
        files: api.metric("process_open_fds").await,
    }
}

impl Held {
    /// Some tasks of the test's own clients and of the runtime come and go.
    fn is_back(&self, before: &Self) -> bool {
        const SLACK: usize = 8;
        self.tasks <= before.tasks + SLACK
            && self.watchers <= before.watchers
            && self.places <= before.places
            && self.files <= before.files + 8.0
    }
}

/// Bytes that are no request, or not a whole one.
async fn garbage(api: &Api) {
    let pieces: [&[u8]; 6] = [
        b"\x16\x03\x01\x00\x05hello",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: a\r\nX: ",
        b"POST /api/v1/namespaces HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{\"kind\":",
        b"POST /api/v1/namespaces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff\xff\xff",
    ];
    for (n, piece) in pieces.iter().enumerate() {
        let h2 = n == 5;
        let mut stream = api.tls("jane", h2).await;
        stream.write_all(piece).await.expect("sent");
        let mut answer = vec![0; 256];
        // Some are answered, some are waited for; the connection goes either way.
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut answer)).await;
    }
    // Not even TLS.
    let mut plain = tokio::net::TcpStream::connect(api.address)
        .await
        .expect("connected");
    plain
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
}

/// Whole requests with bodies that are refused.
async fn refused(api: &Api) {
    let deep = format!(
        "{{\"metadata\":{}{}",
        "{\"a\":".repeat(20_000),
        "}".repeat(20_000)
    );
    let bodies: [(&str, Vec<u8>, u16); 6] = [
        ("application/json", b"{\"metadata\":".to_vec(), 400),
        ("application/json", deep.into_bytes(), 400),
        ("application/yaml", b"a: [b\n: c".to_vec(), 400),
        (
            "application/vnd.kubernetes.protobuf",
            b"k8s\x00\xff\xff\xff\xff".to_vec(),
            400,
        ),
        ("application/json", vec![b' '; 4 << 20], 413),
        ("text/css", b"a {}".to_vec(), 415),
    ];
    for (media_type, body, code) in bodies {
        let sent = request("POST", MAPS, media_type, full(Bytes::from(body)));
        let answer = api.send("jane", sent).await;
        assert_eq!(
            answer.code,
            code,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        assert_eq!(answer.json()["kind"], "Status");
    }
}

/// Opens watches over one HTTP/2 connection and drops them, some before their first byte.
async fn watches(api: &Api, count: usize) {
    let sender = api.h2_of(api.tls("jane", true).await).await;
    let path = format!("https://127.0.0.1{MAPS}?watch=true&allowWatchBookmarks=true");
    for n in 0..count {
        let mut sender = sender.clone();
        let asked = request("GET", &path, "application/json", empty());
        if n % 5 == 0 {
            drop(sender.send_request(asked));
            continue;
        }
        let asked = tokio::time::timeout(LIMIT / 4, sender.send_request(asked)).await;
        let response = asked.unwrap_or_else(|_| panic!("watch {n} is not answered"));
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200);
        if n % 5 == 1 {
            let mut body = response.into_body();
            let piece = tokio::time::timeout(LIMIT / 4, body.frame()).await;
            let piece = piece.unwrap_or_else(|_| panic!("watch {n} says nothing"));
            piece.expect("a piece").expect("read");
        }
    }
}

async fn grpc_watches(api: &Api, count: usize) {
    for _ in 0..count {
        let asked = pb::WatchRequest {
            target: target("", "configmaps", "default", ""),
            ..pb::WatchRequest::default()
        };
        let mut watch = api
            .grpc("jane")
            .watch(asked)
            .await
            .expect("a watch")
            .into_inner();
        watch.message().await.expect("a stream").expect("the state");
    }
}

/// Watches on connections that are cut under them.
async fn cut_watches(api: &Api, count: usize) {
    for _ in 0..count {
        let mut stream = api.tls("jane", false).await;
        let asked = format!("GET {MAPS}?watch=true HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.expect("sent");
        let mut head = vec![0; 64];
        stream.read_exact(&mut head).await.expect("answered");
        assert!(head.starts_with(b"HTTP/1.1 200"));
    }
}

async fn storm(api: &Api) {
    for _ in 0..20 {
        within("garbage", garbage(api)).await;
    }
    for _ in 0..5 {
        within("refused bodies", refused(api)).await;
    }
    within("watches", watches(api, 500)).await;
    within("gRPC watches", grpc_watches(api, 300)).await;
    within("watches that are cut", cut_watches(api, 200)).await;
}

async fn within(what: &str, part: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, part)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_bad_input_and_dropped_watches_leaves_nothing_behind() {
    let api = Api::start(|_| {}).await;
    let made = api
        .rest("jane", "POST", MAPS, Some(&config_map("a", 1000)))
        .await;
    assert_eq!(made.code, 201);
    let idle = held(&api).await;
    // The first one warms caches, pools and the allocator.
    storm(&api).await;
    let before = until("all is quiet", async || {
        let now = held(&api).await;
        now.is_back(&idle).then_some(now)
    })
    .await;
    let memory = api.metric("process_resident_memory_bytes").await;

    storm(&api).await;
    let after = until("all is as it was", async || {
        let now = held(&api).await;
        now.is_back(&before).then_some(now)
    })
    .await;
    let grown = api.metric("process_resident_memory_bytes").await - memory;
    assert!(grown < 24_000_000.0, "{grown} bytes more than before");
    assert!(api.metric(PANICS).await < 0.5);
    // It still works.
    let patch = json!({"data": {"x": "1"}});
    let sent = request(
        "PATCH",
        &format!("{MAPS}/a"),
        "application/merge-patch+json",
        full(patch.to_string()),
    );
    let answer = api.send("jane", sent).await;
    assert_eq!(answer.code, 200, "{before:?} {after:?}");
}
