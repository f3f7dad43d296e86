//! What a Job must look like, and what an update may change.

use serde_json::Value;

use super::{policies, selector};
use crate::kinds::apps::workload::{validate_non_negative, validate_template_spec};
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, keep, object_at};
use crate::kinds::{Errors, Path};
use crate::names;

/// The list of the indexes that are done must fit into a status.
const PARALLELISM_MAX: i64 = 100_000;
/// So must the list of those that failed.
const FAILED_INDEXES_MAX: i64 = 100_000;
/// From so many completions on, with tries for each index, the next two hold.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const PARALLELISM_MAX_OF_MANY: i64 = 10_000;
const FAILED_INDEXES_MAX_OF_MANY: i64 = 10_000;
/// Bytes in the name of who runs the Job.
const MANAGED_BY_MAX: usize = 63;

const COUNTS: &[&str] = &[
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

/// The fields that stay, after the template.
const IMMUTABLE: &[&str] = &[
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "successPolicy",
];

/// Checks a Job. `prefixed` asks for the generated labels that have a prefix.
pub(super) fn job(job: &Value, prefixed: bool, errors: &mut Errors) {
    selector::validate_generated(job, prefixed, errors);
    let body = job.at("spec");
    spec(body, &Path::new("spec"), errors);
    selector::validate(body, errors);
    host_names(job, errors);
}

/// Checks an update.
pub(super) fn change(new: &Value, old: &Value, errors: &mut Errors) {
    let started = old.at("status").has("startTime");
    let (new, old) = (new.at("spec"), old.at("spec"));
    let path = Path::new("spec");
    completions_change(new, old, errors);
    let stays = |key: &str, errors: &mut Errors| {
        immutable(new.at(key), old.at(key), &path.child(key), errors);
    };
    stays("selector", errors);
    if old.flag("suspend") && !started {
        let before = with_directives_of(new.at("template"), old.at("template"));
        immutable(new.at("template"), &before, &path.child("template"), errors);
    } else {
        stays("template", errors);
    }
    for key in IMMUTABLE {
        stays(key, errors);
    }
}

/// Checks the spec of a Job, but for its selector.
pub(crate) fn spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_non_negative(spec, path, COUNTS, errors);
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let at = path.child("backoffLimitPerIndex");
        errors.required(&at, "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.opt_text("managedBy") {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    completion_mode(spec, path, errors);
    policies::failure(spec, &path.child("podFailurePolicy"), errors);
    policies::success(spec, &path.child("successPolicy"), errors);
    policies::replacement(spec, &path.child("podReplacementPolicy"), errors);
    validate_template_spec(spec.at("template"), &path.child("template"), errors);
    restart_policy(spec, &path.child("template.spec.restartPolicy"), errors);
}

fn managed_by(manager: &str, path: &Path<'_>, errors: &mut Errors) {
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.required(path, ""),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            errors.invalid_each(path, host, names::dns1123_subdomain(host));
            errors.invalid_each(path, rest, names::http_path(rest));
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.invalid(path, manager, detail);
        }
    }
    if manager.len() > MANAGED_BY_MAX {
        errors.too_long(path, MANAGED_BY_MAX);
    }
}

fn completion_mode(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    match spec.opt_text("completionMode") {
        Some("Indexed") => indexed(spec, path, errors),
        None | Some("NonIndexed") => {
            for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(count) = spec.opt(key) {
                    errors.invalid(&path.child(key), count, "requires indexed completion mode");
                }
            }
        }
        Some(other) => {
            let at = path.child("completionMode");
            errors.not_supported(&at, other, &["NonIndexed", "Indexed"]);
        }
    }
}

fn indexed(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let completions = spec.int("completions");
    let parallelism = spec.int("parallelism");
    let failures = spec.int("maxFailedIndexes");
    let at_parallelism = path.child("parallelism");
    let at_failures = path.child("maxFailedIndexes");
    if completions.is_none() {
        let at = path.child("completions");
        errors.required(&at, "when completion mode is Indexed");
    }
    at_most(
        parallelism,
        PARALLELISM_MAX,
        " when completion mode is Indexed",
        &at_parallelism,
        errors,
    );
    if let (Some(completions), Some(failures)) = (completions, failures)
        && failures > completions
    {
        let detail = "must be less than or equal to completions";
        errors.invalid(&at_failures, failures, detail);
    }
    at_most(failures, FAILED_INDEXES_MAX, "", &at_failures, errors);
    let many = completions.is_some_and(|completions| completions > COMPLETIONS_SOFT_MAX);
    if !many || !spec.has("backoffLimitPerIndex") {
        return;
    }
    if failures.is_none() {
        let detail = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
        errors.required(&at_failures, &detail);
    }
    let when = format!(
        " when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
    );
    let max = PARALLELISM_MAX_OF_MANY;
    at_most(parallelism, max, &when, &at_parallelism, errors);
    let max = FAILED_INDEXES_MAX_OF_MANY;
    at_most(failures, max, &when, &at_failures, errors);
}

fn at_most(value: Option<i64>, max: i64, when: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| *value > max) {
        let detail = format!("must be less than or equal to {max}{when}");
        errors.invalid(path, value, detail);
    }
}

/// Pods that always start again never end, which is what a Job waits for.
fn restart_policy(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    match spec.at("template").at("spec").text("restartPolicy") {
        "Never" => {}
        "" | "Always" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(path, "OnFailure", detail);
        }
        "OnFailure" => {}
        other => errors.not_supported(path, other, &["OnFailure", "Never"]),
    }
}

/// The pods of an Indexed Job have the index in their host names: the longest must be a label.
fn host_names(job: &Value, errors: &mut Errors) {
    let spec = job.at("spec");
    let completions = spec.int("completions").unwrap_or(0);
    if spec.text("completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let name = job.at("metadata").text("name");
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns1123_label(&longest).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.invalid(&Path::new("metadata.name"), name, detail);
    }
}

/// An Indexed Job may grow and shrink when it runs all of its indexes at once; others stay.
fn completions_change(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec.completions");
    let (now, before) = (new.int("completions"), old.int("completions"));
    if new.text("completionMode") != "Indexed" {
        immutable(new.at("completions"), old.at("completions"), &path, errors);
    } else if let Some(count) = now
        && now != before
        && now != new.int("parallelism")
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&path, count, detail);
    }
}

/// The old template with what the new one says of where the pods may run: schedulers of queues fill that in before a
/// suspended Job starts.
fn with_directives_of(new: &Value, old: &Value) -> Value {
    let mut mixed = old.clone();
    if let Some(meta) = object_at(&mut mixed, "metadata") {
        keep(meta, new.at("metadata"), "labels");
        keep(meta, new.at("metadata"), "annotations");
    }
    if let Some(pod_spec) = object_at(&mut mixed, "spec") {
        let from = new.at("spec");
        for key in ["nodeSelector", "tolerations", "schedulingGates"] {
            keep(pod_spec, from, key);
        }
        if let Some(affinity) = object_at(pod_spec, "affinity") {
            keep(affinity, from.at("affinity"), "nodeAffinity");
        }
    }
    mixed
}
