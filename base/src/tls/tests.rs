//! mTLS end to end over loopback, and the identity that a certificate carries.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::pki::{Authority, CertRequest, Usage};
use crate::shutdown::Shutdown;

fn files(dir: &std::path::Path, authority: &Authority, name: &str, orgs: &[&str]) -> TlsFiles {
    let request = CertRequest {
        common_name: name.to_owned(),
        organizations: orgs.iter().map(|o| (*o).to_owned()).collect(),
        dns_names: vec!["localhost".to_owned()],
        ips: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        usage: Usage::Both,
        ..CertRequest::default()
    };
    let (cert, key) = (
        dir.join(format!("{name}.crt")),
        dir.join(format!("{name}.key")),
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

#[tokio::test]
async fn mutual_tls_carries_the_identity() {
    let dir = tempfile::tempdir().expect("temp dir");
    let authority = Authority::create("corten-test-ca").expect("ca");
    authority.write(dir.path(), "ca").expect("write");
    let server = files(dir.path(), &authority, "server", &[]);
    let client = files(dir.path(), &authority, "system:node:n1", &["system:nodes"]);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let config = server_config(&server, ClientAuth::Required).expect("server config");
    let shutdown = Shutdown::new();
    let mut listener = TlsListener::start(listener, config, shutdown.clone()).expect("start");
    let addr = listener.local_addr();

    let connector =
        tokio_rustls::TlsConnector::from(client_config(&client).expect("client config"));
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("name");
    let dial = async {
        let tcp = tokio::net::TcpStream::connect(addr).await.expect("connect");
        let mut stream = connector.connect(name, tcp).await.expect("handshake");
        stream.write_all(b"x").await.expect("write");
        stream
    };
    let (_client, accepted) = tokio::join!(dial, listener.next());
    let (mut accepted, _) = accepted.expect("accepted");
    let mut byte = [0u8];
    accepted.read_exact(&mut byte).await.expect("read");
    let leaf = accepted
        .get_ref()
        .1
        .peer_certificates()
        .expect("client sent one")[0]
        .clone();
    let identity = peer_identity(&leaf).expect("identity");
    assert_eq!(identity.common_name, "system:node:n1");
    assert_eq!(identity.organizations, ["system:nodes"]);
    assert_eq!(identity.sans, ["localhost", "127.0.0.1"]);
    shutdown.trigger();
}
