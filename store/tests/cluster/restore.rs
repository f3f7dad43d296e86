//! From a cluster to a backup to another cluster.

use std::path::Path;

use corten_proto::etcd::etcdserverpb as etcd;
use corten_store::archive::Secret;
use corten_store::{Refounding, Restored, restore};
use etcd::maintenance_client::MaintenanceClient;
use tonic::transport::Channel;

use super::harness::{Cluster, Running, get, keys, put};

pub(crate) async fn save(member: &Running, file: &Path) {
    save_from(member.channel.clone(), file).await;
}

/// What `etcdctl snapshot save` stores.
pub(crate) async fn save_from(channel: Channel, file: &Path) {
    let mut pieces = MaintenanceClient::new(channel)
        .snapshot(etcd::SnapshotRequest {})
        .await
        .expect("begun")
        .into_inner();
    let mut copy = Vec::new();
    while let Some(piece) = pieces.message().await.expect("a piece") {
        copy.extend_from_slice(&piece.blob);
    }
    std::fs::write(file, copy).expect("written");
}

pub(crate) fn restore_all(cluster: &Cluster, file: &Path, how: Refounding) -> Vec<Restored> {
    let restored = cluster.configs.iter();
    let restored =
        restored.map(|config| restore(config, file, &Secret::None, how).expect("restored"));
    restored.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_becomes_a_cluster_of_one_and_then_of_three() {
    let mut old = Cluster::configure(3);
    old.start_all().await;
    let leader = old.leader().await;
    let mut last = 0;
    for i in 0..50 {
        last = put(old.member(leader), &format!("k/{i:02}"), b"v").await;
    }
    let expected = keys(old.member(leader), "k/").await;
    let file = old.root.path().join("backup");
    save(old.member(leader), &file).await;
    put(old.member(leader), "k/late", b"after the backup").await;
    old.stop_all().await;

    for size in [1, 3] {
        let mut new = Cluster::configure(size);
        for config in &mut new.configs {
            config.initial_cluster_token = format!("restored-{size}");
        }
        let restored = restore_all(&new, &file, Refounding::default());
        assert!(
            restored
                .iter()
                .all(|one| one.cluster_id == restored[0].cluster_id
                    && one.hash == restored[0].hash
                    && one.revision == last),
            "{restored:?}"
        );
        let again = restore(&new.configs[0], &file, &Secret::None, Refounding::default());
        let error = again.expect_err("the folder is taken").to_string();
        assert!(error.contains("not empty"), "{error}");

        new.start_all().await;
        new.leader().await;
        for (i, restored) in restored.iter().enumerate() {
            assert_eq!(keys(new.member(i), "k/").await, expected);
            let status = new.member(i).status().await.expect("status");
            assert_eq!(status.header.expect("header").member_id, restored.member_id);
        }
        let next = put(new.member(0), "k/new", b"v").await;
        assert_eq!(next, last + 1, "revisions go on where the backup ended");
        new.stop_all().await;
        // What was restored survives restarts like anything else.
        new.start_all().await;
        assert_eq!(
            get(new.member(0), "k/new").await,
            Some((b"v".to_vec(), next))
        );
        new.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_may_begin_beyond_what_clients_remember() {
    let mut old = Cluster::configure(1);
    old.start_all().await;
    old.leader().await;
    let revision = put(old.member(0), "k", b"v").await;
    let file = old.root.path().join("backup");
    save(old.member(0), &file).await;
    old.stop_all().await;

    let mut new = Cluster::configure(1);
    let how = Refounding {
        bump_revision: 1_000_000,
        mark_compacted: true,
    };
    let restored = restore_all(&new, &file, how);
    assert_eq!(restored[0].revision, revision + 1_000_000);
    new.start_all().await;
    new.leader().await;
    assert_eq!(
        get(new.member(0), "k").await,
        Some((b"v".to_vec(), revision))
    );
    let past = etcd::RangeRequest {
        key: "k".into(),
        revision,
        ..Default::default()
    };
    let error = new.member(0).kv().range(past).await.expect_err("compacted");
    assert_eq!(error.code(), tonic::Code::OutOfRange, "{error}");
    let next = put(new.member(0), "k", b"w").await;
    assert_eq!(next, revision + 1_000_001);
    new.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_leaves_nothing_behind() {
    let cluster = Cluster::configure(1);
    let file = cluster.root.path().join("backup");
    std::fs::write(&file, vec![7; 1056]).expect("written");
    let error = restore(
        &cluster.configs[0],
        &file,
        &Secret::None,
        Refounding::default(),
    );
    error.expect_err("no backup");
    assert!(!cluster.data_dir(0).exists());
}
