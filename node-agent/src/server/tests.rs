//! The server over real TLS with a scripted pod: logs with every filter, and who is let in.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use corten_base::pki::{Authority, CertRequest, Usage};
use corten_base::tls::{ClientAuth, TlsFiles, client_config, server_config};
use http_body_util::{BodyExt, Empty};
use tokio_rustls::TlsConnector;

use super::*;
use crate::traits::{
    AccessError, ContainerStats, ContainerView, PodRef, PodView, StreamRequest, StreamSession,
};

struct OnePod(PathBuf);

#[async_trait]
impl PodAccess for OnePod {
    fn pods(&self) -> Vec<PodView> {
        self.find("d", "p").into_iter().collect()
    }

    fn find(&self, namespace: &str, name: &str) -> Option<PodView> {
        let container = ContainerView {
            name: "c".to_owned(),
            id: "id".to_owned(),
            running: false,
            tty: false,
            stdin: false,
            log_path: self.0.clone(),
            previous_log_path: None,
            restart_count: 0,
            reason: None,
        };
        (namespace == "d" && name == "p").then(|| PodView {
            pod_ref: PodRef {
                namespace: "d".into(),
                name: "p".into(),
                uid: "u".into(),
            },
            pod: Arc::default(),
            host_network: false,
            netns: None,
            pod_ips: Vec::new(),
            containers: vec![container],
        })
    }

    async fn exec(
        &self,
        _: &str,
        _: &[String],
        _: &StreamRequest,
    ) -> Result<StreamSession, AccessError> {
        Err(AccessError::Runtime("not scripted".to_owned()))
    }

    async fn attach(&self, _: &str, _: &StreamRequest) -> Result<StreamSession, AccessError> {
        Err(AccessError::Runtime("not scripted".to_owned()))
    }

    async fn stats(&self, _: &str) -> Result<ContainerStats, AccessError> {
        Err(AccessError::Runtime("not scripted".to_owned()))
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    authority: Authority,
    addr: SocketAddr,
    shutdown: Shutdown,
}

fn files(dir: &Path, authority: &Authority, user: &str, group: &str) -> TlsFiles {
    let request = CertRequest {
        common_name: user.to_owned(),
        organizations: vec![group.to_owned()],
        ips: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        usage: Usage::Both,
        ..CertRequest::default()
    };
    let (cert, key) = (
        dir.join(format!("{user}.crt")),
        dir.join(format!("{user}.key")),
    );
    authority
        .issue_to_files(&request, &cert, &key)
        .expect("issue");
    TlsFiles {
        ca: dir.join("ca.crt"),
        cert,
        key,
    }
}

async fn start(log: &str) -> Fixture {
    let dir = tempfile::tempdir().expect("temp dir");
    let authority = Authority::create("test").expect("ca");
    authority.write(dir.path(), "ca").expect("write");
    let log_path = dir.path().join("0.log");
    std::fs::write(&log_path, log).expect("log");
    let tls = server_config(
        &files(dir.path(), &authority, "node", "system:nodes"),
        ClientAuth::Optional,
    )
    .expect("tls");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let access = Arc::new(OnePod(log_path));
    let server = AgentServer::bind(any, tls, access, AdminServer::new("test"))
        .await
        .expect("bind");
    let addr = server.local_addr().expect("addr");
    let shutdown = Shutdown::new();
    spawn("server", TaskKind::Background, server.run(shutdown.clone()));
    Fixture {
        dir,
        authority,
        addr,
        shutdown,
    }
}

impl Fixture {
    async fn connect(&self, user: &str, group: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let config =
            client_config(&files(self.dir.path(), &self.authority, user, group)).expect("client");
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("name");
        let tcp = TcpStream::connect(self.addr).await.expect("connect");
        TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .expect("handshake")
    }

    async fn get(&self, user: &str, group: &str, path: &str) -> (u16, String) {
        let tls = self.connect(user, group).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .expect("http");
        spawn("client", TaskKind::Connection, async move {
            drop(connection.await)
        });
        let request = http::Request::get(path)
            .header("host", "node")
            .body(Empty::<bytes::Bytes>::new())
            .expect("request");
        let response = sender.send_request(request).await.expect("answer");
        let code = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .expect("body")
            .to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }
}

const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n\
2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";

#[tokio::test]
async fn logs_are_filtered_as_asked() {
    let fixture = start(LOG).await;
    for (query, expected) in [
        ("", "one\ntwo\nthree\n"),
        ("tailLines=1", "three\n"),
        ("tailLines=0", ""),
        ("tailLines=9", "one\ntwo\nthree\n"),
        ("limitBytes=5", "one\nt"),
        ("sinceTime=2026-01-01T00:00:03Z", "three\n"),
        ("stream=Stderr", "two\n"),
        (
            "timestamps=true&tailLines=1",
            "2026-01-01T00:00:03Z three\n",
        ),
        ("follow=true&tailLines=1", "three\n"),
    ] {
        let (code, body) = fixture
            .get(ALLOWED_USER, "x", &format!("/containerLogs/d/p/c?{query}"))
            .await;
        assert_eq!((code, body.as_str()), (200, expected), "{query}");
    }
    fixture.shutdown.trigger();
}

#[tokio::test]
async fn strangers_and_strange_paths_are_refused() {
    let fixture = start(LOG).await;
    assert_eq!(
        fixture
            .get("system:node:n2", "system:nodes", "/containerLogs/d/p/c")
            .await
            .0,
        403
    );
    assert_eq!(
        fixture
            .get("system:node:n2", "system:nodes", "/healthz")
            .await
            .0,
        200
    );
    for (path, code) in [
        ("/containerLogs/d/p/x", 404),
        ("/containerLogs/d/q/c", 404),
        ("/containerLogs/d/p/c?tailLines=-3", 400),
        ("/containerLogs/d/p/c?previous=1", 400),
        ("/exec/d/p/c?command=sh", 400),
        ("/what", 404),
    ] {
        let (seen, body) = fixture.get("admin", ALLOWED_GROUP, path).await;
        assert_eq!(seen, code, "{path}: {body}");
    }
    fixture.shutdown.trigger();
}

#[tokio::test]
async fn idle_strangers_do_not_keep_the_api_server_out() {
    use tokio::io::AsyncReadExt;
    let fixture = start(LOG).await;
    let mut idle = Vec::new();
    for _ in 0..STRANGERS {
        idle.push(fixture.connect("system:node:n2", "system:nodes").await);
    }
    let mut refused = fixture.connect("system:node:n2", "system:nodes").await;
    let mut byte = [0];
    let ended = tokio::time::timeout(HEAD_TIMEOUT, refused.read(&mut byte)).await;
    let ended = ended.expect("one too many is closed at once");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let (code, _) = fixture.get(ALLOWED_USER, "x", "/containerLogs/d/p/c").await;
    assert_eq!(code, 200);
    // Those who wait are cut in the end, and make room.
    let first = idle.first_mut().expect("some");
    let ended = tokio::time::timeout(STRANGER_LIFE * 2, first.read(&mut byte)).await;
    assert!(matches!(ended.expect("cut in time"), Ok(0) | Err(_)));
    fixture.shutdown.trigger();
}
