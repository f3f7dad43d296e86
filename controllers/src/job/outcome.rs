//! Whether a Job is decided, and how. What the status says already stands; then failures are looked at, then success.

use k8s_openapi::api::batch::v1::JobCondition;

use super::conditions::holding;
use super::failure_policy::Verdict;
use super::success_policy;
use super::sync::Run;
use crate::pods;

/// The end that a Job comes to. It is told at once, by a condition of its own, and sealed by another one when all pods are
/// gone and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finish {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether the status tells it already.
    pub(super) told: bool,
}

impl Finish {
    fn told(success: bool, condition: &JobCondition) -> Self {
        Self {
            success,
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
            told: true,
        }
    }

    fn new(success: bool, reason: &str, message: impl Into<String>) -> Self {
        Self {
            success,
            reason: reason.to_owned(),
            message: message.into(),
            told: false,
        }
    }

    /// The condition that tells the end.
    pub(super) fn told_by(&self) -> &'static str {
        if self.success {
            "SuccessCriteriaMet"
        } else {
            "FailureTarget"
        }
    }

    /// The condition that seals the end.
    pub(super) fn sealed_by(&self) -> &'static str {
        if self.success { "Complete" } else { "Failed" }
    }
}

/// The end that pods need not be waited for.
pub(super) fn decided(run: &Run<'_>) -> Option<Finish> {
    let conditions = run.status.conditions.as_deref().unwrap_or_default();
    let success = holding(conditions, "SuccessCriteriaMet");
    let failure = holding(conditions, "FailureTarget");
    success
        .map(|condition| Finish::told(true, condition))
        .or_else(|| failure.map(|condition| Finish::told(false, condition)))
        .or_else(|| failed_by_policy(run))
        .or_else(|| failed(run))
        .or_else(|| indexes_failed(run))
        .or_else(|| {
            let succeeded = &run.indexes.as_ref()?.succeeded;
            let policy = run.spec.success_policy.as_ref();
            let message = success_policy::met(policy, run.completions(), succeeded)?;
            Some(Finish::new(true, "SuccessPolicy", message))
        })
}

fn failed_by_policy(run: &Run<'_>) -> Option<Finish> {
    run.spec.pod_failure_policy.as_ref()?;
    let failed = run.pods.iter().filter(|mine| run.has_failed(&mine.pod));
    let mut verdicts = failed.map(|mine| run.verdict(&mine.pod));
    verdicts.find_map(|verdict| match verdict {
        Verdict::FailsJob(message) => Some(Finish::new(false, "PodFailurePolicy", message)),
        _ => None,
    })
}

fn failed(run: &Run<'_>) -> Option<Finish> {
    if run.failed > backoff_limit(run) || has_restarted_too_often(run) {
        let message = "Job has reached the specified backoff limit";
        return Some(Finish::new(false, "BackoffLimitExceeded", message));
    }
    let deadline = run.spec.active_deadline_seconds?;
    let passed = run.now.duration_since(run.started?).as_secs();
    (!run.is_suspended() && passed >= deadline).then(|| {
        let message = "Job was active longer than specified deadline";
        Finish::new(false, "DeadlineExceeded", message)
    })
}

fn backoff_limit(run: &Run<'_>) -> i32 {
    let default = match run.spec.backoff_limit_per_index {
        Some(_) => i32::MAX,
        None => 6,
    };
    run.spec.backoff_limit.unwrap_or(default)
}

/// Containers that are started again in their pod count as failures, too, as long as the pod runs.
fn has_restarted_too_often(run: &Run<'_>) -> bool {
    let spec = run.spec.template.spec.as_ref();
    if spec.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let running = run
        .pods
        .iter()
        .filter(|mine| matches!(pods::phase(&mine.pod), "Running" | "Pending"));
    let statuses = running.filter_map(|mine| mine.pod.status.as_ref());
    let restarts = statuses
        .flat_map(|status| {
            let inits = status.init_container_statuses.iter().flatten();
            inits.chain(status.container_statuses.iter().flatten())
        })
        .fold(0_i32, |sum, status| {
            sum.saturating_add(status.restart_count)
        });
    restarts > 0 && restarts >= backoff_limit(run)
}

fn indexes_failed(run: &Run<'_>) -> Option<Finish> {
    let indexes = run.indexes.as_ref()?;
    let failed = indexes.failed.as_ref()?.total();
    if run.spec.max_failed_indexes.is_some_and(|max| failed > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Finish::new(false, "MaxFailedIndexesExceeded", message));
    }
    let all = failed > 0 && failed + indexes.succeeded.total() >= run.completions();
    all.then(|| Finish::new(false, "FailedIndexes", "Job has failed indexes"))
}

/// Success by numbers: enough pods succeeded, and none is left.
pub(super) fn completed(run: &Run<'_>) -> Option<Finish> {
    let enough = match run.spec.completions {
        // Any success means that the work is done; the other pods know it and end by themselves.
        None => run.succeeded > 0,
        Some(completions) => run.succeeded >= completions,
    };
    let done = enough && run.active().next().is_none();
    done.then(|| {
        let message = "Reached expected number of succeeded pods";
        Finish::new(true, "CompletionsReached", message)
    })
}
