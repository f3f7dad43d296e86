//! What the status of a Job may become.
//!
//! Others than our own controller may run a Job, so that its clients are promised: what has ended stays so, and what a
//! status says fits together. A rule holds only where what it speaks of changes, lest one old fault stop all updates.

use serde_json::Value;

use crate::kinds::apps::workload::validate_non_negative;
use crate::kinds::batch::indexes;
use crate::kinds::value::{Get, same};
use crate::kinds::{Errors, Path, duration};

static STATUS: Path<'static> = Path::new("status");
static CONDITIONS: Path<'static> = Path::new("status.conditions");

/// Checks an update of the status.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let update = Update {
        spec: new.at("spec"),
        new: new.at("status"),
        old: old.at("status"),
    };
    let counts = ["active", "succeeded", "failed", "ready", "terminating"];
    validate_non_negative(update.new, &STATUS, &counts, errors);
    uncounted(update.new.at("uncountedTerminatedPods"), errors);
    update.ends(errors);
    update.completion(errors);
    update.finished(errors);
    update.index_lists(errors);
    update.criteria(errors);
    update.progress(errors);
}

/// Whether a condition of that type is true.
pub(super) fn is_true(status: &Value, r#type: &str) -> bool {
    has_condition(status, r#type, "True")
}

fn has_condition(status: &Value, r#type: &str, value: &str) -> bool {
    let mut conditions = status.list("conditions").iter();
    conditions.any(|c| c.text("type") == r#type && c.text("status") == value)
}

fn is_finished(status: &Value) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

/// Pods whose end is noted and not yet counted: each once, by its uid.
fn uncounted(pods: &Value, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    let path = STATUS.child("uncountedTerminatedPods");
    for key in ["succeeded", "failed"] {
        let at = path.child(key);
        for (i, uid) in pods.list(key).iter().enumerate() {
            let uid = uid.as_str().unwrap_or("");
            if uid.is_empty() {
                errors.invalid(&at.index(i), uid, "must not be empty");
            } else if seen.contains(&uid) {
                errors.duplicate(&at.index(i), uid);
            } else {
                seen.push(uid);
            }
        }
    }
}

struct Update<'a> {
    spec: &'a Value,
    new: &'a Value,
    old: &'a Value,
}

impl Update<'_> {
    fn is(&self, r#type: &str) -> bool {
        is_true(self.new, r#type)
    }

    fn was(&self, r#type: &str) -> bool {
        is_true(self.old, r#type)
    }

    fn turned(&self, r#type: &str) -> bool {
        self.is(r#type) != self.was(r#type)
    }

    fn changed(&self, key: &str) -> bool {
        !same(self.new.at(key), self.old.at(key))
    }

    /// Whether the text of the failed indexes changed, where none differs from an empty one.
    fn failed_indexes_changed(&self) -> bool {
        self.new.opt_text("failedIndexes") != self.old.opt_text("failedIndexes")
    }

    fn finish_changed(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn is_indexed(&self) -> bool {
        self.spec.text("completionMode") == "Indexed"
    }

    /// A Job has one end, and an end has its reason noted before.
    fn ends(&self, errors: &mut Errors) {
        let (complete, failed) = (self.is("Complete"), self.is("Failed"));
        let complete_turned = self.turned("Complete");
        let (target, met) = (self.is("FailureTarget"), self.is("SuccessCriteriaMet"));
        let rules = [
            (
                complete && failed && (complete_turned || self.turned("Failed")),
                "cannot set Complete=True and Failed=true conditions",
            ),
            (
                complete && target && (complete_turned || self.turned("FailureTarget")),
                "cannot set Complete=True and FailureTarget=true conditions",
            ),
            (
                failed && !target && (self.turned("Failed") || self.failed_indexes_changed()),
                "cannot set Failed=True condition without the FailureTarget=true condition",
            ),
            (
                complete && !met && (complete_turned || self.turned("SuccessCriteriaMet")),
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
        ];
        refuse(&rules, errors);
    }

    fn completion(&self, errors: &mut Errors) {
        let path = STATUS.child("completionTime");
        let complete = self.is("Complete");
        let time = self.new.at("completionTime");
        let time_changed = self.changed("completionTime");
        if self.turned("Complete") || time_changed {
            if !time.is_null() && !complete {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.invalid(&path, time, detail);
            }
            if time.is_null() && complete {
                errors.required(&path, "completionTime is required for Complete jobs");
            }
        }
        let start = duration::parse(self.new.at("startTime"));
        if (time_changed || self.changed("startTime"))
            && let (Some(start), Some(end)) = (start, duration::parse(time))
            && end < start
        {
            errors.invalid(&path, time, "must be equal to or after `startTime`");
        }
    }

    fn finished(&self, errors: &mut Errors) {
        let finished = is_finished(self.new);
        let count = |key: &str| self.new.int(key).unwrap_or(0);
        let checks = |key: &str| finished && (self.finish_changed() || self.changed(key));
        if checks("active") && count("active") > 0 {
            let detail = "active>0 is invalid for finished job";
            errors.invalid(&STATUS.child("active"), count("active"), detail);
        }
        // What has nothing to do may end without having been started.
        let idle = self.spec.flag("suspend") && self.spec.int("completions") == Some(0);
        if checks("startTime") && !idle && !self.new.has("startTime") {
            let detail = "startTime is required for finished job";
            errors.required(&STATUS.child("startTime"), detail);
        }
        let pods = self.new.at("uncountedTerminatedPods");
        let some = !pods.is_empty_at("succeeded") || !pods.is_empty_at("failed");
        if checks("uncountedTerminatedPods") && some {
            let at = STATUS.child("uncountedTerminatedPods");
            errors.invalid(&at, pods, "must be empty for finished job");
        }
        if checks("terminating") && count("terminating") > 0 {
            let detail = "terminating>0 is invalid for finished job";
            errors.invalid(&STATUS.child("terminating"), count("terminating"), detail);
        }
        let ready_changed = self.changed("ready") || self.changed("active");
        if ready_changed && count("ready") > count("active") {
            let detail = "cannot set more ready pods than active";
            errors.invalid(&STATUS.child("ready"), count("ready"), detail);
        }
    }

    fn index_lists(&self, errors: &mut Errors) {
        let at_completed = STATUS.child("completedIndexes");
        let at_failed = STATUS.child("failedIndexes");
        let completed = self.new.text("completedIndexes");
        let failed = self.new.opt_text("failedIndexes");
        let completed_changed = completed != self.old.text("completedIndexes");
        let failed_changed = self.failed_indexes_changed();
        let completions = self.spec.int("completions");
        let per_index = self.spec.has("backoffLimitPerIndex");
        if completed_changed
            && let Some(max) = completions
            && let Err(fault) = indexes::parse(completed, max)
        {
            let detail = format!("error parsing completedIndexes: {fault}");
            errors.invalid(&at_completed, completed, detail);
        }
        if failed_changed
            && per_index
            && let (Some(failed), Some(max)) = (failed, completions)
            && let Err(fault) = indexes::parse(failed, max)
        {
            let detail = format!("error parsing failedIndexes: {fault}");
            errors.invalid(&at_failed, failed, detail);
        }
        if completed_changed && !completed.is_empty() && !self.is_indexed() {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.invalid(&at_completed, completed, detail);
        }
        let Some(failed) = failed else { return };
        if failed_changed && !per_index {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.invalid(&at_failed, failed, detail);
        }
        if (failed_changed || completed_changed)
            && let Some(max) = completions
            && let Some(index) = indexes::overlap(completed, failed, max)
        {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.invalid(&at_failed, failed, detail);
        }
    }

    /// Enough success is the way to completion, and to nothing else.
    fn criteria(&self, errors: &mut Errors) {
        let met = self.is("SuccessCriteriaMet");
        let policy = self.spec.has("successPolicy");
        let rules = [
            (
                met && self.is("Failed"),
                "cannot set SuccessCriteriaMet=True and Failed=true conditions",
            ),
            (
                met && self.is("FailureTarget"),
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
            (
                policy && !met && self.is("Complete"),
                "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            ),
        ];
        refuse(&rules, errors);
    }

    /// What was reached is not taken back.
    fn progress(&self, errors: &mut Errors) {
        for end in ["Failed", "Complete", "FailureTarget"] {
            let detail = format!("cannot disable the terminal {end}=True condition");
            refuse(&[(self.was(end) && !self.is(end), detail.as_str())], errors);
        }
        let now = |key: &str| self.new.int(key).unwrap_or(0);
        let shrinks = |key: &str| now(key) < self.old.int(key).unwrap_or(0);
        if shrinks("failed") {
            let detail = "cannot decrease the failed counter";
            errors.invalid(&STATUS.child("failed"), now("failed"), detail);
        }
        // One that runs all of its indexes at once can be scaled down.
        let scales =
            self.is_indexed() && self.spec.int("completions") == self.spec.int("parallelism");
        if shrinks("succeeded") && !scales {
            let detail = "cannot decrease the succeeded counter";
            errors.invalid(&STATUS.child("succeeded"), now("succeeded"), detail);
        }
        let both = |key: &str| self.new.has(key) && self.old.has(key);
        if both("completionTime") && self.changed("completionTime") {
            let time = self.new.at("completionTime");
            errors.invalid(&STATUS.child("completionTime"), time, "field is immutable");
        }
        let resumes = self.was("Suspended") && has_condition(self.new, "Suspended", "False");
        if self.old.has("startTime")
            && self.changed("startTime")
            && !resumes
            && !self.spec.flag("suspend")
        {
            let detail = "startTime cannot be removed for unsuspended job";
            errors.required(&STATUS.child("startTime"), detail);
        }
        let (met, was_met) = (
            self.is("SuccessCriteriaMet"),
            self.was("SuccessCriteriaMet"),
        );
        let rules = [
            (
                was_met && !met,
                "cannot disable the SuccessCriteriaMet=True condition",
            ),
            (
                self.was("Complete") && !was_met && met,
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
            ),
        ];
        refuse(&rules, errors);
    }
}

fn refuse(rules: &[(bool, &str)], errors: &mut Errors) {
    for (broken, detail) in rules {
        if *broken {
            errors.invalid_unshown(&CONDITIONS, detail);
        }
    }
}
