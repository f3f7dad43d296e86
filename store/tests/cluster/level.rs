//! Members of two versions together: the newer one holds back until the older one is gone, and cannot be gone back from
//! afterwards.
//!
//! `--max-level` is what an older version's member would say of itself. Invariant: no member ever applies an entry that
//! another one could not read.

use corten_base::shutdown::Shutdown;
use corten_proto::etcd::etcdserverpb as etcd;
use corten_store::{Config, Store, StoreError};
use etcd::auth_client::AuthClient;
use etcd::maintenance_client::MaintenanceClient;
use tokio::time::timeout;

use super::harness::{Cluster, DEADLINE, Running, get, put, wait_for};

pub(crate) const LEVEL: &str = "corten_store_cluster_level";

async fn add_user(member: &Running, name: &str) -> Result<(), tonic::Status> {
    let request = etcd::AuthUserAddRequest {
        name: name.to_owned(),
        password: "pw".to_owned(),
        ..Default::default()
    };
    let mut auth = AuthClient::new(member.channel.clone());
    auth.user_add(request).await.map(drop)
}

pub(crate) async fn wait_for_level(member: &Running, level: u64) {
    wait_for("the cluster's level", async || {
        (member.metric(LEVEL).await? == level).then_some(())
    })
    .await;
}

/// Starts a member that must not come up; gives why.
async fn refused(config: Config) -> StoreError {
    let store = Store::build(config).await.expect("build");
    let ended = timeout(DEADLINE, store.run(Shutdown::new())).await;
    ended.expect("ends by itself").expect_err("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_member_holds_the_level_until_it_is_upgraded() {
    let mut cluster = Cluster::configure(3);
    cluster.configs[2].max_level = 0;
    cluster.start_all().await;
    let leader = cluster.leader().await;
    for i in 0..3 {
        // All have told what they understand once they are listed as started.
        wait_for("all members to publish themselves", async || {
            let mut client =
                etcd::cluster_client::ClusterClient::new(cluster.member(i).channel.clone());
            let list = etcd::MemberListRequest { linearizable: true };
            let members = client.member_list(list).await.ok()?.into_inner().members;
            members
                .iter()
                .all(|member| !member.name.is_empty())
                .then_some(())
        })
        .await;
    }
    // The leader looks several times a second.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for i in 0..3 {
        let refused = add_user(cluster.member(i), "root")
            .await
            .expect_err("too early");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(
            refused.message().contains("needs cluster level 1"),
            "{refused}"
        );
    }
    put(cluster.member(leader), "k", b"v").await;
    // Going back and forth is free as long as one member is old.
    let other = if leader == 2 { 0 } else { leader };
    cluster.stop(other).await;
    cluster.configs[other].max_level = 0;
    cluster.start(other).await;
    put(cluster.member(other), "back", b"v").await;
    for i in [other, 2] {
        cluster.stop(i).await;
        cluster.configs[i].max_level = 1;
        cluster.start(i).await;
    }
    for i in 0..3 {
        wait_for_level(cluster.member(i), 1).await;
    }
    add_user(cluster.member(2), "root").await.expect("added");

    // Now an old version cannot take part any more, and says so.
    cluster.stop(2).await;
    let mut old = cluster.configs[2].clone();
    old.max_level = 0;
    let error = refused(old).await.to_string();
    assert!(error.contains("agreed on level 1"), "{error}");
    assert!(error.contains("start it with a newer version"), "{error}");
    cluster.start(2).await;
    assert!(get(cluster.member(2), "k").await.is_some());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_member_cannot_join_above_its_level() {
    let mut cluster = Cluster::configure(1);
    cluster.start(0).await;
    wait_for_level(cluster.member(0), 1).await;
    let url = format!("http://127.0.0.1:{}", super::harness::free_port());
    let request = etcd::MemberAddRequest {
        peer_ur_ls: vec![url.clone()],
        is_learner: true,
    };
    let mut client = etcd::cluster_client::ClusterClient::new(cluster.member(0).channel.clone());
    client.member_add(request).await.expect("added");
    let first = cluster.configs[0].clone();
    let joining = Config {
        name: "m1".to_owned(),
        data_dir: cluster.root.path().join("m1"),
        listen_peer_urls: vec![url.clone()],
        initial_cluster: format!("{},m1={url}", first.initial_cluster),
        initial_cluster_state: serde_json::from_str("\"existing\"").expect("a state"),
        max_level: 0,
        ..first
    };
    let error = refused(joining.clone()).await.to_string();
    assert!(error.contains("agreed on level 1"), "{error}");
    cluster.configs.push(Config {
        max_level: 1,
        ..joining
    });
    cluster.start(1).await;
    wait_for_level(cluster.member(1), 1).await;
    // Levels of etcd's storage are another matter.
    let mut maintenance = MaintenanceClient::new(cluster.member(0).channel.clone());
    let refused = maintenance
        .downgrade(etcd::DowngradeRequest::default())
        .await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::Unimplemented, "{refused}");
    cluster.stop_all().await;
}
