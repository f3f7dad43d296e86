//! Running seeds: a bounded number among the unit tests, any number with `make sim`, one again by its number.
//!
//! Each run is a process and a thread of its own, because tokio counts its runtimes per process, and the clock and the randomness
//! are the thread's. Environment: `CORTEN_SIM_SEED` runs one seed, `CORTEN_SIM_SEEDS` so many, from `CORTEN_SIM_FROM` on;
//! `CORTEN_SIM_LOG` is where one run's log goes. Invariant: a run is told nothing but its seed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::os;
use super::world::{Plan, Report, World};

/// Seeds that every `make test` runs.
const SEEDS: u64 = 4;
/// A run takes some ten seconds of a processor. One that is not done by then does not end: something spins without letting the clock go on.
const LIMIT: Duration = Duration::from_secs(300);
/// Lines of the log that are shown of a run that failed.
const SHOWN: usize = 60;

fn run(plan: Plan) -> Report {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().to_owned();
    let run = std::thread::Builder::new()
        .name(format!("seed {}", plan.seed))
        .spawn(move || {
            os::enter(plan.seed);
            World::new(plan, &path).run()
        });
    let joined = run.expect("a thread").join();
    joined.unwrap_or_else(|_| panic!("seed {} panicked", plan.seed))
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().expect("a number"))
}

fn log_of(seed: u64) -> PathBuf {
    std::env::temp_dir().join(format!("corten-sim-{seed}.log"))
}

/// Runs one seed in a process of its own; gives the summary, or what went wrong.
fn run_apart(seed: u64, log: &Path) -> Result<String, String> {
    let own = std::env::current_exe().expect("a path");
    let child = Command::new(own)
        .args(["sim::runs::one_seed_holds", "--exact", "--ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .env("CORTEN_SIM_SEED", seed.to_string())
        .env("CORTEN_SIM_LOG", log)
        .output()
        .expect("the test binary runs again");
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    let summary = output.lines().find(|line| line.starts_with("seed "));
    if child.status.success() {
        return Ok(summary.unwrap_or_default().to_owned());
    }
    let tail = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = tail.lines().collect();
    let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    Err(format!(
        "{tail}\n{}\n{output}\nlog: {}\nagain: make sim SEED={seed}",
        String::from_utf8_lossy(&child.stderr),
        log.display()
    ))
}

/// Runs seeds on all cores, up to the first that fails.
fn run_seeds(from: u64, count: u64) {
    let next = AtomicU64::new(from);
    let end = from.saturating_add(count);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return None;
            }
            let log = log_of(seed);
            match run_apart(seed, &log) {
                Ok(summary) => {
                    println!("{summary}");
                    // Of no use: the seed gives it again.
                    let _ = std::fs::remove_file(log);
                }
                Err(why) => {
                    next.store(end, Ordering::Relaxed);
                    return Some(why);
                }
            }
        }
    };
    let failed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let ended = workers.into_iter().map(|worker| worker.join());
        ended
            .filter_map(|failed| failed.expect("no panic"))
            .collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn seeds_hold() {
    run_seeds(0, SEEDS);
}

#[test]
#[ignore = "make sim runs it"]
fn more_seeds_hold() {
    if let Some(seed) = number("CORTEN_SIM_SEED") {
        return run_seeds(seed, 1);
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    // Other seeds each time, so that runs add up.
    let from = number("CORTEN_SIM_FROM").unwrap_or_else(|| now.expect("after 1970").as_secs());
    run_seeds(from, number("CORTEN_SIM_SEEDS").unwrap_or(u64::MAX));
}

#[test]
#[ignore = "the others run it, in a process of its own"]
fn one_seed_holds() {
    let seed = number("CORTEN_SIM_SEED").expect("which one");
    std::thread::spawn(move || {
        std::thread::sleep(LIMIT);
        eprintln!("seed {seed} does not end");
        std::process::exit(71);
    });
    let began = std::time::Instant::now();
    let report = run(Plan::of(seed));
    if let Some(log) = std::env::var_os("CORTEN_SIM_LOG") {
        std::fs::write(log, report.log.join("\n")).expect("written");
    }
    println!(
        "\nseed {seed}: {} of {} answered, {} revisions, {} terms, {:.1} s: {:?}",
        report.answered,
        report.asked,
        report.revisions,
        report.terms,
        began.elapsed().as_secs_f64(),
        report.verdict
    );
    assert_eq!(report.verdict, Ok(()), "seed {seed}");
}

#[test]
fn the_same_seed_twice_gives_the_same_log() {
    let dir = tempfile::tempdir().expect("temp dir");
    let seed = 7;
    let run = |name: &str| {
        let path = dir.path().join(name);
        // How it ends is the concern of others.
        let _ = run_apart(seed, &path);
        std::fs::read_to_string(path).expect("a log")
    };
    let logs = std::thread::scope(|scope| {
        let runs = ["first", "second"].map(|name| scope.spawn(move || run(name)));
        runs.map(|run| run.join().expect("no panic"))
    });
    let [first, second] = logs.each_ref().map(|log| log.lines().collect::<Vec<_>>());
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    if let Some(at) = differs {
        let from = at.saturating_sub(5);
        let (first, second) = (&first[from..=at], &second[from..=at]);
        panic!("line {at} differs:\n{first:#?}\n{second:#?}");
    }
    assert!(first.len() > 1000 && first.len() == second.len());
}
