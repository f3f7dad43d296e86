//! What a Job says of failed pods, of enough success, and of when to replace a pod.

use serde_json::Value;

use crate::kinds::batch::indexes;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};
use crate::quote::quote;

/// Rules in either policy.
const RULES_MAX: usize = 20;
/// Exit codes in one rule: a byte without zero.
const EXIT_CODES_MAX: usize = 255;
/// Conditions in one rule.
const CONDITIONS_MAX: usize = 20;
/// Bytes in a list of indexes.
const INDEXES_MAX: usize = 64 * 1024;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// Checks `podFailurePolicy`.
pub(super) fn failure(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rules = spec.at("podFailurePolicy").list("rules");
    let path = path.child("rules");
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &path.index(i), errors);
    }
}

/// Checks `podReplacementPolicy`.
pub(super) fn replacement(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(policy) = spec.opt_text("podReplacementPolicy") else {
        return;
    };
    // Whether a pod that still ends has failed, no policy can tell yet.
    let supported: &[&str] = if spec.has("podFailurePolicy") {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if !supported.contains(&policy) {
        errors.not_supported(path, policy, supported);
    }
}

/// Checks `successPolicy`.
pub(super) fn success(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(policy) = spec.opt("successPolicy") else {
        return;
    };
    if spec.text("completionMode") != "Indexed" {
        errors.invalid(path, policy, "requires indexed completion mode");
        return;
    }
    let rules = policy.list("rules");
    let path = path.child("rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path, detail);
    }
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    let completions = spec.int("completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &path.index(i), errors);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("action");
    if rule.text("action") == "FailIndex" {
        if !spec.has("backoffLimitPerIndex") {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.invalid(&at, "FailIndex", detail);
        }
    } else {
        one_of(rule.text("action"), ACTIONS, &at, errors);
    }
    let codes = rule.opt("onExitCodes");
    if let Some(codes) = codes {
        let pod_spec = spec.at("template").at("spec");
        exit_codes(codes, pod_spec, &path.child("onExitCodes"), errors);
    }
    let conditions = rule.list("onPodConditions");
    pod_conditions(conditions, &path.child("onPodConditions"), errors);
    match (codes.is_some(), !conditions.is_empty()) {
        (true, true) => errors.invalid_unshown(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (false, false) => errors.invalid_unshown(
            path,
            "specifying one of OnExitCodes and OnPodConditions is required",
        ),
        _ => {}
    }
}

fn exit_codes(rule: &Value, pod_spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    one_of(
        rule.text("operator"),
        OPERATORS,
        &path.child("operator"),
        errors,
    );
    if let Some(name) = rule.opt_text("containerName") {
        let mut containers = ["containers", "initContainers"]
            .into_iter()
            .flat_map(|key| pod_spec.list(key));
        if !containers.any(|container| container.text("name") == name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.child("containerName"), name, detail);
        }
    }
    let path = path.child("values");
    let shown = rule.at("values");
    let codes: Vec<i64> = rule
        .list("values")
        .iter()
        .filter_map(Value::as_i64)
        .collect();
    if codes.is_empty() {
        errors.invalid(&path, shown, "at least one value is required");
    } else if codes.len() > EXIT_CODES_MAX {
        errors.too_many(&path, codes.len(), EXIT_CODES_MAX);
    }
    for (i, code) in codes.iter().enumerate() {
        if rule.text("operator") == "In" && *code == 0 {
            let detail = "must not be 0 for the In operator";
            errors.invalid(&path.index(i), *code, detail);
        }
        if codes[..i].contains(code) {
            errors.duplicate(&path.index(i), *code);
        }
    }
    if !codes.is_sorted() {
        errors.invalid(&path, shown, "must be ordered");
    }
}

fn pod_conditions(patterns: &[Value], path: &Path<'_>, errors: &mut Errors) {
    if patterns.len() > CONDITIONS_MAX {
        errors.too_many(path, patterns.len(), CONDITIONS_MAX);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = path.index(i);
        let r#type = pattern.text("type");
        errors.invalid_each(&at.child("type"), r#type, names::qualified_name(r#type));
        one_of(
            pattern.text("status"),
            STATUSES,
            &at.child("status"),
            errors,
        );
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path<'_>, errors: &mut Errors) {
    let (count, indexes) = (
        rule.int("succeededCount"),
        rule.opt_text("succeededIndexes"),
    );
    if count.is_none() && indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(path, detail);
    }
    let total = indexes.map(|text| {
        let at = path.child("succeededIndexes");
        if text.len() > INDEXES_MAX {
            errors.too_long(&at, INDEXES_MAX);
        }
        match indexes::parse(text, completions) {
            Ok(intervals) => indexes::count(&intervals),
            Err(fault) => {
                let detail = format!("error parsing succeededIndexes: {fault}");
                errors.invalid(&at, text, detail);
                0
            }
        }
    });
    let Some(count) = count else { return };
    let at = path.child("succeededCount");
    errors.non_negative(&at, Some(count));
    let mut capped = |max: i64, what: &str| {
        if count > max {
            let detail = format!("must be less than or equal to {max} (the number of {what})");
            errors.invalid(&at, count, detail);
        }
    };
    capped(completions, "specified completions");
    if let Some(total) = total {
        capped(total, "indexes in the specified succeededIndexes field");
    }
}

/// Refuses a word that is not listed, and lists them when there is none.
fn one_of(word: &str, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if word.is_empty() {
        let quoted: Vec<String> = known.iter().map(|word| quote(word)).collect();
        errors.required(path, &format!("valid values: [{}]", quoted.join(" ")));
    } else if !known.contains(&word) {
        errors.not_supported(path, word, known);
    }
}
