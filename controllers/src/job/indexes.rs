//! What an Indexed Job knows of its indexes: which succeeded, which are given up, which wait for another pod.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::backoff;
use super::claim::Mine;
use super::failure_policy::Verdict;
use super::intervals::Intervals;
use super::pod;
use super::sync::{Run, waits_for_the_end};
use crate::pods;

pub(super) struct Indexes {
    /// As the status has them.
    pub(super) before: Intervals,
    /// With those that pods show and the status does not have yet.
    pub(super) succeeded: Intervals,
    /// Given up, where each index has a limit of its own.
    pub(super) failed: Option<Intervals>,
    /// The failed pod of each index that has no other one yet. It stays until then, for it knows the index's failures.
    pub(super) waiting: HashMap<i32, Arc<Pod>>,
}

impl Indexes {
    pub(super) fn of(run: &Run<'_>) -> Self {
        let read = |text: Option<&String>| {
            let text = text.map(String::as_str).unwrap_or_default();
            Intervals::parse(text, run.completions())
        };
        let before = read(run.status.completed_indexes.as_ref());
        let succeeded = before.with(shown(run, |mine| pods::phase(&mine.pod) == "Succeeded"));
        let failed = run.spec.backoff_limit_per_index.map(|limit| {
            let failed = shown(run, |mine| fails_index(run, &mine.pod, limit));
            read(run.status.failed_indexes.as_ref()).with(failed)
        });
        let mut indexes = Self {
            before,
            succeeded,
            failed,
            waiting: HashMap::new(),
        };
        if indexes.failed.is_some() {
            indexes.waiting = waiting(run, &indexes);
        }
        indexes
    }

    /// Whether the index needs no more pods.
    fn is_over(&self, index: i32) -> bool {
        self.succeeded.has(index) || self.failed.as_ref().is_some_and(|failed| failed.has(index))
    }

    /// The first `count` indexes that need a pod.
    pub(super) fn pending(&self, run: &Run<'_>, count: usize) -> Vec<i32> {
        let mut taken = self
            .succeeded
            .with(run.active().filter_map(|mine| mine.index));
        if waits_for_the_end(run.spec) {
            taken = taken.with(run.terminating().filter_map(|mine| mine.index));
        }
        if let Some(failed) = &self.failed {
            taken = taken.and(failed);
        }
        taken.missing(run.completions()).take(count).collect()
    }
}

/// The indexes of uncounted pods for which something holds.
fn shown(run: &Run<'_>, is: impl Fn(&Mine) -> bool) -> Vec<i32> {
    run.pods
        .iter()
        .filter(|mine| mine.tracked && run.is_valid(mine) && is(mine))
        .filter_map(|mine| mine.index)
        .collect()
}

fn fails_index(run: &Run<'_>, failed: &Pod, limit: i32) -> bool {
    run.has_failed(failed)
        && match run.verdict(failed) {
            Verdict::FailsIndex => true,
            Verdict::Ignored => false,
            Verdict::Counts | Verdict::FailsJob(_) => pod::failures(failed) >= limit,
        }
}

/// Of several failed pods of an index the one that knows of the most failures, then the last one.
fn waiting(run: &Run<'_>, indexes: &Indexes) -> HashMap<i32, Arc<Pod>> {
    let active: HashSet<i32> = run.active().filter_map(|mine| mine.index).collect();
    let mut waiting: HashMap<i32, Arc<Pod>> = HashMap::new();
    let failed = run
        .pods
        .iter()
        .filter(|mine| mine.tracked && run.is_valid(mine) && run.has_failed(&mine.pod));
    for mine in failed {
        let Some(index) = mine.index else { continue };
        if indexes.is_over(index) || active.contains(&index) {
            continue;
        }
        let rank = |pod: &Pod| (pod::all_failures(pod), backoff::ended(pod));
        let held = waiting
            .entry(index)
            .or_insert_with(|| Arc::clone(&mine.pod));
        if rank(&mine.pod) >= rank(held) {
            *held = Arc::clone(&mine.pod);
        }
    }
    waiting
}
