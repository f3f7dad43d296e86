//! Volumes of a pod, and their places in its containers.

mod source;

pub(crate) use source::host_path;

use serde_json::Value;

use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

/// The names of a pod's volumes.
pub(super) struct VolumeNames<'a>(Vec<&'a str>);

impl<'a> VolumeNames<'a> {
    /// The names in a list of volumes.
    pub(super) fn of(volumes: &'a [Value]) -> Self {
        Self(volumes.iter().map(|volume| volume.text("name")).collect())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

/// Checks the volumes and collects their names.
pub(super) fn volumes<'a>(
    volumes: &'a [Value],
    path: &Path<'_>,
    errors: &mut Errors,
) -> VolumeNames<'a> {
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        source::source(volume, &at, errors);
        let name = volume.text("name");
        let at = at.child("name");
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        errors.invalid_each(&at, name, names::label(name, false));
        if volumes[..i].iter().any(|v| v.text("name") == name) {
            errors.duplicate(&at, name);
        }
    }
    VolumeNames::of(volumes)
}

/// Checks where a container sees volumes.
pub(super) fn mounts(
    container: &Value,
    volumes: &VolumeNames<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let mounts = container.list("volumeMounts");
    let at = path.child("volumeMounts");
    for (i, mount) in mounts.iter().enumerate() {
        let at = at.index(i);
        let name = mount.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if !volumes.contains(name) {
            errors.not_found(&at.child("name"), name);
        }
        let place = mount.text("mountPath");
        if place.is_empty() {
            errors.required(&at.child("mountPath"), "");
        } else if mounts[..i].iter().any(|m| m.text("mountPath") == place) {
            errors.invalid(&at.child("mountPath"), place, "must be unique");
        }
        sub_paths(mount, &at, errors);
        propagation(mount, container, &at, errors);
    }
    devices(container, volumes, &path.child("volumeDevices"), errors);
}

fn sub_paths(mount: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["subPath", "subPathExpr"] {
        let text = mount.text(key);
        if !text.is_empty() {
            local_path(text, &path.child(key), errors);
        }
    }
    if !mount.is_empty_at("subPath") && !mount.is_empty_at("subPathExpr") {
        let detail = "subPathExpr and subPath are mutually exclusive";
        errors.invalid(&path.child("subPathExpr"), mount.at("subPathExpr"), detail);
    }
}

fn propagation(mount: &Value, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("mountPropagation");
    let Some(mode) = mount.opt_text("mountPropagation") else {
        return;
    };
    match mode {
        "None" | "HostToContainer" => {}
        "Bidirectional" => {
            if !container.at("securityContext").flag("privileged") {
                errors.forbidden(
                    &at,
                    "Bidirectional mount propagation is available only to privileged containers",
                );
            }
        }
        other => errors.not_supported(&at, other, &["Bidirectional", "HostToContainer", "None"]),
    }
}

fn devices(container: &Value, volumes: &VolumeNames<'_>, path: &Path<'_>, errors: &mut Errors) {
    let devices = container.list("volumeDevices");
    for (i, device) in devices.iter().enumerate() {
        let at = path.index(i);
        let name = device.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if !volumes.contains(name) {
            errors.not_found(&at.child("name"), name);
        }
        let place = device.text("devicePath");
        if place.is_empty() {
            errors.required(&at.child("devicePath"), "");
        } else if devices[..i].iter().any(|d| d.text("devicePath") == place) {
            errors.invalid(&at.child("devicePath"), place, "must be unique");
        } else {
            no_back_steps(place, &at.child("devicePath"), errors);
        }
    }
}

/// Checks a path that stays below where it starts.
fn local_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_back_steps(text, path, errors);
}

/// Refuses paths that climb.
pub(crate) fn no_back_steps(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// Checks the path of a file in a volume; names that begin with two dots are the node agent's.
fn file_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    local_path(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}
