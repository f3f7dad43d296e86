//! Members that trust each other by certificate, and nobody else; clients likewise; and files that change.

use std::path::Path;
use std::time::Duration;

use corten_base::pki::{Authority, CertRequest, Issued, Usage};
use corten_proto::etcd::etcdserverpb::RangeRequest;
use corten_proto::etcd::etcdserverpb::kv_client::KvClient;
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::harness::{Cluster, free_port, get, put, wait_for};

/// A name that members have in their certificates, and others have not.
const MEMBER: &str = "member.test";

fn issue(authority: &Authority, name: &str) -> Issued {
    let is_member = name.starts_with("store-m");
    let request = CertRequest {
        common_name: name.to_owned(),
        organizations: Vec::new(),
        dns_names: Vec::from_iter(is_member.then(|| MEMBER.to_owned())),
        ips: vec!["127.0.0.1".parse().expect("an address")],
        usage: Usage::Both,
        valid_for: Duration::from_secs(3600),
    };
    authority.issue(&request).expect("issued")
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("written");
}

/// A read over a new connection: what the server answers, if it lets the caller in at all.
async fn asked(url: &str, trusts: &Authority, shows: Option<&Authority>) -> Option<Code> {
    asked_as("somebody", url, trusts, shows).await
}

async fn asked_as(
    name: &str,
    url: &str,
    trusts: &Authority,
    shows: Option<&Authority>,
) -> Option<Code> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusts.cert_pem()));
    if let Some(authority) = shows {
        let issued = issue(authority, name);
        tls = tls.identity(Identity::from_pem(issued.cert_pem, issued.key_pem));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
    let endpoint = endpoint.tls_config(tls).expect("TLS");
    let channel = endpoint.connect().await.ok()?;
    let request = RangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    match KvClient::new(channel).range(request).await {
        Ok(_) => Some(Code::Ok),
        Err(status) if status.code() == Code::Unimplemented => Some(Code::Unimplemented),
        // Under TLS 1.3 a client hears of its refusal only when it asks, and by a connection that ends.
        Err(_) => None,
    }
}

/// Three members over mTLS, of which each shows a certificate of the name `store-m0` to `store-m2`.
fn over_tls(authority: &Authority) -> Cluster {
    let mut cluster = Cluster::configure(3);
    let dir = cluster.root.path().to_owned();
    write(&dir, "ca.crt", authority.cert_pem());
    for (i, config) in cluster.configs.iter_mut().enumerate() {
        let issued = issue(authority, &format!("store-m{i}"));
        let (cert, key) = (format!("{i}.crt"), format!("{i}.key"));
        write(&dir, &cert, issued.cert_pem.as_ref());
        write(&dir, &key, issued.key_pem.as_ref());
        config.peer_cert_file = Some(dir.join(cert));
        config.peer_key_file = Some(dir.join(key));
        config.peer_trusted_ca_file = Some(dir.join("ca.crt"));
        config.initial_cluster = config.initial_cluster.replace("http:", "https:");
        config.listen_peer_urls = vec![config.listen_peer_urls[0].replace("http:", "https:")];
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn members_agree_over_mutual_tls() {
    let authority = Authority::create("test").expect("authority");
    let mut cluster = over_tls(&authority);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member((leader + 1) % 3), "k", b"v").await;
    assert_eq!(
        get(cluster.member((leader + 2) % 3), "k")
            .await
            .map(|(value, _)| value),
        Some(b"v".to_vec())
    );
    let peer = cluster.configs[0].listen_peer_urls[0].clone();
    let stranger = Authority::create("stranger").expect("authority");
    // Who is let in hears that clients are served elsewhere.
    let known = asked(&peer, &authority, Some(&authority)).await;
    assert_eq!(known, Some(Code::Unimplemented));
    assert_eq!(asked(&peer, &authority, None).await, None);
    assert_eq!(asked(&peer, &authority, Some(&stranger)).await, None);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_may_speak_as_members() {
    let authority = Authority::create("test").expect("authority");
    for by_name in [true, false] {
        let mut cluster = over_tls(&authority);
        for config in &mut cluster.configs {
            if by_name {
                config.peer_cert_allowed_hostname = vec![MEMBER.to_owned()];
            } else {
                config.peer_cert_allowed_cn = (0..3).map(|i| format!("store-m{i}")).collect();
            }
        }
        cluster.start_all().await;
        let leader = cluster.leader().await;
        put(cluster.member((leader + 1) % 3), "k", b"v").await;
        let peer = &cluster.configs[0].listen_peer_urls[0];
        let member = asked_as("store-m1", peer, &authority, Some(&authority)).await;
        assert_eq!(member, Some(Code::Unimplemented));
        // Of the same authority, as a client of the store is.
        assert_eq!(asked(peer, &authority, Some(&authority)).await, None);
        cluster.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_let_in_by_the_files_of_the_moment() {
    let mut cluster = Cluster::configure(1);
    let dir = cluster.root.path().to_owned();
    let old = Authority::create("old").expect("authority");
    let place = |authority: &Authority| {
        let server = issue(authority, "server");
        write(&dir, "server.crt", server.cert_pem.as_ref());
        write(&dir, "server.key", server.key_pem.as_ref());
        write(&dir, "ca.crt", authority.cert_pem());
    };
    place(&old);
    let url = format!("https://127.0.0.1:{}", free_port());
    let config = &mut cluster.configs[0];
    config.listen_client_urls = vec![url.clone()];
    config.cert_file = Some(dir.join("server.crt"));
    config.key_file = Some(dir.join("server.key"));
    config.trusted_ca_file = Some(dir.join("ca.crt"));
    cluster.start(0).await;
    cluster.leader().await;
    let new = Authority::create("new").expect("authority");
    assert_eq!(asked(&url, &old, Some(&old)).await, Some(Code::Ok));
    assert_eq!(asked(&url, &old, None).await, None);
    assert_eq!(asked(&url, &old, Some(&new)).await, None);
    // Another authority, without a restart.
    place(&new);
    wait_for("the new files to be read", async || {
        (asked(&url, &new, Some(&new)).await == Some(Code::Ok)).then_some(())
    })
    .await;
    assert_eq!(asked(&url, &old, Some(&old)).await, None);
    assert_eq!(asked(&url, &new, Some(&old)).await, None);
    cluster.stop_all().await;
}
