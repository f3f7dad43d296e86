//! A store that is full: refuses what makes it grow, and takes it again once there is space.

use corten_proto::etcd::etcdserverpb as etcd;

use super::harness::{Cluster, Running, alarms, get, put, try_put, wait_for};

const QUOTA: u64 = 24 << 20;
const VALUE_BYTES: usize = 400 << 10;

/// Bytes that no compression makes smaller.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(byte).take(VALUE_BYTES).collect()
}

async fn fill(member: &Running) -> Vec<String> {
    let mut keys = Vec::new();
    loop {
        let key = format!("fill/{:04}", keys.len());
        match try_put(member.kv(), &key, &noise(keys.len() as u64)).await {
            Ok(_) => keys.push(key),
            Err(status) => {
                let text = "etcdserver: mvcc: database space exceeded";
                assert_eq!(
                    (status.code(), status.message()),
                    (tonic::Code::ResourceExhausted, text)
                );
                return keys;
            }
        }
        let written = keys.len() * VALUE_BYTES;
        assert!(
            written as u64 <= QUOTA,
            "{written} bytes got past the quota"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_refuses_puts_until_there_is_space() {
    let mut cluster = Cluster::configure(1);
    cluster.configs[0].quota_backend_bytes = QUOTA;
    cluster.configs[0].memtable_bytes = 8 << 20;
    cluster.start(0).await;
    cluster.leader().await;
    let revision = put(cluster.member(0), "small", b"v").await;
    let member = cluster.member(0);
    let keys = fill(member).await;
    assert!(keys.len() > 5, "only {} values fit", keys.len());
    let raised = alarms(member).await;
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(raised[0].alarm(), etcd::AlarmType::Nospace);

    // What does not make it grow goes on; what does is refused, however small.
    assert!(try_put(member.kv(), "small", b"w").await.is_err());
    let grant = etcd::LeaseGrantRequest { ttl: 60, id: 0 };
    let lease = etcd::lease_client::LeaseClient::new(member.channel.clone())
        .lease_grant(grant)
        .await;
    assert_eq!(
        lease.expect_err("full").code(),
        tonic::Code::ResourceExhausted
    );
    assert_eq!(get(member, "small").await, Some((b"v".to_vec(), revision)));
    let delete = etcd::DeleteRangeRequest {
        key: "fill/".into(),
        range_end: "fill0".into(),
        ..Default::default()
    };
    let deleted = member.kv().delete_range(delete).await.expect("deleted");
    let revision = deleted.into_inner().header.expect("header").revision;
    let compaction = etcd::CompactionRequest {
        revision,
        physical: true,
    };
    member.kv().compact(compaction).await.expect("compacted");
    wait_for("the alarm to go by itself", async || {
        alarms(member).await.is_empty().then_some(())
    })
    .await;
    put(member, "small", b"w").await;
    cluster.stop_all().await;
}

async fn all_else_goes_on(member: &Running, value: &[u8]) {
    // Everything else goes on: other keys, the same key as large, deletes, compaction, transactions elsewhere.
    put(member, "/registry/pods/a", &[b'v'; 2000]).await;
    try_put(member.kv(), "/registry/events/000", value)
        .await
        .expect("no larger");
    let op = |key: &str| etcd::RequestOp {
        request: Some(etcd::request_op::Request::RequestPut(etcd::PutRequest {
            key: key.to_owned().into(),
            value: vec![b'w'; 1200].into(),
            ..Default::default()
        })),
    };
    let txn = |key: &str| etcd::TxnRequest {
        success: vec![op(key)],
        ..Default::default()
    };
    member
        .kv()
        .txn(txn("/registry/pods/b"))
        .await
        .expect("elsewhere");
    let status = member.kv().txn(txn("/registry/events/new")).await;
    assert_eq!(
        status.expect_err("full").code(),
        tonic::Code::ResourceExhausted
    );
    let delete = etcd::DeleteRangeRequest {
        key: "/registry/events/000".into(),
        range_end: "/registry/events/010".into(),
        ..Default::default()
    };
    let deleted = member.kv().delete_range(delete).await.expect("deleted");
    let revision = deleted.into_inner().header.expect("header").revision;
    let compaction = etcd::CompactionRequest {
        revision,
        physical: true,
    };
    member.kv().compact(compaction).await.expect("compacted");
    try_put(member.kv(), "/registry/events/new", value)
        .await
        .expect("there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_prefix_leaves_all_others_alone() {
    let mut cluster = Cluster::configure(3);
    for config in &mut cluster.configs {
        config.prefix_quota = vec!["/registry/events/=64KiB".to_owned()];
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    // The quota holds at whichever member the request comes in.
    let member = cluster.member((leader + 1) % 3);
    let value = vec![b'v'; 1000];
    let mut last = 0;
    let refused = loop {
        match try_put(member.kv(), &format!("/registry/events/{last:03}"), &value).await {
            Ok(_) => last += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let text = refused.message();
    assert!(
        text.contains("/registry/events/") && text.contains("65536"),
        "{text}"
    );
    assert_eq!(
        last, 64,
        "1,000 bytes and a key of 20 fit 64 times into 64 KiB"
    );
    let used = "corten_store_prefix_used_bytes{prefix=\"/registry/events/\"}";
    assert_eq!(member.metric(used).await, Some(64 * 1020));
    assert!(alarms(member).await.is_empty(), "the store is not full");

    all_else_goes_on(member, &value).await;
    // Counted anew after a restart.
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.leader().await;
    let member = cluster.member(0);
    let used_bytes = wait_for("the count", async || {
        member
            .metric(used)
            .await
            .filter(|bytes| *bytes == 55 * 1020)
    })
    .await;
    assert_eq!(used_bytes, 55 * 1020);
    cluster.stop_all().await;
}
