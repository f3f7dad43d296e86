//! Much data: how latencies hold over time while many GiB are loaded, compacted and snapshotted.
//!
//! Not a comparison of rates. Invariant: the probe's puts are due at fixed times and count from then, so that a pause
//! shows in every put that it delays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::kv_client::KvClient;
use etcd::maintenance_client::MaintenanceClient;
use parking_lot::Mutex;
use tonic::transport::Channel;

use super::load;
use super::report::{Outcome, count};
use super::servers::{Cluster, Kind};

/// A row of the table.
const WINDOW: Duration = Duration::from_secs(10);
/// Between two puts of the probe.
const PROBE: Duration = Duration::from_millis(10);
/// Compactions over the whole load.
const COMPACTIONS: u64 = 10;
/// Bytes that do not compress; values are pieces of it.
const NOISE: usize = 16 << 20;
const MIB: f64 = 1_048_576.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Path of corten-store.
    #[arg(long)]
    ours: PathBuf,
    /// Path of etcd; without it, corten-store alone.
    #[arg(long)]
    theirs: Option<PathBuf>,
    /// Members of the cluster; the disk takes the load so many times.
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// What is loaded.
    #[arg(long, default_value_t = 20)]
    gib: u64,
    /// What of it is not overwritten.
    #[arg(long, default_value_t = 4)]
    live_gib: u64,
    /// Size of values.
    #[arg(long, default_value_t = 8)]
    value_kib: u64,
    /// Clients that load.
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// Where the members' folders are made.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
}

/// What the tasks of one run share.
struct Run {
    began: Instant,
    values: u64,
    keys: u64,
    value_bytes: usize,
    noise: Bytes,
    next: AtomicU64,
    done: AtomicU64,
    failures: AtomicU64,
    /// When a put of the probe was due, and what it took.
    probes: Mutex<Vec<(Duration, Duration)>>,
    marks: Mutex<Vec<(Duration, String)>>,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    for kind in Kind::BOTH {
        let program = match kind {
            Kind::Ours => Some(&args.ours),
            Kind::Theirs => args.theirs.as_ref(),
        };
        if let Some(program) = program {
            // One after the other: two of them may not fit on the disk.
            let dir = tempfile::Builder::new()
                .prefix("corten-bench-volume.")
                .tempdir_in(&args.dir)?;
            one(args, kind, program, dir.path()).await?;
        }
    }
    Ok(())
}

async fn one(args: &Args, kind: Kind, program: &Path, dir: &Path) -> Result<()> {
    let quota = format!("--quota-backend-bytes={}", (args.gib * 4) << 30);
    let cluster = Cluster::start(kind, program, dir, args.members, None, &[quota])?;
    let channels = load::connect(&cluster.endpoints, None, 9)?;
    load::warm_up(&channels[0]).await?;
    let run = Arc::new(Run {
        began: Instant::now(),
        values: (args.gib << 30) / (args.value_kib << 10),
        keys: ((args.live_gib << 30) / (args.value_kib << 10)).max(1),
        value_bytes: usize::try_from(args.value_kib << 10)?,
        noise: noise(),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        probes: Mutex::default(),
        marks: Mutex::default(),
    });
    let title = format!(
        "\n### {}, {} member(s): {} GiB in values of {} KiB, {} GiB of them live, {} clients\n",
        kind.name(),
        args.members,
        args.gib,
        args.value_kib,
        args.live_gib,
        args.clients
    );
    say(&title);
    say(
        "| s | GiB loaded | MiB/s | p50 ms | p99 ms | longest ms | resident MiB | on disk GiB | meanwhile |",
    );
    say("|---|---|---|---|---|---|---|---|---|");
    let mut tasks = Vec::new();
    for (_, channel) in (0..args.clients).zip(channels.iter().skip(1).cycle()) {
        let work = loader(Arc::clone(&run), channel.clone());
        tasks.push(spawn("loader", TaskKind::Background, work));
    }
    let work = operator(Arc::clone(&run), channels[0].clone());
    tasks.push(spawn("operator", TaskKind::Background, work));
    let probe = probe(Arc::clone(&run), channels[0].clone());
    let probe = spawn("probe", TaskKind::Background, probe);
    let mut reported = Reported::default();
    while !tasks.iter().all(|task| task.is_finished()) {
        tokio::time::sleep(WINDOW).await;
        reported.row(&run, &cluster, dir)?;
    }
    probe.abort();
    reported.sum(&run);
    Ok(())
}

/// Bytes without a pattern (xorshift), the same in every run.
fn noise() -> Bytes {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let words = (0..NOISE / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect::<Vec<u8>>().into()
}

async fn loader(run: Arc<Run>, channel: Channel) {
    let mut kv = KvClient::new(channel);
    loop {
        let turn = run.next.fetch_add(1, Ordering::Relaxed);
        if turn >= run.values {
            return;
        }
        let pieces = (NOISE - run.value_bytes) as u64;
        let at = turn.wrapping_mul(7_919) % pieces;
        let at = usize::try_from(at).expect("below the size of a buffer");
        let key = turn.wrapping_mul(2_654_435_761) % run.keys;
        let request = etcd::PutRequest {
            key: format!("volume/{key:010}").into(),
            value: run.noise.slice(at..at + run.value_bytes),
            ..Default::default()
        };
        if kv.put(request).await.is_err() {
            run.failures.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PROBE).await;
        }
        run.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A small put every few milliseconds, whether or not the one before is answered.
async fn probe(run: Arc<Run>, channel: Channel) {
    let mut due = tokio::time::interval(PROBE);
    for number in 0_u64.. {
        let at = due.tick().await.into_std();
        let (run, mut kv) = (Arc::clone(&run), KvClient::new(channel.clone()));
        spawn("put", TaskKind::Background, async move {
            let request = etcd::PutRequest {
                key: format!("probe/{:02}", number % 100).into(),
                value: vec![7; 256].into(),
                ..Default::default()
            };
            if kv.put(request).await.is_err() {
                run.failures.fetch_add(1, Ordering::Relaxed);
            }
            let (since, took) = (at.duration_since(run.began), at.elapsed());
            run.probes.lock().push((since, took));
        });
    }
}

/// Compacts at every tenth of the load, and takes a snapshot at the half and near the end.
async fn operator(run: Arc<Run>, channel: Channel) {
    for part in 1..=COMPACTIONS {
        while run.done.load(Ordering::Relaxed) < run.values * part / COMPACTIONS {
            tokio::time::sleep(PROBE).await;
        }
        if let Err(error) = compact(&run, &channel).await {
            run.mark(format!("compaction failed: {}", error.message()));
        }
        if part == COMPACTIONS / 2 || part + 1 == COMPACTIONS {
            match snapshot(&run, &channel).await {
                Ok(()) => {}
                Err(error) => run.mark(format!("snapshot failed: {}", error.message())),
            }
        }
    }
}

async fn compact(run: &Run, channel: &Channel) -> Result<(), tonic::Status> {
    let mut kv = KvClient::new(channel.clone());
    let request = etcd::RangeRequest {
        key: "probe/00".into(),
        ..Default::default()
    };
    let answer = kv.range(request).await?.into_inner();
    let revision = answer.header.map_or(0, |header| header.revision);
    run.mark("compaction begins".to_owned());
    let request = etcd::CompactionRequest {
        revision,
        physical: true,
    };
    kv.compact(request).await?;
    run.mark("compaction done".to_owned());
    Ok(())
}

async fn snapshot(run: &Run, channel: &Channel) -> Result<(), tonic::Status> {
    run.mark("snapshot begins".to_owned());
    let mut client = MaintenanceClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut parts = client
        .snapshot(etcd::SnapshotRequest {})
        .await?
        .into_inner();
    let mut bytes = 0;
    while let Some(part) = parts.message().await? {
        bytes += part.blob.len();
    }
    run.mark(format!("snapshot done, {} MiB", bytes >> 20));
    Ok(())
}

impl Run {
    fn mark(&self, what: String) {
        self.marks.lock().push((self.began.elapsed(), what));
    }
}

/// Up to where the table goes.
#[derive(Default)]
struct Reported {
    until: Duration,
    done: u64,
    all: Vec<Duration>,
    resident_mib: f64,
}

impl Reported {
    fn row(&mut self, run: &Run, cluster: &Cluster, dir: &Path) -> Result<()> {
        let now = run.began.elapsed();
        let took = now.saturating_sub(self.until);
        let done = run.done.load(Ordering::Relaxed);
        let probes: Vec<Duration> = std::mem::take(&mut *run.probes.lock())
            .into_iter()
            .map(|(_, took)| took)
            .collect();
        self.all.extend(&probes);
        let window = Outcome::new(probes, 0, took);
        let marks: Vec<String> = std::mem::take(&mut *run.marks.lock())
            .into_iter()
            .map(|(at, what)| format!("{what} ({:.1} s)", at.as_secs_f64()))
            .collect();
        let mib = |values: u64| values as f64 * run.value_bytes as f64 / MIB;
        let resident = cluster.resident_mib()?;
        self.resident_mib = self.resident_mib.max(resident);
        say(&format!(
            "| {:.0} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {resident:.0} | {:.2} | {} |",
            now.as_secs_f64(),
            mib(done) / 1024.0,
            mib(done - self.done) / took.as_secs_f64(),
            window.millis(500),
            window.millis(990),
            window.millis(1000),
            on_disk(dir) / MIB / 1024.0,
            marks.join("; ")
        ));
        (self.until, self.done) = (now, done);
        Ok(())
    }

    fn sum(self, run: &Run) {
        let pauses = self.all.iter().filter(|took| **took > PAUSE).count();
        let all = Outcome::new(self.all, 0, self.until);
        say(&format!(
            "\nProbe: {:.0} puts, p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, longest {:.1} ms, {pauses} above {} ms; {} failures; peak {:.0} MiB.",
            count(all.requests()),
            all.millis(500),
            all.millis(990),
            all.millis(999),
            all.millis(1000),
            PAUSE.as_millis(),
            run.failures.load(Ordering::Relaxed),
            self.resident_mib,
        ));
    }
}

/// The promise is none longer.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes that a folder takes.
fn on_disk(dir: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => on_disk(&entry.path()),
        // Blocks are of 512 bytes whatever the file system.
        Ok(meta) => meta.blocks() as f64 * 512.0,
        Err(_) => 0.0,
    });
    sizes.sum()
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn say(line: &str) {
    println!("{line}");
}
