//! Three members: agreement, forwarding, reads, a leader that stops, a member that lags.

use super::harness::{Cluster, get, get_with, keys, put, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_any_member_is_read_through_every_member() {
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    cluster.leader().await;
    for (writer, key) in [(0, "a"), (1, "b"), (2, "c")] {
        let revision = put(cluster.member(writer), key, key.as_bytes()).await;
        // The member that acknowledged has applied it: even a read without agreement sees it there.
        let local = get_with(cluster.member(writer), key, true).await;
        assert_eq!(local, Some((key.as_bytes().to_vec(), revision)));
        for reader in 0..3 {
            let read = get(cluster.member(reader), key).await;
            assert_eq!(
                read,
                Some((key.as_bytes().to_vec(), revision)),
                "{key} through m{reader}"
            );
        }
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_get_distinct_revisions() {
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    cluster.leader().await;
    put(cluster.member(0), "ready", b"").await;
    let writers = (0..60).map(|i| {
        let kv = cluster.member(i % 3).kv();
        async move {
            super::harness::try_put(kv, &format!("w/{i:03}"), b"v")
                .await
                .expect("acknowledged")
        }
    });
    let mut revisions = futures::future::join_all(writers).await;
    revisions.sort_unstable();
    let count = revisions.len();
    revisions.dedup();
    assert_eq!(revisions.len(), count, "a revision was handed out twice");
    let stored = keys(cluster.member(1), "w/").await;
    assert_eq!(stored.len(), count);
    let mut stored: Vec<i64> = stored.into_values().collect();
    stored.sort_unstable();
    assert_eq!(stored, revisions);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_is_replaced_and_catches_up_by_log() {
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "before", b"1").await;
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    for i in 0..50 {
        put(cluster.member(next), &format!("while/{i}"), b"2").await;
    }
    cluster.start(leader).await;
    cluster.leader().await;
    assert_eq!(
        get(cluster.member(leader), "before")
            .await
            .map(|(value, _)| value),
        Some(b"1".to_vec())
    );
    assert_eq!(keys(cluster.member(leader), "while/").await.len(), 50);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_acknowledged() {
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "before", b"1").await;
    let others: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    for other in &others {
        cluster.stop(*other).await;
    }
    let error = super::harness::try_put(cluster.member(leader).kv(), "lost", b"?")
        .await
        .expect_err("no quorum");
    assert!(
        matches!(
            error.code(),
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded
        ),
        "an answer that clients understand: {error}"
    );
    cluster.start(others[0]).await;
    put(cluster.member(leader), "after", b"2").await;
    assert_eq!(
        get(cluster.member(others[0]), "before")
            .await
            .map(|(value, _)| value),
        Some(b"1".to_vec())
    );
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_is_handed_over_on_request() {
    use corten_proto::etcd::etcdserverpb::{
        MoveLeaderRequest, maintenance_client::MaintenanceClient,
    };
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "before", b"1").await;
    let target = (leader + 1) % 3;
    let status = cluster.member(target).status().await.expect("status");
    let target_id = status.header.expect("header").member_id;
    let mut maintenance = MaintenanceClient::new(cluster.member(leader).channel.clone());
    maintenance
        .move_leader(MoveLeaderRequest { target_id })
        .await
        .expect("moved");
    wait_for("the new leader", async || {
        (cluster.leader().await == target).then_some(())
    })
    .await;
    put(cluster.member(leader), "after", b"2").await;
    cluster.stop_all().await;
}
