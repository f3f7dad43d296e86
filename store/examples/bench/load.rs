//! One load: so many clients over so many connections, until so many requests are done.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::kv_client::KvClient;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::report::Outcome;
use super::requests::{LIST_PREFIX, Op, Shared, client};

/// A cluster that takes no write in this time is broken.
const WARM_UP: Duration = Duration::from_secs(60);
/// Puts under way while keys are made.
const FILLERS: u64 = 64;

#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Servers; clients spread over them.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    endpoints: Vec<String>,
    #[command(flatten)]
    shape: Shape,
}

/// How much of what.
#[derive(clap::Args, Clone)]
pub(crate) struct Shape {
    /// What to do.
    #[arg(long, value_enum, default_value = "put")]
    pub(crate) op: Op,
    /// Clients, each with one request in flight.
    #[arg(long, default_value_t = 1)]
    pub(crate) clients: u64,
    /// Connections, shared by the clients.
    #[arg(long, default_value_t = 1)]
    pub(crate) conns: usize,
    /// Requests in all.
    #[arg(long, default_value_t = 1000)]
    pub(crate) total: u64,
    /// Value size in bytes.
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) key_space: u64,
}

/// One line, in which a script needs to look for nothing: rate, p50, p99.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let channels = connect(&args.endpoints, None, args.shape.conns)?;
    warm_up(&channels[0]).await?;
    let outcome = measure(&channels, &args.shape).await?;
    println!(
        "{:<40} n={:<7} {:>8.0}/s   p50 {:>8.2} ms   p99 {:>8.2} ms   max {:>8.2} ms   failed {}",
        format!(
            "{:?}, {} clients, {} B",
            args.shape.op, args.shape.clients, args.shape.val_size
        ),
        outcome.requests(),
        outcome.rate(),
        outcome.millis(500),
        outcome.millis(990),
        outcome.millis(1000),
        outcome.failures,
    );
    Ok(())
}

/// Connections that open on first use, in turn to each endpoint.
pub(crate) fn connect(
    endpoints: &[String],
    tls: Option<&ClientTlsConfig>,
    count: usize,
) -> anyhow::Result<Vec<Channel>> {
    let channel = |i: usize| {
        let mut endpoint =
            Endpoint::from_shared(endpoints[i % endpoints.len()].clone())?.tcp_nodelay(true);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls.clone())?;
        }
        Ok(endpoint.connect_lazy())
    };
    (0..count.max(1)).map(channel).collect()
}

/// Waits until the servers have a leader: what founding a cluster takes is not part of the figures.
pub(crate) async fn warm_up(channel: &Channel) -> anyhow::Result<()> {
    let mut kv = KvClient::new(channel.clone());
    let until = Instant::now() + WARM_UP;
    loop {
        let request = etcd::PutRequest {
            key: "bench".into(),
            ..Default::default()
        };
        match kv.put(request).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Runs the load over these connections.
pub(crate) async fn measure(channels: &[Channel], shape: &Shape) -> anyhow::Result<Outcome> {
    let shared = Arc::new(Shared {
        op: shape.op,
        next: AtomicU64::new(0),
        total: shape.total,
        key_space: shape.key_space.max(1),
        value: Bytes::from(vec![b'x'; shape.val_size]),
    });
    let began = Instant::now();
    let mut clients = Vec::new();
    for (number, channel) in (0..shape.clients).zip(channels.iter().cycle()) {
        let work = client(channel.clone(), Arc::clone(&shared), number);
        clients.push(spawn("client", TaskKind::Background, work));
    }
    let (mut latencies, mut failures) = (Vec::new(), 0);
    for client in clients {
        let (times, failed) = client.await??;
        latencies.extend(times);
        failures += failed;
    }
    Ok(Outcome::new(latencies, failures, began.elapsed()))
}

/// Puts `count` keys of 1 KiB below the list's prefix; with `count` zero, none.
pub(crate) async fn fill(channel: &Channel, count: u64) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut fillers = Vec::new();
    for _ in 0..FILLERS {
        let (mut kv, next) = (KvClient::new(channel.clone()), Arc::clone(&next));
        fillers.push(spawn("fill", TaskKind::Background, async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, tonic::Status>(());
                }
                let request = etcd::PutRequest {
                    key: format!("{LIST_PREFIX}{number:010}").into(),
                    value: vec![b'y'; 1024].into(),
                    ..Default::default()
                };
                kv.put(request).await?;
            }
        }));
    }
    for filler in fillers {
        filler.await??;
    }
    Ok(())
}
