//! Named readiness checks and the metrics that every process has.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// `Err` says in words what is missing.
pub(super) type Outcome = Result<(), String>;
type Check = Arc<dyn Fn() -> Outcome + Send + Sync>;

/// The named checks of one process. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<String, Check>>>);

impl Readiness {
    /// Sets a check to a fixed outcome, until it is set again.
    pub fn set(&self, name: &str, outcome: Outcome) {
        self.check(name, move || outcome.clone());
    }

    /// Adds (or replaces) a check that is run at each request. It must not block.
    pub fn check(&self, name: &str, run: impl Fn() -> Outcome + Send + Sync + 'static) {
        self.0.write().insert(name.to_owned(), Arc::new(run));
    }

    /// Runs all checks, in order of name.
    pub fn run(&self) -> Vec<(String, Outcome)> {
        let checks: Vec<_> = self
            .0
            .read()
            .iter()
            .map(|(name, check)| (name.clone(), Arc::clone(check)))
            .collect();
        checks
            .into_iter()
            .map(|(name, check)| (name, check()))
            .collect()
    }

    /// Runs one check, if there is one of that name.
    pub fn run_one(&self, name: &str) -> Option<Outcome> {
        let check = Arc::clone(self.0.read().get(name)?);
        Some(check())
    }
}

/// Build information, resident memory, CPU seconds and open files of this process.
pub(super) fn register_process_metrics(registry: &mut Registry, component: &'static str) {
    let build = Info::new(vec![
        ("component", component),
        ("version", crate::version::VERSION),
        ("git_commit", crate::version::GIT_COMMIT),
    ]);
    registry.register("corten_build", "What this process was built from", build);
    registry.register_collector(Box::new(Process));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory",
                resident_bytes(),
            ),
            (
                "process_cpu_seconds",
                "CPU time used, user and system",
                cpu_seconds(),
            ),
            ("process_open_fds", "Open file descriptors", open_files()),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Linux's page size and clock tick on every architecture that Corten is built for.
const PAGE_BYTES: f64 = 4096.0;
const TICKS_PER_SECOND: f64 = 100.0;

fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm
        .split_whitespace()
        .nth(1)?
        .parse::<f64>()
        .ok()
        .map(|pages| pages * PAGE_BYTES)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command name may hold blanks; fields are counted from behind its closing bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (
        fields.next()?.parse::<f64>().ok()?,
        fields.next()?.parse::<f64>().ok()?,
    );
    Some((user + system) / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u32::try_from(count).ok().map(f64::from)
}
