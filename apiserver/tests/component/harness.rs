//! A running server with certificates for a few users, and small clients for it.
//!
//! `admin` is in system:masters, `jane` may do everything by a role, `node` is a node, `dev` and `nobody` may do nothing
//! unless a test allows it. Invariant: the server and all that it
//! started end with the harness.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_apiserver::authn::User;
use corten_apiserver::request::{Body, empty, full};
use corten_apiserver::{Config, Server};
use corten_base::admin::AdminServer;
use corten_base::pki::{self, Authority, CertRequest, Usage};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::tls::{TlsFiles, client_config};
use corten_proto::corten::api::v1 as pb;
use corten_proto::corten::api::v1::resources_client::ResourcesClient;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;

/// Longer than anything here takes on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Names of the certificate files, of the users, and of their groups.
const USERS: [(&str, &str, &[&str]); 5] = [
    ("admin", "kubernetes-admin", &["system:masters"]),
    ("jane", "jane", &[]),
    ("dev", "dev", &["developers"]),
    ("node", "system:node:n1", &["system:nodes"]),
    ("nobody", "nobody", &[]),
];

pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) admin: AdminServer,
    channels: HashMap<&'static str, Channel>,
    dir: tempfile::TempDir,
    shutdown: Shutdown,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Api {
    /// A server on a store of its own in this process.
    pub(crate) async fn start(settings: impl FnOnce(&mut Config)) -> Self {
        let store = corten_store::memory::channel();
        let api = Self::build(settings, Some(store)).await;
        api.ready().await;
        api
    }

    /// A server on the store that the settings name, not necessarily ready.
    pub(crate) async fn build(settings: impl FnOnce(&mut Config), store: Option<Channel>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = write_pki(dir.path());
        settings(&mut config);
        let server = match store {
            Some(store) => Server::build_on(&config, store).await,
            None => Server::build(&config).await,
        };
        let server = server.expect("a server");
        let channels = USERS.map(|(file, name, groups)| {
            let user = User::authenticated(name, groups.iter().copied());
            (file, server.channel(user))
        });
        let (address, admin) = (server.address().expect("bound"), server.admin().clone());
        let shutdown = Shutdown::new();
        spawn("server", TaskKind::Background, server.run(shutdown.clone()));
        Self {
            address,
            admin,
            channels: channels.into(),
            dir,
            shutdown,
        }
    }

    /// Waits for readiness, and for jane's role to arrive.
    pub(crate) async fn ready(&self) {
        until("the server is ready", async || {
            let answer = self.admin.handle("/readyz", None)?;
            (answer.status() == 200).then_some(())
        })
        .await;
        let binding = json!({"metadata": {"name": "jane"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        let made = self.rest("admin", "POST", path, Some(&binding)).await;
        assert_eq!(made.code, 201, "{:?}", made.json());
        until("jane's role has arrived", async || {
            let answer = self.rest("jane", "GET", "/api/v1/nodes", None).await;
            (answer.code == 200).then_some(())
        })
        .await;
    }

    /// Where the certificates are: `ca.crt`, and `<file>.crt` and `.key` of each user.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The gRPC service, as this user.
    pub(crate) fn grpc(&self, user: &str) -> ResourcesClient<Channel> {
        ResourcesClient::new(self.channels[user].clone()).max_decoding_message_size(64 << 20)
    }

    /// A TLS connection that has said nothing yet.
    pub(crate) async fn tls(&self, user: &str, h2: bool) -> TlsStream<TcpStream> {
        let path =
            |name: &str, end: &str| -> PathBuf { self.dir.path().join(format!("{name}.{end}")) };
        let files = TlsFiles {
            ca: path("ca", "crt"),
            cert: path(user, "crt"),
            key: path(user, "key"),
        };
        let mut config = (*client_config(&files).expect("client TLS")).clone();
        let protocol: &[u8] = if h2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .expect("a handshake")
    }

    /// The same without a client certificate.
    pub(crate) async fn unproved_tls(&self) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = CertificateDer::from_pem_file(self.dir.path().join("ca.crt"));
        roots.add(pem.expect("a certificate")).expect("a root");
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .expect("a handshake")
    }

    pub(crate) async fn h1(&self, user: &str) -> http1::SendRequest<Body> {
        let stream = TokioIo::new(self.tls(user, false).await);
        let (sender, connection) = http1::handshake(stream).await.expect("h1");
        spawn("test-client", TaskKind::Connection, connection);
        sender
    }

    pub(crate) async fn h2_of(&self, stream: TlsStream<TcpStream>) -> http2::SendRequest<Body> {
        let stream = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .expect("h2");
        spawn("test-client", TaskKind::Connection, connection);
        sender
    }

    /// One request on a connection of its own.
    pub(crate) async fn rest(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let body = body.map_or_else(empty, |body| full(body.to_string()));
        self.send(user, request(method, path, "application/json", body))
            .await
    }

    /// Any request on a connection of its own.
    pub(crate) async fn send(&self, user: &str, request: Request<Body>) -> Answer {
        let mut sender = self.h1(user).await;
        let answered = async {
            let response = sender.send_request(request).await.expect("an answer");
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            Answer {
                code: head.status.as_u16(),
                headers: head.headers,
                body,
            }
        };
        tokio::time::timeout(LIMIT, answered)
            .await
            .expect("an answer in time")
    }

    /// The value of a metric, as it stands in /metrics with its labels; 0 when it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let response = self.admin.handle("/metrics", None).expect("known");
        let body = response.into_body().collect().await.expect("a body");
        let text = String::from_utf8(body.to_bytes().to_vec()).expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }
}

/// A request to this server.
pub(crate) fn request(method: &str, path: &str, media_type: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .header("content-type", media_type)
        .body(body)
        .expect("a request")
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, asked)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

/// A target of the gRPC service.
pub(crate) fn target(
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Option<pb::Target> {
    Some(pb::Target {
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    })
}

/// A ConfigMap of about so many bytes.
pub(crate) fn config_map(name: &str, bytes: usize) -> Value {
    json!({"metadata": {"name": name}, "data": {"x": "y".repeat(bytes)}})
}

fn write_pki(dir: &Path) -> Config {
    let authority = Authority::create("test-ca").expect("an authority");
    authority.write(dir, "ca").expect("written");
    let issue = |name: &str, request: CertRequest| {
        let (cert, key) = (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        );
        authority
            .issue_to_files(&request, &cert, &key)
            .expect("issued");
    };
    for (file, name, groups) in USERS {
        issue(
            file,
            CertRequest {
                common_name: name.to_owned(),
                organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
                ..CertRequest::default()
            },
        );
    }
    issue(
        "apiserver",
        CertRequest {
            common_name: "apiserver".to_owned(),
            ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            usage: Usage::Server,
            ..CertRequest::default()
        },
    );
    let (private, public) = pki::signing_key_pair().expect("a key");
    pki::write_private(&dir.join("sa.key"), &private).expect("written");
    pki::write_public(&dir.join("sa.pub"), &public).expect("written");
    Config {
        bind_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        secure_port: Some(0),
        tls_cert_file: Some(dir.join("apiserver.crt")),
        tls_private_key_file: Some(dir.join("apiserver.key")),
        client_ca_file: Some(dir.join("ca.crt")),
        service_account_signing_key_file: Some(dir.join("sa.key")),
        service_account_key_file: vec![dir.join("sa.pub")],
        audit_log_path: Some(dir.join("audit.log")),
        ..Config::default()
    }
}
