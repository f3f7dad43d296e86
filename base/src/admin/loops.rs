//! How the loops of a process do: what waits for them, what failed, when they last succeeded. A page for people, metrics for
//! machines.
//!
//! It runs nothing and keeps nothing: each loop is asked when somebody looks. Invariant: a look never waits for a loop.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// How one loop does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopReport {
    /// Things that wait to be worked on.
    pub queued: usize,
    /// Things in hand.
    pub running: usize,
    /// Runs so far.
    pub runs: u64,
    /// Runs that failed and were put back.
    pub retries: u64,
    /// When a run last succeeded.
    pub last_success: Option<Timestamp>,
    /// When a run last failed, and why.
    pub last_error: Option<(Timestamp, String)>,
    /// What else there is to say, in a few words: the revision seen, whether it leads.
    pub note: String,
}

/// What a loop writes down about itself. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LoopLog(Arc<Mutex<LoopReport>>);

impl LoopLog {
    /// A run ended well.
    pub fn succeeded(&self, now: Timestamp) {
        let mut report = self.0.lock();
        report.runs += 1;
        report.last_success = Some(now);
    }

    /// A run failed and is put back.
    pub fn failed(&self, now: Timestamp, why: String) {
        let mut report = self.0.lock();
        report.runs += 1;
        report.retries += 1;
        report.last_error = Some((now, why));
    }

    /// What waits and what is in hand, for loops that cannot be asked.
    pub fn depth(&self, queued: usize, running: usize) {
        let mut report = self.0.lock();
        report.queued = queued;
        report.running = running;
    }

    /// What was written so far.
    pub fn report(&self) -> LoopReport {
        self.0.lock().clone()
    }
}

type Ask = Arc<dyn Fn() -> LoopReport + Send + Sync>;

/// All loops of a process, by name. Clones share them.
#[derive(Clone, Default)]
pub struct Loops(Arc<RwLock<BTreeMap<String, Ask>>>);

impl std::fmt::Debug for Loops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.read().keys()).finish()
    }
}

impl Loops {
    /// Adds (or replaces) a loop. `ask` must not block.
    pub fn add(&self, name: &str, ask: impl Fn() -> LoopReport + Send + Sync + 'static) {
        self.0.write().insert(name.to_owned(), Arc::new(ask));
    }

    /// All reports, in order of name.
    pub fn reports(&self) -> Vec<(String, LoopReport)> {
        let loops: Vec<(String, Ask)> = self
            .0
            .read()
            .iter()
            .map(|(name, ask)| (name.clone(), Arc::clone(ask)))
            .collect();
        loops.into_iter().map(|(name, ask)| (name, ask())).collect()
    }

    /// The page for people.
    pub(super) fn page(&self) -> String {
        let reports = self.reports();
        if reports.is_empty() {
            return "no loops in this process\n".to_owned();
        }
        let width = reports
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        let mut page = format!(
            "{:width$}  {:>7} {:>7} {:>9} {:>8}  {:20}  NOTE\n",
            "LOOP", "QUEUED", "RUNNING", "RUNS", "RETRIES", "LAST SUCCESS"
        );
        for (name, report) in &reports {
            let success = report.last_success.map_or("never".to_owned(), moment);
            // Writing to a string cannot fail.
            let _ = writeln!(
                page,
                "{name:width$}  {:>7} {:>7} {:>9} {:>8}  {success:20}  {}",
                report.queued, report.running, report.runs, report.retries, report.note
            );
            if let Some((when, why)) = &report.last_error {
                let _ = writeln!(page, "{:width$}  last error {}: {why}", "", moment(*when));
            }
        }
        page
    }
}

fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Name, explanation and value of a number that each loop has.
type Number = (&'static str, &'static str, fn(&LoopReport) -> Option<i64>);

const GAUGES: [Number; 4] = [
    (
        "corten_loop_queued",
        "Things that wait to be worked on.",
        |report| i64::try_from(report.queued).ok(),
    ),
    ("corten_loop_running", "Things in hand.", |report| {
        i64::try_from(report.running).ok()
    }),
    (
        "corten_loop_last_success_timestamp_seconds",
        "When a run last succeeded.",
        |report| report.last_success.map(Timestamp::as_second),
    ),
    (
        "corten_loop_last_error_timestamp_seconds",
        "When a run last failed.",
        |report| report.last_error.as_ref().map(|(when, _)| when.as_second()),
    ),
];

/// Name, explanation and value of a number that only grows.
type Count = (&'static str, &'static str, fn(&LoopReport) -> u64);

const COUNTERS: [Count; 2] = [
    ("corten_loop_runs", "Runs.", |report| report.runs),
    (
        "corten_loop_retries",
        "Runs that failed and were put back.",
        |report| report.retries,
    ),
];

impl Collector for Loops {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let reports = self.reports();
        if reports.is_empty() {
            return Ok(());
        }
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (of, report) in &reports {
                if let Some(value) = value(report) {
                    family
                        .encode_family(&[("name", of.as_str())])?
                        .encode_gauge(&value)?;
                }
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (of, report) in &reports {
                family
                    .encode_family(&[("name", of.as_str())])?
                    .encode_counter::<NoLabelSet, u64, u64>(&value(report), None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdminServer;
    use super::*;

    fn body(admin: &AdminServer, path: &str) -> String {
        use http_body_util::BodyExt;
        let response = admin.handle(path, None).expect("known");
        let collected = futures::executor::block_on(response.into_body().collect());
        let bytes = collected.expect("a body").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[test]
    fn people_and_machines_see_the_same() {
        let admin = AdminServer::new("test");
        assert!(body(&admin, "/debug/loops").contains("no loops"));
        admin.loops().add("replicaset", || LoopReport {
            queued: 3,
            runs: 10,
            retries: 2,
            last_success: Some(Timestamp::UNIX_EPOCH),
            last_error: Some((Timestamp::UNIX_EPOCH, "default/a: conflict".to_owned())),
            note: "leading".to_owned(),
            ..LoopReport::default()
        });
        let page = body(&admin, "/debug/loops");
        assert!(
            page.contains("last error 1970-01-01T00:00:00Z: default/a: conflict"),
            "{page}"
        );
        assert!(page.contains("leading"), "{page}");
        let metrics = body(&admin, "/metrics");
        for line in [
            "corten_loop_queued{name=\"replicaset\"} 3",
            "corten_loop_retries_total{name=\"replicaset\"} 2",
        ] {
            assert!(metrics.contains(line), "{metrics}");
        }
    }
}
