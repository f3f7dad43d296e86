//! What a volume must look like, also one that a VolumeAttachment describes in itself, and what of it stays.

use serde_json::{Map, Value};

use super::MOUNT_OPTIONS_ANNOTATION;
use super::source::{SOURCES, validate_source};
use crate::field::FieldError;
use crate::kinds::core::node_labels;
use crate::kinds::core::pod::validate_node_selector;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, differences, items_at, remove, same, set};
use crate::kinds::{Errors, Path, names};
use crate::quantity::Quantity;

/// Sorted as errors list them.
const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
const INLINE: &str = "may not be specified in the context of inline volumes";

/// Sources that take mount options by annotation.
const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

/// Where the spec of a volume stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context<'a> {
    /// In a PersistentVolume of this name.
    Volume {
        /// The name of the volume.
        name: &'a str,
    },
    /// In a VolumeAttachment.
    Inline,
}

/// Checks the spec of a volume.
pub(crate) fn validate_spec(
    spec: &Value,
    context: Context<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let name = match context {
        Context::Volume { name } => name,
        Context::Inline => "",
    };
    let inline = context == Context::Inline;
    if inline {
        for key in ["claimRef", "capacity"] {
            if !spec.is_empty_at(key) {
                errors.forbidden(&path.child(key), INLINE);
            }
        }
        if !spec.has("csi") {
            let detail = "has to be specified in the context of inline volumes";
            errors.required(&path.child("csi"), detail);
        }
    }
    let modes = path.child("accessModes");
    if spec.is_empty_at("accessModes") {
        errors.required(&modes, "");
    }
    validate_access_modes(spec.list("accessModes"), &modes, errors);
    if !inline {
        capacity(spec.at("capacity"), &path.child("capacity"), errors);
    }
    reclaim_policy(spec, inline, path, errors);
    node_affinity(spec, inline, path, errors);
    validate_source(spec, name, inline, path, errors);
    let policy = path.child("persistentVolumeReclaimPolicy");
    let recycled = spec.text("persistentVolumeReclaimPolicy") == "Recycle";
    if recycled && is_root(spec.at("hostPath").text("path")) {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&policy, detail);
    }
    classes(spec, inline, path, errors);
}

/// Checks the ways in which a volume is used; one pod alone excludes all others.
pub(crate) fn validate_access_modes(modes: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let modes: Vec<&str> = modes.iter().map(|m| m.as_str().unwrap_or("")).collect();
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.not_supported(path, mode, ACCESS_MODES);
    }
    let one_pod = |mode: &&str| *mode == "ReadWriteOncePod";
    let other = |mode: &&str| !one_pod(mode) && ACCESS_MODES.contains(mode);
    if modes.iter().any(one_pod) && modes.iter().any(other) {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn capacity(capacity: &Value, path: &Path<'_>, errors: &mut Errors) {
    let count = capacity.as_object().map_or(0, Map::len);
    if count == 0 {
        errors.required(path, "");
    }
    if !capacity.has("storage") || count > 1 {
        let at = path.to_field_path();
        errors.push(FieldError::not_supported(
            &at,
            capacity.clone(),
            ["storage"],
        ));
    }
    for (name, amount) in capacity.as_object().into_iter().flatten() {
        let at = path.key(name);
        let amount = Quantity::from_json(amount).unwrap_or(Quantity::ZERO);
        if amount.is_negative() {
            errors.invalid(&at, amount.value(), "must be a valid resource quantity");
        }
        if amount <= Quantity::ZERO {
            errors.invalid(&at, amount.to_string(), "must be greater than zero");
        }
    }
}

fn reclaim_policy(spec: &Value, inline: bool, path: &Path<'_>, errors: &mut Errors) {
    let policy = spec.text("persistentVolumeReclaimPolicy");
    let at = path.child("persistentVolumeReclaimPolicy");
    if policy.is_empty() {
        return;
    }
    if inline && policy != "Retain" {
        let detail = "may only be Retain in the context of inline volumes";
        errors.forbidden(&at, detail);
    } else if !RECLAIM_POLICIES.contains(&policy) {
        errors.not_supported(&at, policy, RECLAIM_POLICIES);
    }
}

fn node_affinity(spec: &Value, inline: bool, path: &Path<'_>, errors: &mut Errors) {
    let Some(affinity) = spec.opt("nodeAffinity") else {
        return;
    };
    let at = path.child("nodeAffinity");
    if inline {
        errors.forbidden(&at, INLINE);
        return;
    }
    match affinity.opt("required") {
        Some(required) => validate_node_selector(required, &at.child("required"), errors),
        None => {
            let detail = "must specify required node constraints";
            errors.required(&at.child("required"), detail);
        }
    }
}

/// Whether a path leads to the root of the node.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

fn classes(spec: &Value, inline: bool, path: &Path<'_>, errors: &mut Errors) {
    let class = spec.text("storageClassName");
    let at = path.child("storageClassName");
    if !class.is_empty() {
        if inline {
            errors.forbidden(&at, INLINE);
        } else {
            errors.invalid_each(&at, class, names::subdomain(class, false));
        }
    }
    if let Some(mode) = spec.opt_text("volumeMode") {
        let at = path.child("volumeMode");
        if inline && mode != "Filesystem" {
            let detail =
                "may not specify volumeMode other than Filesystem in the context of inline volumes";
            errors.forbidden(&at, detail);
        } else {
            validate_volume_mode(mode, &at, errors);
        }
    }
    let Some(class) = spec.opt_text("volumeAttributesClassName") else {
        return;
    };
    if inline {
        return;
    }
    let at = path.child("volumeAttributesClassName");
    if class.is_empty() {
        errors.required(&at, "an empty string is disallowed");
    } else {
        errors.invalid_each(&at, class, names::subdomain(class, false));
    }
    if !spec.has("csi") {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.required(&path.child("csi"), detail);
    }
}

/// Checks whether a volume holds files or is a device.
pub(crate) fn validate_volume_mode(mode: &str, path: &Path<'_>, errors: &mut Errors) {
    let modes = ["Block", "Filesystem"];
    if !modes.contains(&mode) {
        errors.not_supported(path, mode, &modes);
    }
}

/// Refuses mount options for sources that are not mounted with any.
pub(super) fn validate_mount_options(object: &Value, errors: &mut Errors) {
    let spec = object.at("spec");
    let annotations = object.at("metadata").at("annotations");
    if annotations.has(MOUNT_OPTIONS_ANNOTATION) && !MOUNTED.iter().any(|key| spec.has(key)) {
        let path = Path::new("metadata.annotations");
        errors.forbidden(
            &path.child(MOUNT_OPTIONS_ANNOTATION),
            "may not specify mount options for this volume type",
        );
    }
}

/// Checks what of a volume stays.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut after, before) = (source_of(new), source_of(old));
    // The secret for growing a volume may come later.
    let secret = "controllerExpandSecretRef";
    if let Some(driver) = after.get_mut("csi")
        && before.has("csi")
        && !before.at("csi").has(secret)
    {
        remove(driver, secret);
    }
    if !same(&after, &before) {
        let changed = differences("spec", &after, &before);
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{changed}");
        errors.forbidden(&Path::new("spec.persistentvolumesource"), detail);
    }
    let mode = Path::new("volumeMode");
    immutable(new.at("volumeMode"), old.at("volumeMode"), &mode, errors);
    let (affinity, old_affinity) = (new.at("nodeAffinity"), old.at("nodeAffinity"));
    if !old_affinity.is_null() && !same(affinity, &renamed(old_affinity, affinity)) {
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.invalid(&Path::new("nodeAffinity"), affinity, detail);
    }
    let class = "volumeAttributesClassName";
    if old.has(class) && !new.has(class) {
        let detail = "update from non-nil value to nil is forbidden";
        errors.forbidden(&Path::new("spec.volumeAttributesClassName"), detail);
    }
}

fn source_of(spec: &Value) -> Value {
    let given = SOURCES.iter().filter(|(key, _)| spec.has(key));
    let given = given.map(|(key, _)| ((*key).to_owned(), spec.at(key).clone()));
    Value::Object(given.collect())
}

/// The old affinity with the labels renamed that the new one has under their newer names.
fn renamed(old: &Value, new: &Value) -> Value {
    let mut renamed = old.clone();
    let Some(required) = renamed.get_mut("required") else {
        return renamed;
    };
    let terms = new.at("required").list("nodeSelectorTerms");
    for (term, new_term) in items_at(required, "nodeSelectorTerms").zip(terms) {
        let expressions = new_term.list("matchExpressions");
        for (expression, newer) in items_at(term, "matchExpressions").zip(expressions) {
            let key = newer.text("key");
            if node_labels::successor(expression.text("key")) == Some(key) {
                set(expression, "key", key);
            }
        }
    }
    renamed
}
