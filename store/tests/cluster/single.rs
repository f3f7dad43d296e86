//! One member: what it answers, and what a restart leaves.

use super::harness::{Cluster, get, keys, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_alone_keeps_what_it_acknowledged_over_restarts() {
    let mut cluster = Cluster::configure(1);
    let mut last = 0;
    for round in 0..3 {
        cluster.start(0).await;
        cluster.leader().await;
        for i in 0..20 {
            let revision = put(cluster.member(0), &format!("k/{round}/{i}"), b"v").await;
            assert!(revision > last, "revision {revision} after {last}");
            last = revision;
        }
        assert_eq!(keys(cluster.member(0), "k/").await.len(), 20 * (round + 1));
        cluster.stop(0).await;
    }
    cluster.start(0).await;
    assert_eq!(
        get(cluster.member(0), "k/2/19").await,
        Some((b"v".to_vec(), last))
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_takes_its_keys_along() {
    use corten_proto::etcd::etcdserverpb as etcd;
    let mut cluster = Cluster::configure(1);
    cluster.start(0).await;
    cluster.leader().await;
    put(cluster.member(0), "ready", b"v").await;
    let channel = cluster.member(0).channel.clone();
    let grant = etcd::LeaseGrantRequest { ttl: 1, id: 7 };
    etcd::lease_client::LeaseClient::new(channel)
        .lease_grant(grant)
        .await
        .expect("granted");
    let request = etcd::PutRequest {
        key: "k".into(),
        value: "v".into(),
        lease: 7,
        ..Default::default()
    };
    cluster.member(0).kv().put(request).await.expect("put");
    super::harness::wait_for("the key to go", async || {
        get(cluster.member(0), "k").await.is_none().then_some(())
    })
    .await;
    cluster.stop_all().await;
}
