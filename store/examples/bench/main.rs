//! A load generator for anything that speaks etcd's API: puts, linearizable and serializable reads, keep-alives.
//!
//! Not a benchmark by itself: compare two servers on one machine in one session, by ratio. Invariant: every client has
//! one request in flight, and every latency counts.
//!
//! `cargo run --release -p corten-store --example bench -- --endpoints http://127.0.0.1:2379 --clients 256 --total 50000`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::kv_client::KvClient;
use etcd::lease_client::LeaseClient;
use tonic::transport::{Channel, Endpoint};

/// A cluster that takes no write in this time is broken.
const WARM_UP: Duration = Duration::from_secs(30);

#[derive(Parser, Clone)]
struct Args {
    /// Servers; clients spread over them.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    endpoints: Vec<String>,
    /// What to do.
    #[arg(long, value_enum, default_value = "put")]
    op: Op,
    /// Clients, each with one request in flight.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Connections, shared by the clients.
    #[arg(long, default_value_t = 1)]
    conns: usize,
    /// Requests in all.
    #[arg(long, default_value_t = 1000)]
    total: u64,
    /// Value size in bytes.
    #[arg(long, default_value_t = 256)]
    val_size: usize,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    key_space: u64,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Debug)]
enum Op {
    Put,
    /// Linearizable read of one key.
    Get,
    /// Read of one key without agreement.
    GetSerializable,
    KeepAlive,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut channels = Vec::new();
    for i in 0..args.conns.max(1) {
        let endpoint = args.endpoints[i % args.endpoints.len()].clone();
        // Lazily: a server that is just starting is waited for below.
        channels.push(
            Endpoint::from_shared(endpoint)?
                .tcp_nodelay(true)
                .connect_lazy(),
        );
    }
    warm_up(channels[0].clone()).await?;
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let clients = (0..args.clients).map(|i| {
        let (args, channel, next) = (
            args.clone(),
            channels[i % channels.len()].clone(),
            Arc::clone(&next),
        );
        spawn("client", TaskKind::Background, async move {
            client(&args, channel, &next).await
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut latencies = Vec::new();
    let mut failures = 0;
    for client in clients {
        let (times, failed) = client.await??;
        latencies.extend(times);
        failures += failed;
    }
    report(&args, began.elapsed(), latencies, failures);
    Ok(())
}

/// Waits until the servers have a leader: what founding a cluster takes is not part of the figures.
async fn warm_up(channel: Channel) -> anyhow::Result<()> {
    let mut kv = KvClient::new(channel);
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

async fn client(
    args: &Args,
    channel: Channel,
    next: &AtomicU64,
) -> anyhow::Result<(Vec<Duration>, u64)> {
    let mut kv = KvClient::new(channel.clone());
    let mut alive = if args.op == Op::KeepAlive {
        Some(KeepAlive::open(channel).await?)
    } else {
        None
    };
    let value = bytes::Bytes::from(vec![b'x'; args.val_size]);
    let (mut times, mut failed) = (Vec::new(), 0);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= args.total {
            return Ok((times, failed));
        }
        // Spread over the key space without order, the same in every run.
        let key = format!("{:08}", number.wrapping_mul(2_654_435_761) % args.key_space);
        let began = Instant::now();
        let ok = match (args.op, &mut alive) {
            (Op::KeepAlive, Some(alive)) => alive.renew().await.is_ok(),
            (Op::Put, _) => {
                let request = etcd::PutRequest {
                    key: key.into(),
                    value: value.clone(),
                    ..Default::default()
                };
                kv.put(request).await.is_ok()
            }
            (op, _) => {
                let serializable = op == Op::GetSerializable;
                kv.range(etcd::RangeRequest {
                    key: key.into(),
                    serializable,
                    ..Default::default()
                })
                .await
                .is_ok()
            }
        };
        if ok {
            times.push(began.elapsed());
        } else {
            failed += 1;
        }
    }
}

/// A lease and its stream.
struct KeepAlive {
    id: i64,
    requests: tokio::sync::mpsc::Sender<etcd::LeaseKeepAliveRequest>,
    answers: tonic::Streaming<etcd::LeaseKeepAliveResponse>,
}

impl KeepAlive {
    async fn open(channel: Channel) -> anyhow::Result<Self> {
        let mut lease = LeaseClient::new(channel);
        let id = lease
            .lease_grant(etcd::LeaseGrantRequest { ttl: 600, id: 0 })
            .await?
            .into_inner()
            .id;
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        requests.send(etcd::LeaseKeepAliveRequest { id }).await?;
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let mut answers = lease.lease_keep_alive(stream).await?.into_inner();
        answers.message().await?;
        Ok(Self {
            id,
            requests,
            answers,
        })
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        self.requests
            .send(etcd::LeaseKeepAliveRequest { id: self.id })
            .await?;
        self.answers.message().await?;
        Ok(())
    }
}

/// One line, in which a script needs to look for nothing: rate, p50, p99.
#[expect(clippy::print_stdout, reason = "the result of the command")]
fn report(args: &Args, took: Duration, mut latencies: Vec<Duration>, failures: u64) {
    latencies.sort_unstable();
    let millis = |percent: usize| {
        let place = latencies.len() * percent / 100;
        let at = latencies.get(place.min(latencies.len().saturating_sub(1)));
        at.copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    // Counts of a bench fit into 32 bits, which a float holds exactly.
    let count = f64::from(u32::try_from(latencies.len()).unwrap_or(u32::MAX));
    println!(
        "{:<40} n={:<7} {:>8.0}/s   p50 {:>8.2} ms   p99 {:>8.2} ms   max {:>8.2} ms   failed {failures}",
        format!(
            "{:?}, {} clients, {} B",
            args.op, args.clients, args.val_size
        ),
        latencies.len(),
        count / took.as_secs_f64(),
        millis(50),
        millis(99),
        millis(100),
    );
}
