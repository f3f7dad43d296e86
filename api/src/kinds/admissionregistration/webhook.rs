//! What the two kinds of webhook configurations share: nearly all.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::match_conditions::validate_match_conditions;
use super::rules::{default_rules, validate_rule};
use super::webhook_client::{default_client, validate_client};
use super::{FAILURE_POLICIES, MATCH_POLICIES};
use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, items_at, same};
use crate::kinds::{Column, Errors, Path, Rules, duration, names};

/// Versions of AdmissionReview that the server speaks.
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
/// Side effects that are safe in a dry run.
const HARMLESS: &[&str] = &["None", "NoneOnDryRun"];
/// All side effects that were ever allowed.
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
/// How often a mutating webhook may be asked about one request.
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];

pub(super) static RULES: Rules = Rules {
    generation: Generation::Content,
    unconditional_update: false,
    ..Rules::CLUSTER
};

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Webhooks", "Number of webhooks."),
    Column::AGE,
];

pub(super) fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let meta = object.at("metadata");
    vec![
        meta.text("name").into(),
        object.list("webhooks").len().into(),
        duration::age(meta.at("creationTimestamp"), now).into(),
    ]
}

/// Fills in the webhooks; mutating ones have a field more.
pub(super) fn default_webhooks(object: &mut Value, mutating: bool) {
    for hook in items_at(object, "webhooks") {
        default_to(hook, "failurePolicy", "Fail");
        default_to(hook, "matchPolicy", "Equivalent");
        default_to(hook, "namespaceSelector", json!({}));
        default_to(hook, "objectSelector", json!({}));
        default_to(hook, "timeoutSeconds", 10);
        if mutating {
            default_to(hook, "reinvocationPolicy", "Never");
        }
        default_rules(hook, "rules");
        if let Some(client) = hook.get_mut("clientConfig") {
            default_client(client);
        }
    }
}

/// What is borne because the object had it before.
struct Options {
    ignore_conditions: bool,
    harmless: bool,
    known_version: bool,
    unique_names: bool,
    invalid_selectors: bool,
}

impl Options {
    fn of(new: &[Value], old: Option<&[Value]>) -> Self {
        let Some(old) = old else {
            return Self {
                ignore_conditions: false,
                harmless: true,
                known_version: true,
                unique_names: true,
                invalid_selectors: false,
            };
        };
        let mut pairs = new.iter().zip(old);
        let versions = |hook: &Value| {
            let versions = hook.list("admissionReviewVersions");
            versions.is_empty() || versions.iter().any(is_known_version)
        };
        let names: Vec<&str> = old.iter().map(|hook| hook.text("name")).collect();
        Self {
            ignore_conditions: new.len() == old.len()
                && pairs.all(|(a, b)| same(a.at("matchConditions"), b.at("matchConditions"))),
            harmless: old
                .iter()
                .all(|hook| HARMLESS.contains(&hook.text("sideEffects"))),
            known_version: old.iter().all(versions),
            unique_names: (1..names.len()).all(|i| !names[..i].contains(&names[i])),
            invalid_selectors: old.iter().any(|hook| {
                let mut errors = Errors::new();
                validate_selectors(hook, &Path::ROOT, &mut errors);
                !errors.is_empty()
            }),
        }
    }
}

fn is_known_version(version: &Value) -> bool {
    REVIEW_VERSIONS.contains(&version.as_str().unwrap_or(""))
}

/// Checks the webhooks of a new configuration, or of an update of `old`.
pub(super) fn validate_webhooks(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let hooks = new.list("webhooks");
    let options = Options::of(hooks, old.map(|old| old.list("webhooks")));
    let path = Path::new("webhooks");
    let mut seen: Vec<&str> = Vec::new();
    for (i, hook) in hooks.iter().enumerate() {
        let at = path.index(i);
        validate_webhook(hook, &options, &at, errors);
        validate_versions(hook, &options, &at, errors);
        let name = hook.text("name");
        if name.is_empty() {
            continue;
        }
        if options.unique_names && seen.contains(&name) {
            errors.duplicate(&at.child("name"), name);
        }
        seen.push(name);
    }
}

fn validate_webhook(hook: &Value, options: &Options, path: &Path<'_>, errors: &mut Errors) {
    validate_name(hook.text("name"), &path.child("name"), errors);
    let at = path.child("rules");
    for (i, rule) in hook.list("rules").iter().enumerate() {
        validate_rule(rule, &at.index(i), errors);
    }
    for (key, supported) in [
        ("failurePolicy", FAILURE_POLICIES),
        ("matchPolicy", MATCH_POLICIES),
    ] {
        known(hook, key, supported, path, errors);
    }
    let allowed = if options.harmless {
        HARMLESS
    } else {
        SIDE_EFFECTS
    };
    if !hook.has("sideEffects") {
        let detail = format!("must specify one of {}", allowed.join(", "));
        errors.required(&path.child("sideEffects"), &detail);
    }
    known(hook, "sideEffects", allowed, path, errors);
    if let Some(seconds) = hook.int("timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
    }
    if !options.invalid_selectors {
        validate_selectors(hook, path, errors);
    }
    known(
        hook,
        "reinvocationPolicy",
        REINVOCATION_POLICIES,
        path,
        errors,
    );
    validate_client(hook.at("clientConfig"), &path.child("clientConfig"), errors);
    if !options.ignore_conditions {
        let conditions = hook.list("matchConditions");
        validate_match_conditions(conditions, &path.child("matchConditions"), errors);
    }
}

/// Refuses a text that is there and not known.
fn known(hook: &Value, key: &str, supported: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if let Some(text) = hook.opt_text(key).filter(|text| !supported.contains(text)) {
        errors.not_supported(&path.child(key), text, supported);
    }
}

fn validate_selectors(hook: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["namespaceSelector", "objectSelector"] {
        validate_label_selector(hook.at(key), &path.child(key), errors);
    }
}

/// Names are domains, so that those of different vendors never meet.
fn validate_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let faults = names::subdomain(name, false);
    if name.is_empty() {
        errors.required(path, "");
    } else if !faults.is_empty() {
        errors.invalid(path, name, faults.join(","));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid(path, name, detail);
    }
}

fn validate_versions(hook: &Value, options: &Options, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("admissionReviewVersions");
    let versions = hook.list("admissionReviewVersions");
    let accepted = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.required(&at, &format!("must specify one of {accepted}"));
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        let at = at.index(i);
        if versions[..i].contains(version) {
            errors.invalid(&at, version, "duplicate version");
            continue;
        }
        let text = version.as_str().unwrap_or("");
        errors.invalid_each(&at, text, names::label_1035(text, false));
    }
    if options.known_version && !versions.iter().any(is_known_version) {
        let detail = format!("must include at least one of {accepted}");
        errors.invalid(&at, hook.at("admissionReviewVersions"), detail);
    }
}

#[cfg(test)]
mod tests;
