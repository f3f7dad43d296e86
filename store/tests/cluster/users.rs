//! Users and roles as the cluster's state: at every member, after restarts, in snapshots; tokens; certificates.
//!
//! Not the rules (core) nor what each call asks for (memory). Invariant: whoever was let in by one member is let in by all.

use std::time::Duration;

use corten_base::pki::{Authority, CertRequest, Usage};
use corten_proto::etcd::authpb::{Permission, permission::Type};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::auth_client::AuthClient;
use etcd::kv_client::KvClient;
use etcd::maintenance_client::MaintenanceClient;
use rustix::process::Signal;
use tokio::time::sleep;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use super::harness::{Cluster, DEADLINE, Running, free_port, put, wait_for};
use super::level::{LEVEL, wait_for_level};
use super::metrics::metrics;
use super::process::Processes;

/// With users (`enable_at`).
pub(super) async fn enable(member: &Running) {
    wait_for_level(member, 1).await;
    enable_at(&member.channel).await;
}

/// Root with a password, and `reader` who may read `open/`; auth is on.
async fn enable_at(channel: &Channel) {
    let mut auth = AuthClient::new(channel.clone());
    for name in ["root", "reader"] {
        let request = etcd::AuthUserAddRequest {
            name: name.to_owned(),
            password: format!("pw of {name}"),
            ..Default::default()
        };
        auth.user_add(request).await.expect("user");
        let name = name.to_owned();
        let request = etcd::AuthRoleAddRequest { name: name.clone() };
        auth.role_add(request).await.expect("role");
        let (user, role) = (name.clone(), name);
        let request = etcd::AuthUserGrantRoleRequest { user, role };
        auth.user_grant_role(request).await.expect("grant");
    }
    let perm = Permission {
        perm_type: Type::Read as i32,
        key: "open/".into(),
        range_end: "open0".into(),
    };
    let request = etcd::AuthRoleGrantPermissionRequest {
        name: "reader".to_owned(),
        perm: Some(perm),
    };
    auth.role_grant_permission(request)
        .await
        .expect("permission");
    auth.auth_enable(etcd::AuthEnableRequest {})
        .await
        .expect("enabled");
}

async fn login(member: &Running, name: &str) -> Result<String, Status> {
    login_at(&member.channel, name).await
}

async fn login_at(channel: &Channel, name: &str) -> Result<String, Status> {
    let request = etcd::AuthenticateRequest {
        name: name.to_owned(),
        password: format!("pw of {name}"),
    };
    let mut auth = AuthClient::new(channel.clone());
    Ok(auth.authenticate(request).await?.into_inner().token)
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let token = token.parse().expect("text");
        request.metadata_mut().insert("token", token);
    }
    request
}

async fn get_as(channel: &Channel, token: &str, key: &str) -> Result<usize, Status> {
    let request = etcd::RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    let mut kv = KvClient::new(channel.clone());
    Ok(kv.range(with(token, request)).await?.into_inner().kvs.len())
}

async fn put_as(channel: &Channel, token: &str, key: &str) -> Result<(), Status> {
    let request = etcd::PutRequest {
        key: key.to_owned().into(),
        value: vec![7; 2_000].into(),
        ..Default::default()
    };
    let mut kv = KvClient::new(channel.clone());
    kv.put(with(token, request)).await.map(drop)
}

/// More than a member may lag behind without a snapshot.
async fn put_many(member: &Running, root: &str) {
    for first in (0..2_000).step_by(100) {
        let channel = member.channel.clone();
        let keys: Vec<_> = (first..first + 100).map(|i| format!("k/{i}")).collect();
        let puts = keys.iter().map(|key| put_as(&channel, root, key));
        for put in futures::future::join_all(puts).await {
            put.expect("acknowledged");
        }
    }
}

/// The rights as `enable` has set them, at one member.
async fn check(member: &Running, root: &str, reader: &str) {
    let channel = &member.channel;
    assert_eq!(get_as(channel, reader, "open/k").await.expect("allowed"), 1);
    let refused = get_as(channel, reader, "secret").await.expect_err("denied");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = put_as(channel, reader, "open/k").await.expect_err("denied");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = put_as(channel, "", "open/k").await.expect_err("nobody");
    assert_eq!(refused.message(), "etcdserver: user name is empty");
    put_as(channel, root, "secret").await.expect("root may");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_at_every_member_after_restarts_and_in_snapshots() {
    let mut cluster = Cluster::configure(3);
    for config in &mut cluster.configs {
        config.snapshot_count = 200;
        config.snapshot_catchup_entries = 20;
        config.bcrypt_cost = 4;
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "open/k", b"v").await;
    let late = (leader + 1) % 3;
    wait_for_level(cluster.member(leader), 1).await;
    cluster.stop(late).await;
    enable(cluster.member(leader)).await;
    let root = login(cluster.member(leader), "root").await.expect("root");
    let reader = login(cluster.member((leader + 2) % 3), "reader")
        .await
        .expect("reader");
    let committed = "etcd_server_proposals_committed_total";
    let seen = cluster
        .member(leader)
        .metric(committed)
        .await
        .expect("an index");
    put_many(cluster.member(leader), &root).await;
    wait_for("the late member's place in the log to go", async || {
        let purged = cluster
            .member(leader)
            .metric("corten_store_raft_purged_index")
            .await?;
        (purged > seen).then_some(())
    })
    .await;
    cluster.start(late).await;
    wait_for("the late member to have a leader", async || {
        get_as(&cluster.member(late).channel, &root, "secret")
            .await
            .ok()
    })
    .await;
    for i in 0..3 {
        check(cluster.member(i), &root, &reader).await;
    }
    // All at once, and with the tokens of before.
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.leader_as(&root).await;
    for i in 0..3 {
        check(cluster.member(i), &root, &reader).await;
        let refused = login(cluster.member(i), "nobody")
            .await
            .expect_err("unknown");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        login(cluster.member(i), "reader")
            .await
            .expect("the password is kept");
    }
    let mut hashes = Vec::new();
    for i in 0..3 {
        let channel = cluster.member(i).channel.clone();
        // Everything as stored, users and roles included.
        let hash = MaintenanceClient::new(channel)
            .hash(with(&root, etcd::HashRequest {}))
            .await;
        hashes.push(hash.expect("a hash").into_inner().hash);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    cluster.stop_all().await;
}

impl Cluster {
    /// Waits until every member answers root.
    async fn leader_as(&self, root: &str) {
        for member in self.members.values() {
            wait_for("a member that answers", async || {
                get_as(&member.channel, root, "open/k").await.ok()
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_and_a_member_that_lags_knows_the_newest_user() {
    let mut cluster = Cluster::configure(3);
    for config in &mut cluster.configs {
        config.auth_token_ttl = 2;
        config.bcrypt_cost = 4;
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    enable(cluster.member(leader)).await;
    let root = login(cluster.member((leader + 1) % 3), "root")
        .await
        .expect("root");
    // At once at the third, which may not have applied it.
    put_as(&cluster.member((leader + 2) % 3).channel, &root, "k")
        .await
        .expect("known");
    let refused = wait_for("the token to end", async || {
        put_as(&cluster.member(leader).channel, &root, "k")
            .await
            .err()
    })
    .await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(refused.message(), "etcdserver: invalid auth token");
    let root = login(cluster.member(leader), "root").await.expect("again");
    put_as(&cluster.member(leader).channel, &root, "k")
        .await
        .expect("known");
    cluster.stop_all().await;
}

/// A member that had not yet applied that users count took whoever came for nobody, and what nobody wants is refused when
/// it is applied.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_to_a_member_that_lags_behind_the_enabling_is_known() {
    let processes = Processes::start(3);
    let leader = processes.leader().await;
    wait_for("every member to say what it understands", async || {
        let metrics = metrics(processes.client_ports[leader]).await?;
        metrics.contains(&format!("\n{LEVEL} 1")).then_some(())
    })
    .await;
    let channel = processes.channel(leader);
    enable_at(&channel).await;
    let paused = (leader + 1) % 3;
    let late = processes.channel(paused);
    for round in 0..30 {
        let root = login_at(&channel, "root").await.expect("root");
        let disable = with(&root, etcd::AuthDisableRequest {});
        let mut auth = AuthClient::new(channel.clone());
        auth.auth_disable(disable).await.expect("disabled");
        put_as(&late, "", "k").await.expect("anybody may");
        // It learns of the enabling and of the put at once.
        processes.signal(paused, Signal::STOP);
        let enable = etcd::AuthEnableRequest {};
        auth.auth_enable(enable).await.expect("enabled");
        let root = login_at(&channel, "root").await.expect("root");
        let put = put_as(&late, &root, "k");
        let go_on = async {
            sleep(Duration::from_millis(5)).await;
            processes.signal(paused, Signal::CONT);
        };
        let (put, ()) = futures::join!(put, go_on);
        put.unwrap_or_else(|status| panic!("round {round}: {status}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificates_common_name_is_a_user() {
    let mut cluster = Cluster::configure(1);
    let dir = cluster.root.path().to_owned();
    let authority = Authority::create("test").expect("authority");
    let issue = |name: &str| {
        let request = CertRequest {
            common_name: name.to_owned(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            ips: vec!["127.0.0.1".parse().expect("an address")],
            usage: Usage::Both,
            valid_for: Duration::from_secs(3600),
        };
        authority.issue(&request).expect("issued")
    };
    let server = issue("server");
    for (name, text) in [
        ("ca.crt", authority.cert_pem()),
        ("server.crt", server.cert_pem.as_ref()),
        ("server.key", server.key_pem.as_ref()),
    ] {
        std::fs::write(dir.join(name), text).expect("write");
    }
    let port = free_port();
    let config = &mut cluster.configs[0];
    config.listen_client_urls = vec![format!("https://127.0.0.1:{port}")];
    config.cert_file = Some(dir.join("server.crt"));
    config.key_file = Some(dir.join("server.key"));
    config.trusted_ca_file = Some(dir.join("ca.crt"));
    config.bcrypt_cost = 4;
    cluster.start(0).await;
    cluster.leader().await;
    put(cluster.member(0), "open/k", b"v").await;
    enable(cluster.member(0)).await;
    let channel = |name: &str| {
        let issued = issue(name);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority.cert_pem()))
            .identity(Identity::from_pem(issued.cert_pem, issued.key_pem));
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).expect("a URL");
        let endpoint = endpoint.connect_timeout(DEADLINE).tls_config(tls);
        endpoint.expect("usable").connect_lazy()
    };
    let reader = channel("reader");
    assert_eq!(get_as(&reader, "", "open/k").await.expect("allowed"), 1);
    let refused = put_as(&reader, "", "open/k").await.expect_err("denied");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    put_as(&channel("root"), "", "secret")
        .await
        .expect("root may");
    let refused = get_as(&channel("nobody"), "", "open/k")
        .await
        .expect_err("unknown");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // A token says more than a certificate.
    let token = login(cluster.member(0), "root").await.expect("root");
    put_as(&reader, &token, "secret").await.expect("as root");
    cluster.stop_all().await;
}
