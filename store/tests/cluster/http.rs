//! What curl gets from the client port: health, version, metrics, and the API as JSON, over real sockets.
//!
//! Not the mapping of each message, which is proto3's and goes by descriptors. Invariant: gRPC and plain HTTP share one port.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_base::pki::{Authority, CertRequest, Usage};
use corten_base::tls::{TlsFiles, client_config};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{Cluster, DEADLINE, free_port, get, put, wait_for};
use super::level::wait_for_level;

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

/// A cluster of one that serves clients on a port.
async fn one() -> (Cluster, u16) {
    let mut cluster = Cluster::configure(1);
    let port = free_port();
    cluster.configs[0].listen_client_urls = vec![format!("http://127.0.0.1:{port}")];
    cluster.configs[0].bcrypt_cost = 4;
    cluster.start(0).await;
    cluster.leader().await;
    wait_for_level(cluster.member(0), 1).await;
    wait_for("the port", async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    (cluster, port)
}

async fn send(
    connection: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
    headers: &str,
    body: &str,
) {
    let len = body.len();
    let text =
        format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n{headers}\r\n{body}");
    connection.write_all(text.as_bytes()).await.expect("sent");
}

/// One request over HTTP/1.1; gives the code and the body.
async fn over(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let headers = format!("connection: close\r\n{headers}");
    send(&mut connection, request, &headers, body).await;
    let mut answer = String::new();
    let read = timeout(DEADLINE, connection.read_to_string(&mut answer)).await;
    // Over TLS the peer may go without a word.
    let _ = read.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let code = head
        .split(' ')
        .nth(1)
        .expect("a code")
        .parse()
        .expect("a number");
    (code, body.to_owned())
}

async fn ask(port: u16, request: &str, headers: &str, body: &str) -> (u16, String) {
    let connection = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connected");
    over(connection, request, headers, body).await
}

async fn plain(port: u16, path: &str) -> (u16, String) {
    ask(port, &format!("GET {path}"), "", "").await
}

/// A call of the gateway.
async fn call(port: u16, path: &str, body: Value) -> (u16, Value) {
    call_as(port, "", path, body).await
}

async fn call_as(port: u16, token: &str, path: &str, body: Value) -> (u16, Value) {
    let header = if token.is_empty() {
        String::new()
    } else {
        format!("authorization: {token}\r\n")
    };
    let request = format!("POST /v3/{path}");
    let (code, text) = ask(port, &request, &header, &body.to_string()).await;
    // Of a stream the first line, among the sizes of chunks.
    let mut values = text.lines().map(serde_json::from_str);
    let value = values.find_map(|value| value.ok().filter(Value::is_object));
    (code, value.unwrap_or(Value::String(text)))
}

#[tokio::test(flavor = "multi_thread")]
async fn health_version_and_metrics_are_on_the_client_port() {
    let (mut cluster, port) = one().await;
    let ok = (200, r#"{"health":"true","reason":""}"#.to_owned());
    assert_eq!(plain(port, "/health").await, ok);
    assert_eq!(plain(port, "/health?serializable=true").await, ok);
    assert_eq!(plain(port, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(plain(port, "/readyz").await, (200, "ok\n".to_owned()));
    let (code, verbose) = plain(port, "/readyz?verbose").await;
    let lines = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!((code, verbose.as_str()), (200, lines));
    let one = plain(port, "/readyz/linearizable_read").await;
    assert_eq!(one, (200, "ok\n".to_owned()));
    assert_eq!(plain(port, "/readyz/other").await.0, 404);
    assert_eq!(ask(port, "POST /health", "", "").await.0, 405);
    let (code, version) = plain(port, "/version").await;
    let version: Value = serde_json::from_str(&version).expect("JSON");
    assert_eq!(code, 200);
    assert!(
        version["etcdserver"]
            .as_str()
            .is_some_and(|v| v.starts_with("3.6."))
    );
    assert_eq!(version["etcdcluster"], "3.6.0");
    assert_eq!(version["storage"], "3.6.0");
    let (code, metrics) = plain(port, "/metrics").await;
    assert!(
        code == 200 && metrics.contains("etcd_server_has_leader 1"),
        "{metrics}"
    );
    assert_eq!(plain(port, "/nothing").await.0, 404);

    // An alarm makes it ill, unless it is excluded.
    let member = call(port, "maintenance/status", json!({})).await.1["header"]["member_id"].clone();
    let alarm = json!({"action": "ACTIVATE", "memberID": member, "alarm": "CORRUPT"});
    let other = json!({"action": "ACTIVATE", "memberID": "7", "alarm": "NOSPACE"});
    assert_eq!(call(port, "maintenance/alarm", other).await.0, 200);
    let ill = r#"{"health":"false","reason":"ALARM NOSPACE"}"#.to_owned();
    assert_eq!(plain(port, "/health").await, (503, ill));
    assert_eq!(plain(port, "/health?exclude=NOSPACE").await, ok);
    assert_eq!(call(port, "maintenance/alarm", alarm).await.0, 200);
    let (code, said) = plain(port, "/readyz").await;
    assert!(
        code == 503 && said.contains("[-]data_corruption failed: alarm activated: CORRUPT"),
        "{said}"
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_there_as_json() {
    let (mut cluster, port) = one().await;
    let (code, answer) = call(port, "kv/put", json!({"key": b64("k"), "value": b64("v1")})).await;
    assert_eq!(code, 200, "{answer}");
    let revision = answer["header"]["revision"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(answer["header"]["cluster_id"].is_string(), "{answer}");
    let put_again = json!({"key": b64("k"), "value": b64("v2"), "prevKv": true});
    let answer = call(port, "kv/put", put_again).await.1;
    assert_eq!(answer["prev_kv"]["value"], b64("v1"));
    assert_eq!(answer["prev_kv"]["create_revision"], revision);
    let answer = call(port, "kv/range", json!({"key": b64("k")})).await.1;
    assert_eq!(answer["count"], "1");
    assert_eq!(answer["kvs"][0]["version"], "2");
    assert!(
        answer.get("more").is_none(),
        "what is not set is left out: {answer}"
    );
    // gRPC sees the same, on the same port and in process.
    assert_eq!(
        get(cluster.member(0), "k").await.map(|(value, _)| value),
        Some(b"v2".to_vec())
    );
    let txn = json!({
        "compare": [{"target": "VERSION", "key": b64("k"), "version": "2"}],
        "success": [{"requestPut": {"key": b64("t"), "value": b64("yes")}}],
        "failure": [{"request_delete_range": {"key": b64("k")}}],
    });
    let answer = call(port, "kv/txn", txn).await.1;
    assert_eq!(answer["succeeded"], true, "{answer}");
    assert!(
        answer["responses"][0]["response_put"].is_object(),
        "{answer}"
    );
    let answer = call(port, "kv/deleterange", json!({"key": b64("t")}))
        .await
        .1;
    assert_eq!(answer["deleted"], "1");
    let (code, _) = call(port, "kv/compaction", json!({"revision": revision})).await;
    assert_eq!(code, 200);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_members_and_maintenance_are_there_as_json() {
    let (mut cluster, port) = one().await;
    let answer = call(port, "lease/grant", json!({"TTL": 60, "ID": "77"}))
        .await
        .1;
    assert_eq!(
        (&answer["ID"], &answer["TTL"]),
        (&json!("77"), &json!("60")),
        "{answer}"
    );
    let answer = call(port, "lease/keepalive", json!({"ID": "77"})).await.1;
    assert_eq!(answer["result"]["TTL"], "60", "{answer}");
    let answer = call(port, "kv/lease/timetolive", json!({"ID": "77"}))
        .await
        .1;
    assert_eq!(answer["grantedTTL"], "60", "{answer}");
    let answer = call(port, "lease/leases", json!({})).await.1;
    assert_eq!(answer["leases"][0]["ID"], "77");
    assert_eq!(call(port, "lease/revoke", json!({"ID": "77"})).await.0, 200);
    let answer = call(port, "cluster/member/list", json!({})).await.1;
    assert_eq!(answer["members"][0]["name"], "m0", "{answer}");
    let answer = ask(port, "POST /v3/maintenance/status", "", "").await;
    assert!(
        answer.0 == 200 && answer.1.contains("dbSizeInUse"),
        "an empty body: {answer:?}"
    );
    let (code, text) = ask(port, "POST /v3/maintenance/snapshot", "", "{}").await;
    assert!(code == 200 && text.contains(r#"{"result":{"#), "{text}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_codes_of_etcds_gateway() {
    let (mut cluster, port) = one().await;
    put(cluster.member(0), "k", b"v").await;
    assert_eq!(
        call(port, "kv/compaction", json!({"revision": "2"}))
            .await
            .0,
        200
    );
    let refusals = [
        (
            "kv/put",
            json!({"value": b64("v")}),
            400,
            3,
            "etcdserver: key is not provided",
        ),
        (
            "lease/revoke",
            json!({"ID": "1"}),
            404,
            5,
            "etcdserver: requested lease not found",
        ),
        (
            "kv/range",
            json!({"key": b64("k"), "revision": "1"}),
            400,
            11,
            "compacted",
        ),
        ("maintenance/downgrade", json!({}), 501, 12, "corten:"),
        ("no/such/path", json!({}), 404, 5, "Not Found"),
        ("kv/put", json!({"key": 5}), 400, 3, "invalid type"),
        ("watch", json!([]), 400, 3, ""),
    ];
    for (path, body, http, code, text) in refusals {
        let (got, answer) = call(port, path, body).await;
        assert_eq!(
            (got, &answer["code"]),
            (http, &json!(code)),
            "{path}: {answer}"
        );
        assert_eq!(answer["error"], answer["message"]);
        assert!(
            answer["message"]
                .as_str()
                .is_some_and(|said| said.contains(text)),
            "{path}: {answer}"
        );
    }
    assert_eq!(ask(port, "GET /v3/kv/range", "", "").await.0, 501);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_a_stream_of_lines() {
    let (mut cluster, port) = one().await;
    let mut connection = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connected");
    let create = json!({"create_request": {"key": b64("w"), "range_end": b64("x")}});
    send(&mut connection, "POST /v3/watch", "", &create.to_string()).await;
    let mut lines = BufReader::new(connection).lines();
    let mut results = async || loop {
        let line = timeout(DEADLINE, lines.next_line()).await.expect("in time");
        let line = line.expect("readable").expect("it goes on");
        // Between them are the head and the sizes of chunks.
        if let Ok(Value::Object(answer)) = serde_json::from_str::<Value>(&line) {
            return answer["result"].clone();
        }
    };
    assert_eq!(results().await["created"], true);
    for value in ["1", "2"] {
        put(cluster.member(0), "w/k", value.as_bytes()).await;
        let event = results().await["events"][0].clone();
        assert_eq!(event["kv"]["key"], b64("w/k"), "{event}");
        assert_eq!(event["kv"]["value"], b64(value), "{event}");
        assert!(event.get("type").is_none(), "PUT is the default: {event}");
    }
    let delete = json!({"key": b64("w/k")});
    assert_eq!(call(port, "kv/deleterange", delete).await.0, 200);
    assert_eq!(results().await["events"][0]["type"], "DELETE");
    drop(lines);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_in_the_authorization_header() {
    let (mut cluster, port) = one().await;
    let root = json!({"name": "root", "password": "pw"});
    assert_eq!(call(port, "auth/user/add", root.clone()).await.0, 200);
    assert_eq!(
        call(port, "auth/role/add", json!({"name": "root"})).await.0,
        200
    );
    let grant = json!({"user": "root", "role": "root"});
    assert_eq!(call(port, "auth/user/grant", grant).await.0, 200);
    assert_eq!(call(port, "auth/enable", json!({})).await.0, 200);
    let key = json!({"key": b64("k")});
    let (code, answer) = call(port, "kv/put", key.clone()).await;
    assert_eq!(
        (code, &answer["message"]),
        (400, &json!("etcdserver: user name is empty"))
    );
    let (code, answer) = call_as(port, "nonsense", "kv/range", key.clone()).await;
    assert_eq!(
        (code, &answer["message"]),
        (401, &json!("etcdserver: invalid auth token"))
    );
    let answer = call(port, "auth/authenticate", root).await.1;
    let token = answer["token"].as_str().expect("a token").to_owned();
    assert_eq!(call_as(port, &token, "kv/put", key.clone()).await.0, 200);
    let status = call_as(port, &token, "auth/status", json!({})).await.1;
    assert_eq!(status["enabled"], true, "{status}");
    // Health asks nobody who it is.
    assert_eq!(plain(port, "/health").await.0, 200);
    assert_eq!(plain(port, "/readyz").await.0, 200);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_and_tls_carry_it_too() {
    let (mut cluster, port) = one().await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Full<bytes::Bytes>>();
    let uri = format!("http://127.0.0.1:{port}/health")
        .parse()
        .expect("a URL");
    let answer = client.get(uri).await.expect("answered");
    assert_eq!(answer.status(), 200);
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    assert_eq!(&body[..], br#"{"health":"true","reason":""}"#);
    cluster.stop_all().await;

    let mut cluster = Cluster::configure(1);
    let dir = cluster.root.path().to_owned();
    let authority = Authority::create("test").expect("authority");
    let issued = authority
        .issue(&CertRequest {
            common_name: "both".to_owned(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            ips: vec!["127.0.0.1".parse().expect("an address")],
            usage: Usage::Both,
            valid_for: Duration::from_secs(3600),
        })
        .expect("issued");
    std::fs::write(dir.join("ca.crt"), authority.cert_pem()).expect("write");
    std::fs::write(dir.join("tls.crt"), issued.cert_pem).expect("write");
    std::fs::write(dir.join("tls.key"), issued.key_pem).expect("write");
    let config = &mut cluster.configs[0];
    config.listen_client_urls = vec![format!("https://127.0.0.1:{port}")];
    config.cert_file = Some(dir.join("tls.crt"));
    config.key_file = Some(dir.join("tls.key"));
    config.trusted_ca_file = Some(dir.join("ca.crt"));
    cluster.start(0).await;
    cluster.leader().await;
    let files = TlsFiles {
        ca: dir.join("ca.crt"),
        cert: dir.join("tls.crt"),
        key: dir.join("tls.key"),
    };
    let mut tls = client_config(&files).expect("usable").as_ref().clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connect = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let tcp = wait_for("the port", async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("an address");
    let connection = connect.connect(name, tcp).await.expect("a handshake");
    let body = json!({"key": b64("k"), "value": b64("v")}).to_string();
    let (code, answer) = over(connection, "POST /v3/kv/put", "", &body).await;
    assert_eq!(code, 200, "{answer}");
    cluster.stop_all().await;
}
