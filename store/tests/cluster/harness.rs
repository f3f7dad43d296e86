//! Members in this process: starting, stopping, asking them things.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_base::telemetry;
use corten_proto::etcd::etcdserverpb as etcd;
use corten_store::{Config, Store, StoreError};
use etcd::kv_client::KvClient;
use etcd::maintenance_client::MaintenanceClient;
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

/// Far beyond what anything here takes on a busy machine; only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` finds something.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        sleep(LOOK).await;
    }
}

/// Below the ports that the kernel gives to connections: one of those may be taken by any client in this process while the
/// member that listens on it is down.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port that was free a moment ago, and that nobody else here gets. Other runs of these tests begin elsewhere.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(499);
    loop {
        let turn = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
        let port = PORTS.start + (turn % u32::from(PORTS.end - PORTS.start)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Logs of all members, when `CORTEN_LOG` asks for them.
fn logging() {
    static GUARD: OnceLock<Option<telemetry::Guard>> = OnceLock::new();
    GUARD.get_or_init(|| {
        let log_level = std::env::var("CORTEN_LOG").ok()?;
        let config = telemetry::TelemetryConfig {
            log_level: Some(log_level),
            ..Default::default()
        };
        telemetry::init(&config, "test").ok()
    });
}

pub(crate) struct Running {
    shutdown: Shutdown,
    task: JoinHandle<Result<(), StoreError>>,
    admin: AdminServer,
    pub(crate) channel: Channel,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Running {
        logging();
        let store = Store::build(config).await.expect("build");
        let (channel, admin) = (store.channel(), store.admin());
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let task = spawn("member", TaskKind::Background, async move {
            let result = store.run(stop).await;
            if let Err(error) = &result {
                // Otherwise seen only when the member is stopped, after the test has waited in vain.
                eprintln!("a member ended: {error}");
            }
            result
        });
        Running {
            shutdown,
            task,
            admin,
            channel,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        drop(self.channel);
        let ended = timeout(DEADLINE, self.task).await.expect("stops in time");
        ended.expect("no panic").expect("no failure");
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    /// What the admin port answers.
    pub(crate) async fn admin(&self, path: &str) -> Option<String> {
        let answer = self.admin.handle(path, None)?.into_body();
        let text = answer.collect().await.ok()?.to_bytes();
        String::from_utf8(text.to_vec()).ok()
    }

    /// A number that the member shows to its operators.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        let text = self.admin("/metrics").await?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.parse().ok()
    }

    pub(crate) async fn status(&self) -> Option<etcd::StatusResponse> {
        let call = MaintenanceClient::new(self.channel.clone()).status_();
        timeout(Duration::from_secs(1), call).await.ok()
    }
}

/// Spelled out here, so that tests read as what they do.
trait StatusCall {
    async fn status_(self) -> etcd::StatusResponse;
}

impl StatusCall for MaintenanceClient<Channel> {
    async fn status_(mut self) -> etcd::StatusResponse {
        loop {
            if let Ok(status) = self.status(etcd::StatusRequest {}).await {
                return status.into_inner();
            }
            sleep(LOOK).await;
        }
    }
}

/// Members `m0`, `m1`, ... over plain loopback.
pub(crate) struct Cluster {
    pub(crate) root: tempfile::TempDir,
    pub(crate) configs: Vec<Config>,
    pub(crate) members: BTreeMap<usize, Running>,
}

impl Cluster {
    pub(crate) fn configure(size: usize) -> Cluster {
        let root = tempfile::tempdir().expect("temp dir");
        let peers: Vec<String> = (0..size)
            .map(|_| format!("http://127.0.0.1:{}", free_port()))
            .collect();
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(i, url)| format!("m{i}={url}"))
            .collect();
        let config = |(i, url): (usize, &String)| Config {
            name: format!("m{i}"),
            data_dir: root.path().join(format!("m{i}")),
            listen_client_urls: Vec::new(),
            listen_peer_urls: vec![url.clone()],
            initial_cluster: cluster.join(","),
            // A loaded machine must not cause elections that a test did not.
            heartbeat_interval: 100,
            election_timeout: 1_000,
            ..Config::default()
        };
        let configs = peers.iter().enumerate().map(config).collect();
        Cluster {
            root,
            configs,
            members: BTreeMap::new(),
        }
    }

    pub(crate) async fn start_all(&mut self) {
        for i in 0..self.configs.len() {
            self.start(i).await;
        }
    }

    pub(crate) async fn start(&mut self, i: usize) {
        let running = Running::start(self.configs[i].clone()).await;
        self.members.insert(i, running);
    }

    pub(crate) async fn stop(&mut self, i: usize) {
        self.members.remove(&i).expect("running").stop().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        while let Some((_, member)) = self.members.pop_first() {
            member.stop().await;
        }
    }

    pub(crate) fn data_dir(&self, i: usize) -> PathBuf {
        self.configs[i].data_dir.clone()
    }

    /// The member that all running members take for the leader.
    pub(crate) async fn leader(&self) -> usize {
        wait_for("a leader that all agree on", async || {
            let mut leaders = BTreeMap::new();
            let mut by_id = BTreeMap::new();
            for (i, member) in &self.members {
                let status = member.status().await?;
                let id = status.header.as_ref()?.member_id;
                by_id.insert(id, *i);
                leaders.insert(status.leader, ());
            }
            let (leader, ()) = leaders.pop_first()?;
            if leaders.is_empty() {
                by_id.get(&leader).copied()
            } else {
                None
            }
        })
        .await
    }

    pub(crate) fn member(&self, i: usize) -> &Running {
        &self.members[&i]
    }
}

/// Puts until it is acknowledged; for set-up, not for checking what an acknowledgement means.
pub(crate) async fn put(member: &Running, key: &str, value: &[u8]) -> i64 {
    wait_for("an acknowledged put", async || {
        try_put(member.kv(), key, value).await.ok()
    })
    .await
}

pub(crate) async fn try_put(
    mut kv: KvClient<Channel>,
    key: &str,
    value: &[u8],
) -> Result<i64, tonic::Status> {
    let request = etcd::PutRequest {
        key: key.to_owned().into_bytes().into(),
        value: value.to_vec().into(),
        ..Default::default()
    };
    let answer = kv.put(request).await?.into_inner();
    Ok(answer.header.expect("a header").revision)
}

/// A linearizable read of one key: value and revision.
pub(crate) async fn get(member: &Running, key: &str) -> Option<(Vec<u8>, i64)> {
    get_with(member, key, false).await
}

pub(crate) async fn get_with(
    member: &Running,
    key: &str,
    serializable: bool,
) -> Option<(Vec<u8>, i64)> {
    let request = etcd::RangeRequest {
        key: key.to_owned().into_bytes().into(),
        serializable,
        ..Default::default()
    };
    let answer = wait_for("a range answer", async || {
        member.kv().range(request.clone()).await.ok()
    })
    .await;
    answer
        .into_inner()
        .kvs
        .into_iter()
        .next()
        .map(|kv| (kv.value.to_vec(), kv.mod_revision))
}

/// Every key under a prefix with its revision, linearizable.
pub(crate) async fn keys(member: &Running, prefix: &str) -> BTreeMap<String, i64> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("not empty") += 1;
    let request = etcd::RangeRequest {
        key: prefix.to_owned().into_bytes().into(),
        range_end: end.into(),
        keys_only: true,
        ..Default::default()
    };
    let answer = wait_for("a range answer", async || {
        member.kv().range(request.clone()).await.ok()
    })
    .await;
    let pair = |kv: corten_proto::etcd::mvccpb::KeyValue| {
        (
            String::from_utf8(kv.key.to_vec()).expect("our keys are text"),
            kv.mod_revision,
        )
    };
    answer.into_inner().kvs.into_iter().map(pair).collect()
}

/// The alarms that are on, as a member knows them.
pub(crate) async fn alarms(member: &Running) -> Vec<etcd::AlarmMember> {
    let request = etcd::AlarmRequest {
        action: etcd::alarm_request::AlarmAction::Get as i32,
        ..Default::default()
    };
    let answer = MaintenanceClient::new(member.channel.clone())
        .alarm(request)
        .await;
    answer.expect("alarms").into_inner().alarms
}
