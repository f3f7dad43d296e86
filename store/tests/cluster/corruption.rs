//! A member whose files were changed behind its back is found and shown to nobody.

use corten_proto::etcd::etcdserverpb as etcd;

use super::harness::{Cluster, alarms, get, put, try_put, wait_for};

/// Changes one byte of a value in the state of a member that is down.
pub(crate) fn damage(state: &std::path::Path) {
    let number = std::fs::read_to_string(state.join("CURRENT")).expect("CURRENT");
    let path = state.join(format!("db-{}", number.trim()));
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, &path).expect("families");
    let db = rocksdb::DB::open_cf(&options, &path, families).expect("opened");
    let keys = db.cf_handle("key").expect("the family of keys");
    let (row, value) = db
        .iterator_cf(keys, rocksdb::IteratorMode::Start)
        .map(|row| row.expect("a row"))
        .find(|(_, value)| value.windows(7).any(|part| part == b"victim!"))
        .expect("the value");
    let mut value = value.to_vec();
    *value.last_mut().expect("not empty") ^= 1;
    db.put_cf(keys, row, value).expect("put");
    db.flush_cf(keys).expect("flushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_changed_data_is_found_and_serves_no_more() {
    let mut cluster = Cluster::configure(3);
    for config in &mut cluster.configs {
        config.corruption_check_interval = 1;
        config.repair = corten_store::Repair::Off;
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "k", b"victim!").await;
    let victim = (leader + 1) % 3;
    get(cluster.member(victim), "k").await;
    cluster.stop(victim).await;
    damage(&cluster.data_dir(victim).join("state"));
    cluster.start(victim).await;
    let raised = wait_for("the alarm", async || {
        let mut all = alarms(cluster.member(leader)).await;
        assert!(all.len() <= 1, "{all:?}");
        all.pop()
    })
    .await;
    assert_eq!(raised.alarm(), etcd::AlarmType::Corrupt);
    let status = cluster.member(victim).status().await.expect("status");
    assert_eq!(raised.member_id, status.header.expect("header").member_id);

    let refused = wait_for("the refusal", async || {
        // Until it has heard of the alarm it takes what others will have as well.
        try_put(cluster.member(victim).kv(), "other", b"x")
            .await
            .err()
    })
    .await;
    assert_eq!(refused.code(), tonic::Code::DataLoss, "{refused}");
    let others = [leader, (leader + 2) % 3];
    for other in others {
        assert_eq!(
            get(cluster.member(other), "k")
                .await
                .map(|(value, _)| value),
            Some(b"victim!".to_vec())
        );
        put(cluster.member(other), "on", b"v").await;
    }
    cluster.stop_all().await;
}
