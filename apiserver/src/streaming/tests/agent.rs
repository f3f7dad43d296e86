//! A stream from a client through the chain to a node agent and back, over real TLS: the agent here answers with what it was
//! asked, or echoes bytes after an upgrade.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use corten_base::pki::{Authority, CertRequest, Usage};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{ClientAuth, TlsFiles, TlsListener, peer_identity, server_config};
use http::header::{AUTHORIZATION, CONNECTION, UPGRADE};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::authn::User;
use crate::authz::live::Live;
use crate::chain::objects::Resource;
use crate::chain::objects::fake::Fake;
use crate::chain::{Edge, Handler, Parts, fixture, respond};
use crate::request::{Body, empty};
use crate::server::Local;
use crate::streaming::{Agents, Streaming};

fn files(dir: &std::path::Path) -> (TlsFiles, TlsFiles) {
    let authority = Authority::create("ca").expect("an authority");
    authority.write(dir, "ca").expect("written");
    let issue = |name: &str, request: CertRequest| {
        let files = TlsFiles {
            ca: dir.join("ca.crt"),
            cert: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
        };
        authority
            .issue_to_files(&request, &files.cert, &files.key)
            .expect("issued");
        files
    };
    let agent = CertRequest {
        common_name: "system:node:n1".into(),
        organizations: vec!["system:nodes".into()],
        dns_names: vec!["n1".into()],
        usage: Usage::Both,
        ..CertRequest::default()
    };
    let client = CertRequest {
        common_name: "kube-apiserver-kubelet-client".into(),
        organizations: vec!["system:masters".into()],
        ..CertRequest::default()
    };
    (issue("agent", agent), issue("client", client))
}

/// Tells what it was asked, and by whom; after an upgrade it sends back what it gets.
async fn answer(
    client: String,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    assert!(
        !request.headers().contains_key(AUTHORIZATION),
        "the caller's secret stays behind"
    );
    if request.uri().query() == Some("previous=true") {
        let mut response = Response::new(Full::from("previous terminated container not found"));
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    if !request.headers().contains_key(UPGRADE) {
        return Ok(Response::new(Full::from(format!(
            "{client} asks {}",
            request.uri()
        ))));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    spawn("test-echo", TaskKind::Connection, async move {
        let (mut reader, mut writer) =
            tokio::io::split(TokioIo::new(upgraded.await.expect("upgraded")));
        drop(tokio::io::copy(&mut reader, &mut writer).await);
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(UPGRADE, request.headers()[UPGRADE].clone());
    response
        .headers_mut()
        .insert(CONNECTION, "Upgrade".parse().expect("a value"));
    Ok(response)
}

async fn start_agent(files: &TlsFiles, shutdown: &Shutdown) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let tls = server_config(files, ClientAuth::Required).expect("TLS");
    let mut connections = TlsListener::start(listener, tls, shutdown.clone()).expect("started");
    spawn("test-agent", TaskKind::Background, async move {
        while let Some((stream, _)) = connections.next().await {
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(<[_]>::first)
                .expect("required");
            let client = peer_identity(leaf).expect("an identity").common_name;
            let service = service_fn(move |request| answer(client.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            spawn("test-connection", TaskKind::Connection, connection);
        }
    });
    port
}

fn edge(agents: Agents, port: u16) -> Arc<Edge> {
    let pod = json!({
        "metadata": {"namespace": "ns", "name": "p"},
        "spec": {"nodeName": "n1", "containers": [{"name": "main"}]},
    });
    let node = json!({
        "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    });
    let waiting = json!({"metadata": {"namespace": "ns", "name": "w"}, "spec": {"containers": [{"name": "main"}]}});
    let pods = Resource::core("pods");
    let objects = Fake::with(&[
        (pods, pod),
        (pods, waiting),
        (Resource::core("nodes"), node),
    ]);
    let authorizer = Live::new();
    let unused: Handler = Arc::new(|_| Box::pin(async { respond::text(http::StatusCode::OK, "") }));
    Edge::new(Parts {
        streaming: Streaming {
            objects,
            authorizer: Arc::clone(&authorizer),
            agents: Some(agents),
        },
        ..fixture::parts(authorizer, unused)
    })
}

async fn get(sender: &mut SendRequest<Body>, request: http::request::Builder) -> (u16, String) {
    let response = sender
        .send_request(request.body(empty()).expect("a request"))
        .await
        .expect("answered");
    let code = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn logs_and_upgrades_reach_the_agent_and_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let (agent_files, client_files) = files(dir.path());
    let shutdown = Shutdown::new();
    let port = start_agent(&agent_files, &shutdown).await;
    let agents = Agents::new(&client_files).expect("agents");
    let local = Local::new(&edge(agents, port), User::apiserver(), &shutdown);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(local.connect()))
            .await
            .expect("connected");
    spawn(
        "test-client",
        TaskKind::Connection,
        connection.with_upgrades(),
    );

    let prefix = "/api/v1/namespaces/ns/pods";
    let log = Request::get(format!("{prefix}/p/log?tailLines=3")).header(AUTHORIZATION, "Bearer x");
    let (code, text) = get(&mut sender, log).await;
    let expected = "kube-apiserver-kubelet-client asks /containerLogs/ns/p/main?tailLines=3";
    assert_eq!((code, text.as_str()), (200, expected));
    let previous = Request::get(format!("{prefix}/p/log?previous=true"));
    let (code, text) = get(&mut sender, previous).await;
    let status: serde_json::Value = serde_json::from_str(&text).expect("a Status, not plain text");
    assert_eq!(
        (code, &status["reason"], &status["message"]),
        (
            400,
            &json!("BadRequest"),
            &json!("previous terminated container not found")
        )
    );
    let (code, text) = get(&mut sender, Request::get(format!("{prefix}/w/log"))).await;
    assert_eq!(
        (code, text.as_str()),
        (200, ""),
        "a pod without a node has no log yet"
    );
    assert_eq!(
        get(&mut sender, Request::get(format!("{prefix}/none/log")))
            .await
            .0,
        404
    );
    let (code, text) = get(
        &mut sender,
        Request::get(format!("{prefix}/p/exec?command=sh&stdout=1")),
    )
    .await;
    assert_eq!(code, 400);
    assert!(text.contains("Upgrade request required"), "{text}");

    let exec = Request::get(format!("{prefix}/p/exec?command=sh&stdin=1&stdout=1"));
    let exec = exec
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade");
    let mut response = sender
        .send_request(exec.body(empty()).expect("a request"))
        .await
        .expect("answered");
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()[UPGRADE], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("upgraded"));
    stream.write_all(b"hello agent").await.expect("written");
    let mut back = [0; 11];
    stream.read_exact(&mut back).await.expect("read");
    assert_eq!(&back, b"hello agent");
    shutdown.trigger();
}
