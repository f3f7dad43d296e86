//! The templates of claims in a StatefulSet: one volume for each pod.
//!
//! A template is a claim in full, but only its spec counts; its status is there because Go's type has one.

use serde_json::Value;

use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::core::pod::canonical_amounts;
use crate::kinds::value::{Get, default_to, object_at, set};
use crate::kinds::{Errors, Path, names};
use crate::quantity::Quantity;

const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
/// The mode that allows no other beside it.
const ONE_POD: &str = "ReadWriteOncePod";

/// What a template gets that its author left out.
pub(super) fn default(template: &mut Value) {
    set(template, "apiVersion", "v1");
    set(template, "kind", "PersistentVolumeClaim");
    if let Some(spec) = object_at(template, "spec") {
        default_to(spec, "volumeMode", "Filesystem");
        if let Some(resources) = object_at(spec, "resources") {
            canonical_amounts(resources, "limits");
            canonical_amounts(resources, "requests");
        }
    }
    if let Some(status) = object_at(template, "status") {
        default_to(status, "phase", "Pending");
        canonical_amounts(status, "capacity");
        canonical_amounts(status, "allocatedResources");
    }
}

/// Checks the spec of a claim.
pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    access_modes(spec, &path.child("accessModes"), errors);
    validate_label_selector(spec.at("selector"), &path.child("selector"), errors);
    let resources = path.child("resources");
    let at = resources.key("storage");
    match spec.at("resources").at("requests").opt("storage") {
        None => errors.required(&at, ""),
        Some(amount) => match Quantity::from_json(amount) {
            Err(error) => errors.invalid(&at, amount, error.to_string()),
            Ok(amount) if amount.is_zero() || amount.is_negative() => {
                errors.invalid(&at, amount.to_string(), "must be greater than zero");
            }
            Ok(_) => {}
        },
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        let name = spec.text(key);
        if !name.is_empty() {
            errors.invalid_each(&path.child(key), name, names::subdomain(name, false));
        }
    }
    if let Some(mode) = spec.opt_text("volumeMode")
        && !matches!(mode, "Block" | "Filesystem")
    {
        errors.not_supported(&path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    data_sources(spec, path, errors);
}

fn access_modes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let modes = spec.list("accessModes");
    if modes.is_empty() {
        errors.required(path, "at least 1 access mode is required");
    }
    let modes: Vec<&str> = modes.iter().map(|m| m.as_str().unwrap_or("")).collect();
    let unknown = |mode: &&str| !ACCESS_MODES.contains(mode);
    for mode in modes.iter().filter(|mode| unknown(mode)) {
        errors.not_supported(path, mode, ACCESS_MODES);
    }
    let others = modes.iter().any(|mode| *mode != ONE_POD && !unknown(mode));
    if modes.contains(&ONE_POD) && others {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.forbidden(path, detail);
    }
}

fn data_sources(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.opt(key) {
            data_source(source, &path.child(key), errors);
        }
    }
    let (Some(source), Some(reference)) = (spec.opt("dataSource"), spec.opt("dataSourceRef"))
    else {
        return;
    };
    let key = |source: &Value| {
        let text = |key: &str| source.text(key).to_owned();
        (text("apiGroup"), text("kind"), text("name"))
    };
    // Upstream shows the path of the field where others show its value.
    let shown = path.child("dataSource").to_field_path().as_str().to_owned();
    if !reference.is_empty_at("namespace") {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.invalid(path, shown, detail);
    } else if key(source) != key(reference) {
        errors.invalid(path, shown, "must match dataSourceRef");
    }
}

fn data_source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["name", "kind"] {
        if source.is_empty_at(key) {
            errors.required(&path.child(key), "");
        }
    }
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(path, kind, detail);
    }
    if !group.is_empty() {
        let faults = names::subdomain(group, false);
        errors.invalid_each(&path.child("apiGroup"), group, faults);
    }
    let namespace = source.text("namespace");
    if !namespace.is_empty() {
        let faults = names::label(namespace, false);
        errors.invalid_each(&path.child("namespace"), namespace, faults);
    }
}

/// Warns of amounts with parts of bytes.
pub(super) fn warnings(spec: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    let path = path.child("resources");
    for kind in ["requests", "limits"] {
        let amount = spec.at("resources").at(kind).at("storage");
        if let Ok(quantity) = Quantity::from_json(amount)
            && !quantity.is_integer()
        {
            let at = path.child(kind);
            let at = at.key("storage").to_field_path();
            found.push(format!(
                "{at}: fractional byte value \"{quantity}\" is invalid, must be an integer"
            ));
        }
    }
}
