//! The comparison: starts both sides, runs load after load on them in turns, prints the tables.
//!
//! Judges nothing. Invariant: while one side is measured the other is idle, and every figure of a row is of the same turns.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use super::loads::{self, BIG_BYTES, Needs, Scenario, Work};
use super::objects::{BIG, BIG_SPARE};
use super::process::cpu_seconds;
use super::report::{Outcome, say};
use super::requests::{Op, Shape, measure};
use super::servers::{CONNECTIONS, Kind, Pki, Programs, Side};
use super::storm::{self, Weather};
use super::table::{self, Turn};
use super::{answers, setup, watch};

/// Between two loads, so that what one leaves to be done is not the next one's.
const REST: Duration = Duration::from_millis(1_000);

/// corten-apiserver on corten-store beside upstream's kube-apiserver on etcd.
#[derive(clap::Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// Turns of each load; the median counts.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Requests of each load, in percent of the usual number.
    #[arg(long, default_value_t = 100)]
    percent: usize,
    /// Only loads whose name has one of these in it, separated by semicolons.
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// Which sides; one alone is for profiling.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Ours, Kind::Theirs])]
    sides: Vec<Kind>,
    /// Compares what both answer to many kinds of objects, good and bad, instead of how fast; fails when they differ in
    /// more than is known.
    #[arg(long)]
    answers: bool,
    /// Where the stores' folders are made.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
}

/// The turns of each side.
type Turns = Vec<(Kind, Vec<Turn>)>;
/// Memory of each side over a storm, in MiB, sampled.
type Memory = Vec<(Kind, Vec<f64>)>;

/// What is told after the table.
#[derive(Default)]
struct Remarks {
    lines: Vec<String>,
    /// Of each storm: its name and the memory of the sides in its last turn.
    storms: Vec<(String, Memory)>,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("corten-bench-api.")
        .tempdir_in(&args.dir)?;
    let pki = Pki::make(dir.path())?;
    let mut sides = Vec::new();
    for kind in &args.sides {
        let side = Side::start(*kind, &args.programs, &pki, dir.path()).await?;
        let prepared = setup::prepare(&side).await;
        prepared.with_context(|| format!("{}: {}", kind.name(), side.api.last_lines()))?;
        sides.push(side);
    }
    if args.answers {
        return answers::compare(&sides).await;
    }
    say(
        "corten: corten-apiserver on corten-store; upstream: kube-apiserver on etcd. One store member each, with fsync; TLS and client certificates on all",
    );
    say(
        "connections, RBAC on, no audit log; priority and fairness on, with 15,000 seats, of which the loads have 1,224.",
    );
    say(
        "CPU, wire (both directions, with TLS) and peaks are per request, or per event that a watcher got.\n",
    );
    table::memory("when idle", &sides)?;
    table::head();
    let mut remarks = Remarks::default();
    let wanted = |scenario: &Scenario| {
        let named = |part: &String| scenario.name.contains(part.as_str());
        args.only.is_empty() || args.only.iter().any(named)
    };
    for scenario in loads::all(args.percent).iter().filter(|load| wanted(load)) {
        row(args.turns.max(1), &mut sides, scenario, &mut remarks).await?;
    }
    say("");
    for line in &remarks.lines {
        say(line);
    }
    for (name, resident) in &remarks.storms {
        table::over_time(name, resident);
    }
    say("");
    table::memory("at the end", &sides)
}

async fn row(
    turns: usize,
    sides: &mut [Side],
    scenario: &Scenario,
    remarks: &mut Remarks,
) -> Result<()> {
    for side in sides.iter_mut() {
        match scenario.needs {
            Needs::Nothing => {}
            Needs::Pods => setup::pods(side).await?,
            Needs::Big(count) => setup::big(side, count, BIG_BYTES).await?,
        }
    }
    let each_side = |sides: &[Side]| sides.iter().map(|s| (s.kind, Vec::new())).collect();
    let (mut first, mut second): (Turns, Turns) = (each_side(sides), each_side(sides));
    let mut resident = Vec::new();
    for _ in 0..turns {
        resident.clear();
        for (at, side) in sides.iter_mut().enumerate() {
            let done = turn(side, scenario).await?;
            let words = [
                done.remark,
                failure(&done.main),
                done.creates.as_ref().and_then(failure),
            ];
            for word in words.into_iter().flatten() {
                let line = format!("- {}, {}: {word}", scenario.name, side.kind.name());
                remarks.lines.push(line);
            }
            first[at].1.push(done.main);
            second[at].1.extend(done.creates);
            resident.push((side.kind, done.resident));
            tokio::time::sleep(REST).await;
        }
    }
    table::rows(&scenario.name, &first);
    if second.iter().any(|(_, turns)| !turns.is_empty()) {
        table::rows("the creates meanwhile", &second);
        remarks.storms.push((scenario.name.clone(), resident));
    }
    Ok(())
}

fn failure(turn: &Turn) -> Option<String> {
    let first = turn.outcome.first_failure()?;
    Some(format!("first failure: {first}"))
}

/// One turn of one side.
struct Done {
    main: Turn,
    /// In a storm: the creates beside it.
    creates: Option<Turn>,
    resident: Vec<f64>,
    remark: Option<String>,
}

async fn turn(side: &mut Side, scenario: &Scenario) -> Result<Done> {
    // A server may end a connection that was idle while others were used.
    side.client = side.bench.client(CONNECTIONS).await?;
    side.api.reset_peak();
    side.store.reset_peak();
    let before = Counters::of(side)?;
    let (mut remark, mut weather) = (None, None);
    let outcome = match &scenario.work {
        Work::Requests(shape) => measure_over(side, shape).await?,
        Work::Big(shape) => big(side, shape).await?,
        Work::Watch(fan) => {
            let (outcome, words) = watch::fan_out(side, *fan).await?;
            remark = Some(words);
            outcome
        }
        Work::Storm(storm) => {
            let Weather {
                lists,
                creates,
                cpu,
                resident,
            } = storm::run(side, storm).await?;
            weather = Some((creates, cpu, resident));
            lists
        }
    };
    let after = Counters::of(side)?;
    let mut main = Turn {
        outcome,
        api_cpu: after.api_cpu - before.api_cpu,
        store_cpu: after.store_cpu - before.store_cpu,
        load_cpu: after.load_cpu - before.load_cpu,
        wire: after.wire - before.wire,
        api_peak: side.api.peak_mib()?,
        store_peak: side.store.peak_mib()?,
    };
    let (mut creates, mut samples) = (None, Vec::new());
    if let Some((outcome, cpu, resident)) = weather {
        (main.api_cpu, main.store_cpu) = cpu;
        samples = resident;
        // What the creates cost cannot be told from the cost of the lists, so all is counted for the lists.
        creates = Some(Turn {
            outcome,
            api_cpu: 0.0,
            store_cpu: 0.0,
            load_cpu: 0.0,
            wire: 0.0,
            api_peak: main.api_peak,
            store_peak: main.store_peak,
        });
    }
    Ok(Done {
        main,
        creates,
        resident: samples,
        remark,
    })
}

/// As many connections as 250 clients each need, which is what both servers admit of streams on one.
async fn measure_over(side: &Side, shape: &Shape) -> Result<Outcome> {
    const PER_CONNECTION: usize = 100;
    if shape.clients <= PER_CONNECTION {
        return measure(&side.client, shape).await;
    }
    let connections = shape.clients.div_ceil(PER_CONNECTION);
    let client = side.bench.client(connections).await?;
    measure(&client, shape).await
}

/// The ConfigMaps of the first turn are those that are listed later; those of other turns are out of the way.
async fn big(side: &mut Side, shape: &Shape) -> Result<Outcome> {
    let namespace = if side.big == 0 { BIG } else { BIG_SPARE };
    let shape = Shape {
        op: Op::CreateConfigMap(namespace, BIG_BYTES),
        ..shape.clone()
    };
    let outcome = measure(&side.client, &shape).await?;
    if side.big == 0 {
        side.big = outcome.requests();
    }
    Ok(outcome)
}

/// What is counted up over a turn.
struct Counters {
    api_cpu: f64,
    store_cpu: f64,
    load_cpu: f64,
    wire: f64,
}

impl Counters {
    #[expect(
        clippy::cast_precision_loss,
        reason = "bytes of a run are far below 2^53"
    )]
    fn of(side: &Side) -> Result<Self> {
        Ok(Self {
            api_cpu: side.api.cpu_seconds()?,
            store_cpu: side.store.cpu_seconds()?,
            load_cpu: cpu_seconds("self")?,
            wire: side.wire.load(Ordering::Relaxed) as f64,
        })
    }
}
