//! A member that lags beyond the log gets a snapshot, and is a full member afterwards.

use super::harness::{Cluster, Running, get, keys, put, try_put, wait_for};

/// Purging goes in batches of 512 entries; several of them make sure that a member that is away loses its place.
async fn put_many(member: &Running, count: usize) {
    let value = vec![7_u8; 2_000];
    for first in (0..count).step_by(100) {
        let puts = (first..first + 100).map(|i| {
            let (kv, value) = (member.kv(), value.clone());
            async move { try_put(kv, &format!("k/{i:05}"), &value).await }
        });
        for put in futures::future::join_all(puts).await {
            put.expect("acknowledged");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_behind_the_purged_log_catches_up_by_snapshot() {
    let mut cluster = Cluster::configure(3);
    for config in &mut cluster.configs {
        config.snapshot_count = 200;
        config.snapshot_catchup_entries = 20;
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let late = (leader + 1) % 3;
    put(cluster.member(leader), "seen", b"1").await;
    cluster.stop(late).await;
    let committed = "etcd_server_proposals_committed_total";
    let seen = cluster
        .member(leader)
        .metric(committed)
        .await
        .expect("an index");
    let written = 2_000;
    put_many(cluster.member(leader), written).await;
    wait_for("the late member's place in the log to go", async || {
        let purged = cluster
            .member(leader)
            .metric("corten_store_raft_purged_index")
            .await?;
        (purged > seen).then_some(())
    })
    .await;
    cluster.start(late).await;
    let expected = keys(cluster.member(leader), "k/").await;
    assert_eq!(expected.len(), written);
    assert_eq!(keys(cluster.member(late), "k/").await, expected);
    assert_eq!(
        get(cluster.member(late), "seen")
            .await
            .map(|(value, _)| value),
        Some(b"1".to_vec())
    );
    // The received folder is the state now, and nothing else is left of the transfer.
    let state = cluster.data_dir(late).join("state");
    let number = std::fs::read_to_string(state.join("CURRENT")).expect("CURRENT");
    assert!(
        number.trim().parse::<u64>().expect("a number") > 1,
        "no snapshot was installed"
    );
    wait_for("old folders to go", async || {
        let folders = std::fs::read_dir(&state).expect("list").count();
        let incoming = std::fs::read_dir(cluster.data_dir(late).join("incoming"))
            .expect("list")
            .count();
        (folders == 2 && incoming == 0).then_some(())
    })
    .await;
    // It counts for the quorum: the other follower may stop.
    let other = (leader + 2) % 3;
    cluster.stop(other).await;
    put(cluster.member(late), "with-late", b"2").await;
    // And its new state survives a restart of its own.
    cluster.stop(late).await;
    cluster.start(late).await;
    assert_eq!(
        get(cluster.member(late), "with-late")
            .await
            .map(|(value, _)| value),
        Some(b"2".to_vec())
    );
    assert_eq!(keys(cluster.member(late), "k/").await, expected);
    cluster.stop_all().await;
}
