//! The status, and the counting of ended pods in two steps: a run names them and takes their finalizers off, a later one
//! that sees no finalizer counts them. Indexes need no names: an index is in the list or it is not.

use std::collections::HashSet;

use corten_client::events::EventKind;
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::claim::Mine;
use super::conditions::{self, ensure};
use super::outcome::Finish;
use super::sync::{Run, count, is_indexed};
use crate::pods;

/// So many names at most, so that a status stays below 20 KB; the others keep their finalizers until there is room.
/// Upstream's number.
const NAMED_MAX: usize = 500;

/// Writes the status if it changed, and the events that belong to it. Gives the uids of pods that need their finalizer no
/// more once the status is written.
pub(super) fn update(
    run: &Run<'_>,
    finish: Option<&Finish>,
    managed: bool,
    plan: &mut Plan,
) -> HashSet<String> {
    let mut status = run.status.clone();
    let ready = run.active().filter(|mine| pods::is_ready(&mine.pod));
    status.active = some(count(run.active()));
    status.ready = Some(count(ready));
    status.terminating = Some(count(run.terminating()));
    status.start_time = status.start_time.or(run.started.map(Time));
    let untracked = count_ended(run, finish, &mut status);
    let mut events = Vec::new();
    let mut conditions = status.conditions.take().unwrap_or_default();
    match finish {
        Some(finish) if !finish.told => {
            let said = (finish.reason.as_str(), finish.message.as_str());
            ensure(
                &mut conditions,
                conditions::new((finish.told_by(), true), said, run.now),
            );
        }
        Some(finish) if untracked.is_empty() && is_settled(run) => {
            seal(run, finish, &mut status, &mut conditions, &mut events);
        }
        Some(_) => {}
        None if managed => suspend_or_resume(run, &mut status, &mut conditions, &mut events),
        None => {}
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    if comparable(&status) != comparable(&run.status) {
        let changed = Job {
            status: Some(status),
            ..run.job.clone()
        };
        plan.push(Action::update_status(&changed));
        plan.actions.extend(events);
    }
    untracked
}

fn some(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}

/// What is zero or empty may be absent.
fn comparable(status: &JobStatus) -> JobStatus {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let uncounted = UncountedTerminatedPods {
        succeeded: uncounted.succeeded.filter(|uids| !uids.is_empty()),
        failed: uncounted.failed.filter(|uids| !uids.is_empty()),
    };
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    JobStatus {
        active: some(status.active.unwrap_or(0)),
        succeeded: some(status.succeeded.unwrap_or(0)),
        failed: some(status.failed.unwrap_or(0)),
        completed_indexes: text(&status.completed_indexes),
        conditions: status.conditions.clone().filter(|all| !all.is_empty()),
        uncounted_terminated_pods: Some(uncounted),
        ..status.clone()
    }
}

/// Whether no pod is left that could still change the numbers. Those with a finalizer are looked at by the caller.
fn is_settled(run: &Run<'_>) -> bool {
    run.active().next().is_none() && run.terminating().next().is_none()
}

/// Counts what was named and has lost its finalizer, and names what has newly ended.
fn count_ended(run: &Run<'_>, finish: Option<&Finish>, status: &mut JobStatus) -> HashSet<String> {
    let tracked = run.pods.iter().filter(|mine| mine.tracked);
    let tracked: HashSet<&str> = tracked.map(Mine::uid).collect();
    let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    // What is left keeps its place.
    let settle = |uids: Option<Vec<String>>, counter: &mut Option<i32>| {
        let (left, gone): (Vec<String>, Vec<String>) = uids
            .unwrap_or_default()
            .into_iter()
            .partition(|uid| tracked.contains(uid.as_str()));
        *counter = some(counter.unwrap_or(0) + count(gone));
        left
    };
    let mut succeeded = settle(uncounted.succeeded, &mut status.succeeded);
    let mut failed = settle(uncounted.failed, &mut status.failed);
    let mut untracked = HashSet::new();
    let mut indexes = 0;
    for mine in run.pods.iter().filter(|mine| mine.tracked) {
        if !needs_finalizer_no_more(run, finish, mine) {
            continue;
        }
        untracked.insert(mine.uid().to_owned());
        match end_of(run, finish, mine) {
            End::Succeeded if is_indexed(run.spec) => indexes += 1,
            End::Succeeded => succeeded.push(mine.uid().to_owned()),
            End::Failed => failed.push(mine.uid().to_owned()),
            End::Known => {}
        }
        if indexes + succeeded.len() + failed.len() >= NAMED_MAX {
            break;
        }
    }
    let names = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
    status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
        succeeded: names(succeeded),
        failed: names(failed),
    });
    if let Some(indexes) = &run.indexes {
        status.succeeded = some(indexes.succeeded.total());
        let text = indexes.succeeded.to_string();
        status.completed_indexes = (!text.is_empty()).then_some(text);
        status.failed_indexes = indexes.failed.as_ref().map(ToString::to_string);
    }
    untracked
}

fn needs_finalizer_no_more(run: &Run<'_>, finish: Option<&Finish>, mine: &Mine) -> bool {
    let over = run.job.metadata.deletion_timestamp.is_some() || finish.is_some();
    if over || pods::phase(&mine.pod) == "Succeeded" {
        return true;
    }
    let waits = |index: i32| {
        let held = run.indexes.as_ref().and_then(|all| all.waiting.get(&index));
        held.is_some_and(|pod| pod.metadata.uid == mine.pod.metadata.uid)
    };
    run.has_failed(&mine.pod) && !mine.index.is_some_and(waits)
}

/// What the end of a pod means for the numbers.
enum End {
    Succeeded,
    Failed,
    /// It is named or counted, or it does not count.
    Known,
}

fn end_of(run: &Run<'_>, finish: Option<&Finish>, mine: &Mine) -> End {
    let named_failed = run.named_failed.contains(mine.uid());
    if pods::phase(&mine.pod) == "Succeeded" && !named_failed {
        let known = match &run.indexes {
            Some(indexes) => mine.index.is_none_or(|index| indexes.before.has(index)),
            None => run.named_succeeded.contains(mine.uid()),
        };
        return match known || !run.is_valid(mine) {
            true => End::Known,
            false => End::Succeeded,
        };
    }
    // Of a Job that failed, every pod that has not ended did, too.
    let cut_off = finish.is_some_and(|finish| !finish.success);
    let failed = run.has_failed(&mine.pod) || cut_off;
    match failed && !named_failed && run.is_valid(mine) && run.verdict(&mine.pod).counts() {
        true => End::Failed,
        false => End::Known,
    }
}

fn seal(
    run: &Run<'_>,
    finish: &Finish,
    status: &mut JobStatus,
    conditions: &mut Vec<JobCondition>,
    events: &mut Vec<Action>,
) {
    let said = (finish.reason.as_str(), finish.message.as_str());
    let sealed = conditions::new((finish.sealed_by(), true), said, run.now);
    ensure(conditions, sealed);
    let mut tell = |kind, reason: &str, message: &str| {
        events.push(Action::event(run.job, kind, reason, message));
    };
    if !finish.success {
        tell(EventKind::Warning, &finish.reason, &finish.message);
        return;
    }
    status.completion_time = Some(Time(run.now));
    let succeeded = status.succeeded.unwrap_or(0);
    if run
        .spec
        .completions
        .is_some_and(|wanted| succeeded > wanted)
    {
        let message = "Too many succeeded pods running after completion count reached";
        tell(EventKind::Warning, "TooManySucceededPods", message);
    }
    tell(EventKind::Normal, "Completed", "Job completed");
}

fn suspend_or_resume(
    run: &Run<'_>,
    status: &mut JobStatus,
    conditions: &mut Vec<JobCondition>,
    events: &mut Vec<Action>,
) {
    let suspended = run.is_suspended();
    let (reason, message) = match suspended {
        true => ("JobSuspended", "Job suspended"),
        false => ("JobResumed", "Job resumed"),
    };
    let wanted = conditions::new(("Suspended", suspended), (reason, message), run.now);
    if !ensure(conditions, wanted) {
        return;
    }
    if !suspended {
        status.start_time = Some(Time(run.now));
    }
    let reason = if suspended { "Suspended" } else { "Resumed" };
    events.push(Action::event(run.job, EventKind::Normal, reason, message));
}
