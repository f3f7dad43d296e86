//! From etcd itself to a cluster of ours: its snapshot is restored with history, leases and revisions.
//!
//! Invariant: an etcd that is missing fails the test; `xtask/setup/etcd.sh` provides it.

use std::path::Path;
use std::process::Stdio;

use corten_proto::etcd::etcdserverpb as etcd;
use corten_proto::etcd::mvccpb::Event;
use corten_store::{Refounding, restore};
use etcd::kv_client::KvClient;
use etcd::lease_client::LeaseClient;
use etcd::watch_client::WatchClient;
use etcd::watch_request::RequestUnion;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::harness::{Cluster, DEADLINE, free_port, wait_for};
use super::restore::{restore_all, save_from};

/// A lease of the old cluster, long enough for the test.
const LEASE: i64 = 77;
const TTL: i64 = 4_000;

struct Etcd {
    channel: Channel,
    /// Ends with the test.
    _process: tokio::process::Child,
}

async fn start(dir: &Path) -> Etcd {
    let (client, peer) = (free_port(), free_port());
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let process = tokio::process::Command::new("etcd-3.6")
        .arg(format!("--data-dir={}", dir.display()))
        .arg(format!("--listen-client-urls={}", url(client)))
        .arg(format!("--advertise-client-urls={}", url(client)))
        .arg(format!("--listen-peer-urls={}", url(peer)))
        .arg(format!("--initial-advertise-peer-urls={}", url(peer)))
        .arg(format!("--initial-cluster=default={}", url(peer)))
        .args(["--unsafe-no-fsync", "--logger=zap", "--log-level=error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("etcd-3.6 runs: see xtask/setup/etcd.sh");
    let endpoint = Endpoint::from_shared(url(client)).expect("a URL");
    let channel = endpoint.connect_lazy();
    wait_for("etcd to answer", async || {
        let call = range(&channel, "ready", 0);
        timeout(std::time::Duration::from_secs(1), call)
            .await
            .ok()?
            .ok()
    })
    .await;
    Etcd {
        channel,
        _process: process,
    }
}

async fn put(channel: &Channel, key: &str, value: &str, lease: i64) -> i64 {
    let request = etcd::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    };
    let answer = KvClient::new(channel.clone()).put(request).await;
    answer
        .expect("put")
        .into_inner()
        .header
        .expect("a header")
        .revision
}

async fn delete(channel: &Channel, key: &str) {
    let request = etcd::DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    let answer = KvClient::new(channel.clone()).delete_range(request).await;
    assert_eq!(answer.expect("deleted").into_inner().deleted, 1);
}

/// Two keys at one revision.
async fn put_both(channel: &Channel, keys: [&str; 2]) {
    let op = |key: &str| etcd::RequestOp {
        request: Some(etcd::request_op::Request::RequestPut(etcd::PutRequest {
            key: key.to_owned().into(),
            value: "both".into(),
            ..Default::default()
        })),
    };
    let request = etcd::TxnRequest {
        success: keys.iter().map(|key| op(key)).collect(),
        ..Default::default()
    };
    let answer = KvClient::new(channel.clone()).txn(request).await;
    assert!(answer.expect("both").into_inner().succeeded);
}

/// Everything below a prefix at a revision.
async fn range(
    channel: &Channel,
    prefix: &str,
    revision: i64,
) -> Result<etcd::RangeResponse, tonic::Status> {
    let request = etcd::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: format!("{prefix}\u{7f}").into(),
        revision,
        ..Default::default()
    };
    let answer = KvClient::new(channel.clone()).range(request).await;
    answer.map(tonic::Response::into_inner)
}

/// So many events of all keys from a revision on.
async fn events(channel: &Channel, from: i64, count: usize) -> Vec<Event> {
    let create = etcd::WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        start_revision: from,
        ..Default::default()
    };
    let request = etcd::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests =
        futures::StreamExt::chain(futures::stream::iter([request]), futures::stream::pending());
    let mut stream = WatchClient::new(channel.clone())
        .watch(requests)
        .await
        .expect("watched")
        .into_inner();
    let mut events = Vec::new();
    while events.len() < count {
        let next = timeout(DEADLINE, stream.message()).await.expect("in time");
        let message = next.expect("a message").expect("more");
        assert!(!message.canceled, "{}", message.cancel_reason);
        events.extend(message.events);
    }
    events
}

/// A history with everything in it that a snapshot may have; gives the last revision and the compacted one.
async fn make_history(channel: &Channel) -> (i64, i64) {
    let grant = etcd::LeaseGrantRequest {
        ttl: TTL,
        id: LEASE,
    };
    let granted = LeaseClient::new(channel.clone()).lease_grant(grant).await;
    granted.expect("granted");
    let large = "x".repeat(900_000);
    for i in 0..200 {
        put(channel, &format!("k/{i:03}"), "first", 0).await;
    }
    put(channel, "k/large", &large, 0).await;
    delete(channel, "k/005").await;
    put(channel, "k/leased", "hangs", LEASE).await;
    put(channel, "k/freed", "hung", LEASE).await;
    let compacted = put(channel, "k/007", "second", 0).await;
    put(channel, "k/freed", "free", 0).await;
    delete(channel, "k/006").await;
    put_both(channel, ["k/both/1", "k/both/2"]).await;
    let last = put(channel, "k/006", "again", 0).await;
    let request = etcd::CompactionRequest {
        revision: compacted,
        physical: true,
    };
    let answer = KvClient::new(channel.clone()).compact(request).await;
    answer.expect("compacted");
    (last, compacted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_etcd_becomes_a_cluster_of_three() {
    let mut cluster = Cluster::configure(3);
    let old = start(&cluster.root.path().join("etcd")).await;
    let (last, compacted) = make_history(&old.channel).await;
    let file = cluster.root.path().join("snapshot.db");
    save_from(old.channel.clone(), &file).await;
    let mut expected = Vec::new();
    for revision in compacted..=last {
        expected.push(
            range(&old.channel, "k", revision)
                .await
                .expect("etcd has it")
                .kvs,
        );
    }
    // Of the five changes one has two keys.
    let changes = usize::try_from(last - compacted).expect("few") + 1;
    let expected_events = events(&old.channel, compacted + 1, changes).await;
    drop(old);

    let restored = restore_all(&cluster, &file, Refounding::default());
    assert!(
        restored
            .iter()
            .all(|one| one.revision == last && one.hash == restored[0].hash),
        "{restored:?}"
    );
    cluster.start_all().await;
    cluster.leader().await;
    for i in 0..3 {
        let channel = cluster.member(i).channel.clone();
        for (revision, expected) in (compacted..=last).zip(&expected) {
            let found = range(&channel, "k", revision).await.expect("restored").kvs;
            assert_eq!(&found, expected, "at {revision}");
        }
        let early = range(&channel, "k", compacted - 1)
            .await
            .expect_err("compacted");
        assert!(early.message().contains("compacted"), "{early}");
        assert_eq!(
            events(&channel, compacted + 1, changes).await,
            expected_events
        );
    }
    // The lease has its time and holds what hung on it, and nothing else.
    let channel = cluster.member(0).channel.clone();
    let mut leases = LeaseClient::new(channel.clone());
    let ask = etcd::LeaseTimeToLiveRequest {
        id: LEASE,
        keys: true,
    };
    let lease = leases
        .lease_time_to_live(ask)
        .await
        .expect("there")
        .into_inner();
    assert!(lease.ttl > TTL / 2 && lease.granted_ttl == TTL, "{lease:?}");
    assert_eq!(lease.keys, ["k/leased".as_bytes()]);
    let revoke = etcd::LeaseRevokeRequest { id: LEASE };
    leases.lease_revoke(revoke).await.expect("revoked");
    assert!(
        range(&channel, "k/leased", 0)
            .await
            .expect("read")
            .kvs
            .is_empty()
    );
    assert_eq!(
        range(&channel, "k/freed", 0).await.expect("read").kvs.len(),
        1
    );
    let next = put(&channel, "k/new", "v", 0).await;
    assert_eq!(next, last + 2, "revisions go on where etcd's ended");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_snapshot_of_etcd_leaves_nothing_behind() {
    let cluster = Cluster::configure(1);
    let old = start(&cluster.root.path().join("etcd")).await;
    put(&old.channel, "k", "v", 0).await;
    let file = cluster.root.path().join("snapshot.db");
    save_from(old.channel.clone(), &file).await;
    let whole = std::fs::read(&file).expect("read");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (bytes, why) in [
        (&changed[..], "changed or cut short"),
        (&whole[..whole.len() - 32], "does not end with a hash"),
        (&whole[..whole.len() - 512], "changed or cut short"),
    ] {
        std::fs::write(&file, bytes).expect("written");
        let secret = corten_store::archive::Secret::None;
        let refused = restore(&cluster.configs[0], &file, &secret, Refounding::default());
        let refused = refused.expect_err("refused");
        let cause = std::error::Error::source(&refused)
            .expect("a cause")
            .to_string();
        assert!(cause.contains(why), "{cause}");
        assert!(!cluster.data_dir(0).exists());
    }
}
