//! How many pods there are to be: too many go, missing ones are made when their back-off is over. A run does one of both.

use std::sync::Arc;
use std::time::Duration;

use corten_client::events::EventKind;
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::claim::Mine;
use super::indexes::Indexes;
use super::pod::{self, New};
use super::sync::{Run, count, delete, waits_for_the_end};
use super::{backoff, removal};

/// At most so many pods are made or removed in one run; the rest follows in the next. Upstream's number.
const BURST: usize = 500;
/// A back-off never ends earlier. Upstream's number.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// What is to be done about the number of pods.
#[derive(Debug, Default)]
pub(super) struct Managed {
    superfluous: Vec<Mine>,
    missing: Vec<Pod>,
}

impl Managed {
    pub(super) fn carry_out(self, job: &Job, plan: &mut Plan) {
        for mine in &self.superfluous {
            plan.begin_group();
            if mine.tracked {
                // Its end is our own doing and counts for nothing.
                plan.push(pod::untrack(&mine.pod));
            }
            delete(job, &mine.pod, plan);
        }
        if self.missing.is_empty() {
            return;
        }
        plan.begin_group();
        plan.actions.extend(self.missing.iter().map(Action::create));
        for pod in &self.missing {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Created pod: {name}");
            plan.push(Action::event(
                job,
                EventKind::Normal,
                "SuccessfulCreate",
                message,
            ));
        }
    }
}

pub(super) fn decide(run: &Run<'_>, plan: &mut Plan) -> Managed {
    let active = count(run.active());
    let wanted = if run.is_suspended() {
        0
    } else {
        wanted(run, active)
    };
    let excess = usize::try_from(active - wanted).unwrap_or(0);
    let mut superfluous = removal::superfluous(run, excess);
    if !superfluous.is_empty() || run.is_suspended() {
        superfluous.truncate(BURST);
        return Managed {
            superfluous,
            missing: Vec::new(),
        };
    }
    let awaited = match waits_for_the_end(run.spec) {
        true => count(run.terminating()),
        false => 0,
    };
    let lacking = usize::try_from(wanted - awaited - active).unwrap_or(0);
    Managed {
        superfluous,
        missing: missing(run, lacking.min(BURST), plan),
    }
}

fn wanted(run: &Run<'_>, active: i32) -> i32 {
    let parallelism = run.spec.parallelism.unwrap_or(1);
    match run.spec.completions {
        // Once one has succeeded, those that run are let run.
        None if run.succeeded > 0 => active,
        None => parallelism,
        Some(completions) => (completions - run.succeeded).min(parallelism).max(0),
    }
}

fn missing(run: &Run<'_>, lacking: usize, plan: &mut Plan) -> Vec<Pod> {
    if lacking == 0 {
        return Vec::new();
    }
    if run.spec.backoff_limit_per_index.is_none() {
        let wait = run.record.remaining(run.now);
        if !wait.is_zero() {
            plan.requeue(wait.max(DELAY_MIN));
            return Vec::new();
        }
    }
    let indexes: Vec<Option<i32>> = match &run.indexes {
        None => vec![None; lacking],
        Some(indexes) => {
            let pending = indexes.pending(run, lacking);
            let due = pending
                .into_iter()
                .filter(|index| is_due(run, indexes, *index, plan));
            due.map(Some).collect()
        }
    };
    let replaced = |index: Option<i32>| -> Option<&Pod> {
        let waiting = &run.indexes.as_ref()?.waiting;
        waiting.get(&index?).map(Arc::as_ref)
    };
    let new = |(number, index): (usize, Option<i32>)| New {
        job: run.job,
        spec: run.spec,
        number,
        index,
        replaces: replaced(index),
        now: run.now,
    };
    indexes
        .into_iter()
        .enumerate()
        .map(|numbered| new(numbered).pod())
        .collect()
}

/// Whether the back-off of an index is over. Asks to be woken when it is not.
fn is_due(run: &Run<'_>, indexes: &Indexes, index: i32, plan: &mut Plan) -> bool {
    let Some(failed) = indexes.waiting.get(&index) else {
        return true;
    };
    let failures = usize::try_from(pod::all_failures(failed)).unwrap_or(0);
    let wait = backoff::wait(failures.saturating_add(1), backoff::ended(failed), run.now);
    if !wait.is_zero() {
        plan.requeue(wait.max(DELAY_MIN));
    }
    wait.is_zero()
}
