//! What a claim must look like, alone or in a template, and what of it may change.

use serde_json::Value;

use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::core::persistent_volume::{
    CLASS_ANNOTATION, validate_access_modes, validate_volume_mode,
};
use crate::kinds::object_meta::validate_bare_template;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, differences, keep, object_at, remove, same, set};
use crate::kinds::{Errors, Path, names};
use crate::quantity::Quantity;

const CLASS: &str = "storageClassName";
const ATTRIBUTES_CLASS: &str = "volumeAttributesClassName";
/// How far growing has come, sorted as errors list it.
const RESIZE_STATUSES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// Checks a template of claims.
pub(crate) fn validate_template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_bare_template(template.at("metadata"), &path.child("metadata"), errors);
    validate_spec(
        template.at("spec"),
        &Value::Null,
        &path.child("spec"),
        errors,
    );
}

/// Checks the spec of a claim; `old` is null for a new one.
pub(crate) fn validate_spec(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let modes = path.child("accessModes");
    if spec.is_empty_at("accessModes") {
        errors.required(&modes, "at least 1 access mode is required");
    }
    validate_label_selector(spec.at("selector"), &path.child("selector"), errors);
    validate_access_modes(spec.list("accessModes"), &modes, errors);
    let resources = path.child("resources");
    let at = resources.key("storage");
    match spec.at("resources").at("requests").opt("storage") {
        None => errors.required(&at, ""),
        Some(amount) => {
            let amount = Quantity::from_json(amount).unwrap_or(Quantity::ZERO);
            if amount <= Quantity::ZERO {
                errors.invalid(&at, amount.to_string(), "must be greater than zero");
            }
        }
    }
    class_name(spec.text(CLASS), &path.child(CLASS), errors);
    if let Some(mode) = spec.opt_text("volumeMode") {
        validate_volume_mode(mode, &path.child("volumeMode"), errors);
    }
    data_sources(spec, old, path, errors);
    let class = spec.text(ATTRIBUTES_CLASS);
    class_name(class, &path.child(ATTRIBUTES_CLASS), errors);
}

fn class_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if !name.is_empty() {
        errors.invalid_each(path, name, names::subdomain(name, false));
    }
}

fn data_sources(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let keys = ["dataSource", "dataSourceRef"];
    // A group that was let in once stays.
    let grouped = keys.iter().any(|key| old.at(key).has("apiGroup"));
    for key in keys {
        let Some(source) = spec.opt(key) else {
            continue;
        };
        let at = path.child(key);
        for field in ["name", "kind"] {
            if source.is_empty_at(field) {
                errors.required(&at.child(field), "");
            }
        }
        let (group, kind) = (source.text("apiGroup"), source.text("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&at, kind, detail);
        }
        if !group.is_empty() && !grouped {
            let faults = names::subdomain(group, false);
            errors.invalid_each(&at.child("apiGroup"), group, faults);
        }
        let namespace = source.text("namespace");
        if !namespace.is_empty() {
            let faults = names::label(namespace, false);
            errors.invalid_each(&at.child("namespace"), namespace, faults);
        }
    }
    let (Some(source), Some(reference)) = (spec.opt(keys[0]), spec.opt(keys[1])) else {
        return;
    };
    let shown = path.child(keys[0]).to_field_path().to_string();
    if !reference.is_empty_at("namespace") {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.invalid(path, shown, detail);
    } else if ["apiGroup", "kind", "name"]
        .iter()
        .any(|field| source.at(field) != reference.at(field))
    {
        errors.invalid(path, shown, "must match dataSourceRef");
    }
}

/// Checks what of a claim stays.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let mut masked = spec.clone();
    if before.is_empty_at("volumeName") {
        keep(&mut masked, before, "volumeName");
    }
    mask_class(&mut masked, new, old, errors);
    if new.at("status").text("phase") == "Bound" {
        let requests = object_at(&mut masked, "resources").and_then(|r| r.get_mut("requests"));
        if let Some(requests) = requests {
            let size = before.at("resources").at("requests").at("storage").clone();
            set(requests, "storage", size);
        }
        keep(&mut masked, before, ATTRIBUTES_CLASS);
    }
    // An empty class says that there shall be none, an absent one leaves it to others.
    let absence = |key: &str| masked.has(key) != before.has(key);
    if !same(&masked, before) || absence(CLASS) || absence(ATTRIBUTES_CLASS) {
        let changed = differences("spec", &masked, before);
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n{changed}"
        );
        errors.forbidden(&Path::new("spec"), detail);
    }
    shrinking(spec, old, errors);
    let mode = Path::new("volumeMode");
    immutable(
        spec.at("volumeMode"),
        before.at("volumeMode"),
        &mode,
        errors,
    );
    attributes_class(spec, old, errors);
}

/// Sets back a change of the class that is allowed: from the annotation of old to the field, or from nothing.
fn mask_class(masked: &mut Value, new: &Value, old: &Value, errors: &mut Errors) {
    let annotation = |object: &'_ Value| {
        let annotations = object.at("metadata").at("annotations");
        annotations.opt_text(CLASS_ANNOTATION).map(str::to_owned)
    };
    let (after, before) = (annotation(new), annotation(old));
    let class = new.at("spec").opt_text(CLASS);
    let unset = !old.at("spec").has(CLASS);
    let same_class = before.is_some() && class == before.as_deref();
    if unset && same_class && (after.is_none() || after == before) {
        remove(masked, CLASS);
        return;
    }
    let (after, before_text) = (
        after.unwrap_or_default(),
        before.as_deref().unwrap_or_default(),
    );
    if after != before_text {
        let path = Path::new("metadata.annotations");
        errors.invalid(&path.child(CLASS_ANNOTATION), after, "field is immutable");
    }
    if unset && class.is_some() && (before.is_none() || same_class) {
        remove(masked, CLASS);
    }
}

/// A claim may ask for less again, but not for what it has already or less.
fn shrinking(spec: &Value, old: &Value, errors: &mut Errors) {
    let amount =
        |holder: &Value| Quantity::from_json(holder.at("storage")).unwrap_or(Quantity::ZERO);
    let size = amount(spec.at("resources").at("requests"));
    let before = amount(old.at("spec").at("resources").at("requests"));
    let capacity = amount(old.at("status").at("capacity"));
    if size < before && size <= capacity {
        let path = Path::new("spec.resources.requests.storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
}

fn attributes_class(spec: &Value, old: &Value, errors: &mut Errors) {
    let class = spec.opt_text(ATTRIBUTES_CLASS);
    let applied = old.at("status").has("currentVolumeAttributesClassName");
    if !applied || class == old.at("spec").opt_text(ATTRIBUTES_CLASS) {
        return;
    }
    let path = Path::new("spec.volumeAttributesClassName");
    match class {
        None => errors.forbidden(
            &path,
            "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
        ),
        Some("") => errors.forbidden(
            &path,
            "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil",
        ),
        Some(_) => {}
    }
}

/// Checks the status.
pub(super) fn validate_status(status: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let at = path.child("capacity");
    for (name, amount) in status.entries("capacity") {
        not_below_zero(amount, &at.key(name), errors);
    }
    let at = path.child("allocatedResourceStatuses");
    for (name, state) in status.entries("allocatedResourceStatuses") {
        resource_key(name, &at, errors);
        if !RESIZE_STATUSES.contains(&state.as_str().unwrap_or("")) {
            errors.not_supported(&at, name, RESIZE_STATUSES);
        }
    }
    let at = path.child("allocatedResources");
    for (name, amount) in status.entries("allocatedResources") {
        if resource_key(name, &at, errors) {
            not_below_zero(amount, &at.key(name), errors);
        }
    }
}

fn not_below_zero(amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Ok(amount) = Quantity::from_json(amount)
        && amount.is_negative()
    {
        errors.invalid(path, amount.value(), "must be a valid resource quantity");
    }
}

/// Of Kubernetes' own resources a claim has storage only.
fn resource_key(name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let faults = names::qualified_name(name);
    if !faults.is_empty() {
        errors.invalid_each(path, name, faults);
        return false;
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if native && name != "storage" {
        errors.not_supported(path, name, &["storage"]);
        return false;
    }
    true
}
