//! What a StatefulSet must look like, and what an update may change.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::claim;
use crate::kinds::apps::workload::{
    is_zero, validate_int_or_percent, validate_non_negative, validate_selector,
    validate_selector_matches, validate_template_life, validate_template_spec,
};
use crate::kinds::value::{Get, keep, object_at, remove, same, set};
use crate::kinds::{Errors, Path, names};

/// The fields of the spec that an update may change.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

/// How much of a spec is checked: what could be stored before a rule came must stay updatable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// All of it.
    New,
    /// Not the fields that cannot change.
    Update,
    /// Nor the pods of the template, which were wrong before.
    UpdateOfBroken,
}

/// Checks an update.
pub(super) fn change(new: &Value, old: &Value, errors: &mut Errors) {
    let mut before = Errors::new();
    spec(old, Depth::Update, &mut before);
    let depth = if before.is_empty() {
        Depth::Update
    } else {
        Depth::UpdateOfBroken
    };
    spec(new, depth, errors);
    let mut rest = new.clone();
    for key in CHANGEABLE {
        keep(&mut rest, old, key);
    }
    if !same(&rest, old) {
        errors.forbidden(
            &Path::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// Checks a spec.
pub(super) fn spec(spec: &Value, depth: Depth, errors: &mut Errors) {
    let path = Path::new("spec");
    let at = path.child("podManagementPolicy");
    match spec.text("podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.required(&at, ""),
        other => errors.invalid(&at, other, "must be 'OrderedReady' or 'Parallel'"),
    }
    let at = path.child("updateStrategy");
    update_strategy(spec.at("updateStrategy"), &at, errors);
    let at = path.child("persistentVolumeClaimRetentionPolicy");
    retention(spec.at("persistentVolumeClaimRetentionPolicy"), &at, errors);
    if depth == Depth::New {
        let at = path.child("volumeClaimTemplates");
        for (i, template) in spec.list("volumeClaimTemplates").iter().enumerate() {
            claim::validate(template.at("spec"), &at.index(i).child("spec"), errors);
        }
    }
    validate_non_negative(spec, &path, &["replicas", "minReadySeconds"], errors);
    let start = spec.at("ordinals").int("start");
    errors.non_negative(&path.child("ordinals.start"), start);
    let service = spec.text("serviceName");
    if depth == Depth::New && !service.is_empty() {
        let faults = names::label(service, false);
        errors.invalid_each(&path.child("serviceName"), service, faults);
    }
    validate_selector(spec, "statefulset", errors);
    validate_selector_matches(spec, errors);
    if depth != Depth::UpdateOfBroken {
        validate_template_spec(&checked_template(spec), &path.child("template"), errors);
    }
    validate_template_life(spec.at("template").at("spec"), "StatefulSet", errors);
}

fn update_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.opt("rollingUpdate")) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            errors.invalid(
                &at,
                rolling,
                "only allowed for updateStrategy 'RollingUpdate'",
            );
        }
        ("RollingUpdate", Some(rolling)) => {
            errors.non_negative(&at.child("partition"), rolling.int("partition"));
            if let Some(unavailable) = rolling.opt("maxUnavailable") {
                let at = at.child("maxUnavailable");
                validate_int_or_percent(unavailable, true, &at, errors);
                if is_zero(unavailable) {
                    errors.invalid(&at, unavailable, "cannot be 0");
                }
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => errors.invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn retention(policy: &Value, path: &Path<'_>, errors: &mut Errors) {
    if policy.is_null() {
        return;
    }
    for key in ["whenDeleted", "whenScaled"] {
        let what = policy.text(key);
        if !matches!(what, "Retain" | "Delete") {
            errors.not_supported(&path.child(key), what, &["Retain", "Delete"]);
        }
    }
}

/// The template as its pods will be: named by the controller, and with a volume for each claim.
fn checked_template(spec: &Value) -> Cow<'_, Value> {
    let template = spec.at("template");
    let claims = spec.list("volumeClaimTemplates");
    let pod_spec = template.at("spec");
    let named = !pod_spec.is_empty_at("hostname") || !pod_spec.is_empty_at("subdomain");
    if claims.is_empty() && !named {
        return Cow::Borrowed(template);
    }
    let mut template = template.clone();
    if let Some(pod_spec) = object_at(&mut template, "spec") {
        remove(pod_spec, "hostname");
        remove(pod_spec, "subdomain");
        let mut names: Vec<&str> = Vec::new();
        for claim in claims {
            let name = claim.at("metadata").text("name");
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let volume =
            |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        let mut volumes: Vec<Value> = names.iter().map(volume).collect();
        // The controller puts a claim in the place of a volume of the same name.
        let others = pod_spec.list("volumes").iter();
        volumes.extend(
            others
                .filter(|volume| !names.contains(&volume.text("name")))
                .cloned(),
        );
        if !volumes.is_empty() {
            set(pod_spec, "volumes", volumes);
        }
    }
    Cow::Owned(template)
}
