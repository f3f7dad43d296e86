//! The socket: TLS with and without a client certificate, HTTP/1.1 and HTTP/2, and the end of it all.

use std::net::Ipv4Addr;
use std::path::Path;

use corten_base::pki::{Authority, CertRequest, Usage};
use corten_base::tls::{ClientAuth, TlsFiles, client_config, server_config};
use http::header::CONTENT_TYPE;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::*;
use crate::authz::live::Live;
use crate::chain::{Handler, fixture, respond};
use crate::request::{Caller, empty};

fn whoami() -> Handler {
    Arc::new(|request: Request<Body>| {
        Box::pin(async move {
            let caller = request
                .extensions()
                .get::<Caller>()
                .expect("set by the chain");
            respond::json(
                &serde_json::json!({"user": caller.user.name, "groups": caller.user.groups}),
            )
        })
    })
}

fn edge() -> Arc<Edge> {
    Edge::new(fixture::parts(Live::new(), whoami()))
}

fn pki(dir: &Path) -> (TlsFiles, TlsFiles) {
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
    let server = CertRequest {
        common_name: "apiserver".into(),
        dns_names: vec!["kubernetes".into()],
        usage: Usage::Server,
        ..CertRequest::default()
    };
    let admin = CertRequest {
        common_name: "kubernetes-admin".into(),
        organizations: vec!["system:masters".into()],
        ..CertRequest::default()
    };
    (issue("apiserver", server), issue("admin", admin))
}

#[tokio::test]
async fn certificates_name_users_over_both_protocols_and_shutdown_ends_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server_files, admin_files) = pki(dir.path());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bound");
    let address = listener.local_addr().expect("an address");
    let shutdown = Shutdown::new();
    let tls = server_config(&server_files, ClientAuth::Optional).expect("server TLS");
    let served = spawn(
        "test-server",
        TaskKind::Background,
        serve(edge(), listener, tls, shutdown.clone()),
    );

    let config = client_config(&admin_files).expect("client TLS");
    let h1 = ask(address, &config, false).await;
    assert_eq!(h1["user"], "kubernetes-admin");
    assert_eq!(
        h1["groups"],
        serde_json::json!(["system:masters", "system:authenticated"])
    );
    let h2 = ask(address, &config, true).await;
    assert_eq!(h2["user"], "kubernetes-admin");

    shutdown.trigger();
    let ended = tokio::time::timeout(DRAIN * 2, served)
        .await
        .expect("in time")
        .expect("no panic");
    ended.expect("a clean end");
}

async fn ask(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    h2: bool,
) -> serde_json::Value {
    let mut config = (**config).clone();
    config.alpn_protocols = vec![if h2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    let stream = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from("kubernetes").expect("a name");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("a handshake");
    let stream = TokioIo::new(stream);
    let request = Request::get("https://kubernetes/api/v1/pods")
        .body(empty())
        .expect("a request");
    let response = if h2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .expect("h2");
        spawn("test-client", TaskKind::Connection, connection);
        sender.send_request(request).await.expect("an answer")
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .expect("h1");
        spawn("test-client", TaskKind::Connection, connection);
        sender.send_request(request).await.expect("an answer")
    };
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}
