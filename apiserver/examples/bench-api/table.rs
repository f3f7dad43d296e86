//! The tables: a row per load and side with ratios of ours to theirs, and memory over time.

use super::report::{Outcome, count, median, say};
use super::servers::{Kind, Side};

/// Rows of a table over time; more samples are thinned.
const TIME_ROWS: usize = 24;

/// What one turn of a load gave on one side.
pub(crate) struct Turn {
    pub(crate) outcome: Outcome,
    /// Processor seconds.
    pub(crate) api_cpu: f64,
    pub(crate) store_cpu: f64,
    pub(crate) load_cpu: f64,
    pub(crate) wire: f64,
    pub(crate) api_peak: f64,
    pub(crate) store_peak: f64,
}

impl Turn {
    /// Microseconds of processor time for each request that succeeded.
    fn micros(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.each()
    }

    fn each(&self) -> f64 {
        count(self.outcome.requests()).max(1.0)
    }
}

pub(crate) fn head() {
    say(
        "\n| load | side | per s | ratio | p50 ms | p99 ms | API CPU µs | ratio | store CPU µs | load's CPU µs | wire B | API peak MiB | ratio | store peak MiB |",
    );
    say("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
}

/// Prints a row per side; each figure is the median of its turns.
pub(crate) fn rows(name: &str, measured: &[(Kind, Vec<Turn>)]) {
    let of = |turns: &[Turn], figure: &dyn Fn(&Turn) -> f64| {
        let values = turns.iter().map(figure).collect();
        median(values)
    };
    let theirs = measured.iter().find(|(kind, _)| *kind == Kind::Theirs);
    for (kind, turns) in measured {
        let ratio = |figure: &dyn Fn(&Turn) -> f64| match (kind, theirs) {
            (Kind::Ours, Some((_, theirs))) if of(theirs, figure) > 0.0 => {
                format!("{:.2}", of(turns, figure) / of(theirs, figure))
            }
            _ => String::new(),
        };
        let failures: u64 = turns.iter().map(|turn| turn.outcome.failures()).sum();
        let failed = match failures {
            0 => String::new(),
            some => format!(" ({some} failed)"),
        };
        let (rate, cpu) = (
            |turn: &Turn| turn.outcome.rate(),
            |turn: &Turn| turn.micros(turn.api_cpu),
        );
        let peak = |turn: &Turn| turn.api_peak;
        say(&format!(
            "| {name}{failed} | {} | {} | {} | {:.2} | {:.2} | {:.0} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {:.0} |",
            kind.name(),
            short(of(turns, &rate)),
            ratio(&rate),
            of(turns, &|turn| turn.outcome.millis(500)),
            of(turns, &|turn| turn.outcome.millis(990)),
            of(turns, &cpu),
            ratio(&cpu),
            of(turns, &|turn| turn.micros(turn.store_cpu)),
            of(turns, &|turn| turn.micros(turn.load_cpu)),
            of(turns, &|turn| turn.wire / turn.each()),
            of(turns, &peak),
            ratio(&peak),
            of(turns, &|turn| turn.store_peak),
        ));
    }
}

/// Whole lists are few a second, events many.
fn short(rate: f64) -> String {
    if rate < 100.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

/// Resident sizes of the API servers over a storm's time, two samples a second.
pub(crate) fn over_time(name: &str, sides: &[(Kind, Vec<f64>)]) {
    let names: Vec<&str> = sides.iter().map(|(kind, _)| kind.name()).collect();
    say(&format!(
        "\n{name}: resident MiB of the API server; the last 5 s are after it\n"
    ));
    say(&format!("| s | {} |", names.join(" | ")));
    say(&format!("|---|{}", "---|".repeat(names.len())));
    let samples = sides.iter().map(|(_, all)| all.len()).max().unwrap_or(0);
    for at in (0..samples).step_by(samples.div_ceil(TIME_ROWS).max(1)) {
        let cells: Vec<String> = sides
            .iter()
            .map(|(_, all)| {
                let resident = all.get(at).map(|mib| format!("{mib:.0}"));
                resident.unwrap_or_default()
            })
            .collect();
        say(&format!(
            "| {:.1} | {} |",
            count(at) / 2.0,
            cells.join(" | ")
        ));
    }
}

/// Resident sizes now.
pub(crate) fn memory(when: &str, sides: &[Side]) -> anyhow::Result<()> {
    for side in sides {
        say(&format!(
            "{} {when}: API server {:.0} MiB resident, store {:.0} MiB",
            side.kind.name(),
            side.api.resident_mib()?,
            side.store.resident_mib()?
        ));
    }
    Ok(())
}
