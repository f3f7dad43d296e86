//! Leases over changes of leader.

use corten_proto::etcd::etcdserverpb as etcd;
use etcd::lease_client::LeaseClient;
use tonic::transport::Channel;

use super::harness::{Cluster, get, put, wait_for};

const LEASE: i64 = 9;
const TTL: i64 = 30;

fn client(cluster: &Cluster, i: usize) -> LeaseClient<Channel> {
    LeaseClient::new(cluster.member(i).channel.clone())
}

/// Seconds left, as member `i` tells.
async fn left(cluster: &Cluster, i: usize) -> i64 {
    let request = etcd::LeaseTimeToLiveRequest {
        id: LEASE,
        keys: false,
    };
    wait_for("an answer about the lease", async || {
        let answer = client(cluster, i).lease_time_to_live(request).await;
        Some(answer.ok()?.into_inner().ttl)
    })
    .await
}

async fn keep_alive(cluster: &Cluster, i: usize) -> i64 {
    wait_for("a renewal", async || {
        let requests = tokio_stream::once(etcd::LeaseKeepAliveRequest { id: LEASE });
        let answers = client(cluster, i).lease_keep_alive(requests).await.ok()?;
        let answer = answers.into_inner().message().await.ok()??;
        Some(answer.ttl)
    })
    .await
}

async fn granted(checkpoint_interval: u64) -> (Cluster, usize) {
    let mut cluster = Cluster::configure(3);
    for config in &mut cluster.configs {
        config.lease_checkpoint_interval = checkpoint_interval;
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "ready", b"v").await;
    let grant = etcd::LeaseGrantRequest {
        ttl: TTL,
        id: LEASE,
    };
    client(&cluster, leader)
        .lease_grant(grant)
        .await
        .expect("granted");
    (cluster, leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_leader_does_not_give_a_lease_its_full_time_again() {
    let (mut cluster, leader) = granted(1).await;
    let put = etcd::PutRequest {
        key: "leased".into(),
        value: "v".into(),
        lease: LEASE,
        ..Default::default()
    };
    cluster.member(leader).kv().put(put).await.expect("put");
    wait_for("some of its time to pass", async || {
        (left(&cluster, leader).await <= TTL - 5).then_some(())
    })
    .await;
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    let after = left(&cluster, next).await;
    // At most a checkpoint's interval, its rounding and the grace of an election come on top.
    assert!(after <= TTL - 2, "{after} s are left again");
    assert!(get(cluster.member(next), "leased").await.is_some());

    // A renewal is not undone by a checkpoint from before it, whoever leads.
    assert_eq!(keep_alive(&cluster, next).await, TTL);
    assert!(left(&cluster, next).await >= TTL - 1);
    cluster.start(leader).await;
    cluster.leader().await;
    cluster.stop(next).await;
    let last = cluster.leader().await;
    let after = left(&cluster, last).await;
    assert!(
        after > TTL - 10,
        "only {after} s are left of a renewed lease"
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alives_of_a_checkpointed_lease_enter_the_log_once() {
    let (mut cluster, leader) = granted(1).await;
    wait_for("a checkpoint", async || {
        (left(&cluster, leader).await <= TTL - 2).then_some(())
    })
    .await;
    assert_eq!(keep_alive(&cluster, leader).await, TTL);
    let index = async || {
        let status = cluster.member(leader).status().await.expect("status");
        status.raft_index
    };
    let before = index().await;
    let other = (leader + 1) % 3;
    for _ in 0..100 {
        assert_eq!(keep_alive(&cluster, other).await, TTL);
    }
    // The next checkpoint may have come in between, with the entry that takes it back; but not one entry per renewal.
    let entries = index().await - before;
    assert!(entries < 50, "{entries} entries for 100 renewals");
    cluster.stop_all().await;
}
