//! What an operator's dashboards ask for, under the names that they know.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::{Cluster, free_port, put, wait_for};

const NAMES: [&str; 18] = [
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_network_peer_round_trip_time_seconds_bucket",
    "etcd_server_has_leader 1",
    "etcd_server_is_leader 1",
    "etcd_server_is_learner 0",
    "etcd_server_leader_changes_seen_total 1",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_watcher_total",
];

pub(crate) async fn metrics(port: u16) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request).await.ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_names_of_etcd() {
    let mut cluster = Cluster::configure(3);
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    for (config, port) in cluster.configs.iter_mut().zip(&ports) {
        config.listen_metrics = Some(format!("127.0.0.1:{port}"));
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "k", b"v").await;
    // A heartbeat may be due only after a moment.
    let text = wait_for("round trips to both others", async || {
        let text = metrics(ports[leader]).await?;
        let peers = text
            .lines()
            .filter(|line| line.starts_with("etcd_network_peer_round_trip_time_seconds_count"))
            .filter(|line| !line.ends_with(" 0"))
            .count();
        (peers == 2).then_some(text)
    })
    .await;
    for name in NAMES {
        let found = text.lines().any(|line| line.starts_with(name));
        assert!(found, "no {name} in:\n{text}");
    }
    cluster.stop_all().await;
}
