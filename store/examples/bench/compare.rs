//! corten-store beside etcd: the same loads, taking turns on one machine, in a table with ratios.
//!
//! Judges nothing. Invariant: while one kind is measured the other is idle, and every figure of a row is of the same turns.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use tonic::transport::Channel;

use super::load::{self, Shape};
use super::report::{Outcome, count, median};
use super::requests::Op;
use super::servers::{Cluster, Kind, Pki, Usage};
use super::watch;

/// Keys of 1 KiB that lists are made of.
const LIST_KEYS: u64 = 10_000;
/// Between two loads, so that what one leaves to be done is not the next one's.
const REST: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Path of corten-store.
    #[arg(long)]
    ours: PathBuf,
    /// Path of etcd.
    #[arg(long)]
    theirs: PathBuf,
    /// Sizes of the clusters.
    #[arg(long, value_delimiter = ',', default_value = "3,1")]
    members: Vec<usize>,
    /// Also over TLS.
    #[arg(long)]
    tls: bool,
    /// Turns of each load; the median counts.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Requests of each load, in percent of the usual number.
    #[arg(long, default_value_t = 100)]
    percent: u64,
    /// Only loads whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Last of all: start members on this many keys of 1 KiB.
    #[arg(long, default_value_t = 0)]
    keys: u64,
    /// Where the members' folders are made.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
}

/// A row of the table.
struct Scenario {
    name: String,
    work: Work,
}

enum Work {
    Load(Shape),
    /// Watchers, events, and the pause between them.
    Watch(usize, usize, Duration),
}

/// What a turn gave.
struct Turn {
    outcome: Outcome,
    cpu_micros: f64,
    written: f64,
    peak_mib: f64,
}

/// Clusters of both kinds, in the order of `Kind::BOTH`, and connections to each.
struct Pair {
    clusters: Vec<Cluster>,
    channels: Vec<Vec<Channel>>,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("corten-bench-store.")
        .tempdir_in(&args.dir)?;
    let pki = Pki::make(dir.path())?;
    for &members in &args.members {
        compare(args, dir.path(), members, None).await?;
        if args.tls {
            compare(args, dir.path(), members, Some(&pki)).await?;
        }
    }
    Ok(())
}

async fn compare(args: &Args, dir: &Path, members: usize, tls: Option<&Pki>) -> Result<()> {
    let dir = tempfile::tempdir_in(dir)?;
    let mut pair = start(args, dir.path(), members, tls).await?;
    let shape = if tls.is_some() { ", TLS" } else { "" };
    say(&format!(
        "\n### {members} member{}{shape}\n",
        if members == 1 { "" } else { "s" }
    ));
    for (kind, cluster) in Kind::BOTH.iter().zip(&pair.clusters) {
        say(&format!(
            "{}: {:.0} MiB resident when idle",
            kind.name(),
            cluster.resident_mib()?
        ));
    }
    say(
        "\n| load | store | per s | ratio | p50 ms | p99 ms | p99.9 ms | CPU µs each | written B each | peak MiB |",
    );
    say("|---|---|---|---|---|---|---|---|---|---|");
    let scenarios = scenarios(args.percent);
    let wanted = scenarios.iter().filter(|s| s.name.contains(&args.only));
    let mut filled = false;
    for scenario in wanted {
        let is_list = matches!(&scenario.work, Work::Load(shape)
            if matches!(shape.op, Op::List | Op::ListPaged));
        if is_list && !std::mem::replace(&mut filled, true) {
            for channels in &pair.channels {
                load::fill(&channels[0], LIST_KEYS).await?;
            }
        }
        row(args.turns, &pair, scenario).await?;
    }
    if args.keys > 0 {
        big_start(args.keys, &mut pair).await?;
    }
    Ok(())
}

async fn start(args: &Args, dir: &Path, members: usize, tls: Option<&Pki>) -> Result<Pair> {
    let client = tls.map(Pki::client).transpose()?;
    let mut pair = Pair {
        clusters: Vec::new(),
        channels: Vec::new(),
    };
    for kind in Kind::BOTH {
        let program = match kind {
            Kind::Ours => &args.ours,
            Kind::Theirs => &args.theirs,
        };
        let cluster = Cluster::start(kind, program, dir, members, tls, &[])?;
        // As many connections as the largest load has, a multiple of the members.
        let channels = load::connect(&cluster.endpoints, client.as_ref(), 99)?;
        load::warm_up(&channels[0]).await?;
        pair.clusters.push(cluster);
        pair.channels.push(channels);
    }
    Ok(pair)
}

/// The loads of docs/performance.md.
fn scenarios(percent: u64) -> Vec<Scenario> {
    let load = |name: &str, op, clients, total: u64, val_size| Scenario {
        name: format!(
            "{name}, {clients} client{}",
            if clients == 1 { "" } else { "s" }
        ),
        work: Work::Load(Shape {
            op,
            clients,
            conns: 0,
            total: (total * percent / 100).max(clients),
            val_size,
            key_space: 100_000,
        }),
    };
    let mut all = Vec::new();
    for (clients, total) in [(1, 1_500), (32, 12_000), (256, 30_000), (1_000, 40_000)] {
        all.push(load("put 256 B", Op::Put, clients, total, 256));
        all.push(load("put 1 KiB", Op::Put, clients, total, 1024));
    }
    all.push(load("compare and put 1 KiB", Op::CasPut, 1, 1_500, 1024));
    all.push(load("compare and put 1 KiB", Op::CasPut, 256, 30_000, 1024));
    for (name, op) in [
        ("linearizable get", Op::Get),
        ("serializable get", Op::GetSerializable),
    ] {
        all.push(load(name, op, 1, 5_000, 0));
        all.push(load(name, op, 256, 60_000, 0));
    }
    all.push(load("keep-alive", Op::KeepAlive, 1_000, 60_000, 0));
    all.push(load("list of 10,000 x 1 KiB", Op::List, 4, 60, 0));
    all.push(load("the same in pages of 500", Op::ListPaged, 4, 60, 0));
    for (watchers, events, pause) in [(100, 200, 5), (10_000, 10, 500)] {
        all.push(Scenario {
            name: format!("event to each of {watchers} watchers"),
            work: Work::Watch(watchers, events, Duration::from_millis(pause)),
        });
    }
    all
}

async fn row(turns: usize, pair: &Pair, scenario: &Scenario) -> Result<()> {
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..turns.max(1) {
        for (turns, (cluster, channels)) in measured
            .iter_mut()
            .zip(pair.clusters.iter().zip(&pair.channels))
        {
            turns.push(turn(cluster, channels, scenario).await?);
            tokio::time::sleep(REST).await;
        }
    }
    let of =
        |turns: &[Turn], figure: &dyn Fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
    let rate = |turns: &[Turn]| of(turns, &|turn| turn.outcome.rate());
    for (kind, turns) in Kind::BOTH.iter().zip(&measured) {
        let ratio = match kind {
            Kind::Ours => format!("{:.2}", rate(turns) / rate(&measured[1])),
            Kind::Theirs => String::new(),
        };
        let failures: u64 = turns.iter().map(|turn| turn.outcome.failures).sum();
        let failed = if failures == 0 {
            String::new()
        } else {
            format!(" ({failures} failed)")
        };
        say(&format!(
            "| {}{failed} | {} | {:.0} | {ratio} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} |",
            scenario.name,
            kind.name(),
            rate(turns),
            of(turns, &|turn| turn.outcome.millis(500)),
            of(turns, &|turn| turn.outcome.millis(990)),
            of(turns, &|turn| turn.outcome.millis(999)),
            of(turns, &|turn| turn.cpu_micros),
            of(turns, &|turn| turn.written),
            of(turns, &|turn| turn.peak_mib),
        ));
    }
    Ok(())
}

async fn turn(cluster: &Cluster, channels: &[Channel], scenario: &Scenario) -> Result<Turn> {
    cluster.reset_peak();
    let before = cluster.usage()?;
    let outcome = match &scenario.work {
        Work::Load(shape) => {
            let wanted = usize::try_from(shape.clients)?.min(channels.len());
            load::measure(&channels[..wanted], shape).await?
        }
        Work::Watch(watchers, events, pause) => {
            watch::fan_out(channels, *watchers, *events, *pause).await?
        }
    };
    let after = cluster.usage()?;
    let each = count(outcome.requests()).max(1.0);
    let Usage {
        cpu_seconds,
        written_bytes,
        peak_mib,
    } = after;
    Ok(Turn {
        cpu_micros: (cpu_seconds - before.cpu_seconds) * 1e6 / each,
        written: (written_bytes - before.written_bytes) / each,
        outcome,
        peak_mib,
    })
}

/// How long members take to serve again, on many keys.
async fn big_start(keys: u64, pair: &mut Pair) -> Result<()> {
    say(&format!("\nwith {keys} keys of 1 KiB:"));
    for ((kind, cluster), channels) in Kind::BOTH
        .iter()
        .zip(&mut pair.clusters)
        .zip(&pair.channels)
    {
        load::fill(&channels[0], keys).await?;
        let loaded = cluster.resident_mib()?;
        cluster.restart()?;
        let began = Instant::now();
        load::warm_up(&channels[0]).await?;
        say(&format!(
            "{}: {loaded:.0} MiB resident after loading; takes a write {:.2} s after kill -9 of all members, {:.0} MiB then",
            kind.name(),
            began.elapsed().as_secs_f64(),
            cluster.resident_mib()?
        ));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn say(line: &str) {
    println!("{line}");
}
