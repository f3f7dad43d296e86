//! A store that is full: refuses what makes it grow, and takes it again once there is space.

use corten_proto::etcd::etcdserverpb as etcd;

use super::harness::{Cluster, Running, alarms, get, put, try_put, wait_for};

const QUOTA: u64 = 24 << 20;
const VALUE_BYTES: usize = 400 << 10;

/// Bytes that no compression makes smaller.
fn noise(seed: u64) -> Vec<u8> {
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
