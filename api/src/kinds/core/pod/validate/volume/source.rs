//! Where a volume's content comes from. Sources that this project does not run yet get the checks that need no
//! knowledge of them: exactly one source, and its required fields.

use serde_json::Value;

use super::{file_path, no_back_steps};
use crate::kinds::core::persistent_volume_claim;
use crate::kinds::core::pod::validate::env::{FILE_FIELDS, field_ref, resource_ref};
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path};
use crate::quantity::Quantity;

const MODE_MAX: i64 = 0o777;
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
/// Sources without checks of their own, with the fields they cannot do without.
const PLAIN: &[(&str, &[&str])] = &[
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("csi", &["driver"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("gcePersistentDisk", &["pdName"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("rbd", &["monitors", "image"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flexVolume", &["driver"]),
    ("vsphereVolume", &["volumePath"]),
    ("quobyte", &["registry", "volume"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &[]),
    ("fc", &[]),
    ("flocker", &[]),
    ("gitRepo", &["repository"]),
    ("image", &["reference"]),
];

/// Checks that a volume has exactly one source, and the source.
pub(super) fn source(volume: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut given = 0;
    for (key, value) in volume.as_object().into_iter().flatten() {
        if key == "name" || value.is_null() {
            continue;
        }
        given += 1;
        let at = path.child(key);
        if given > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type");
        } else {
            one_source(key, value, &at, errors);
        }
    }
    if given == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn one_source(key: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match key {
        "emptyDir" => empty_dir(value, path, errors),
        "hostPath" => host_path(value, path, errors),
        "secret" => {
            if value.is_empty_at("secretName") {
                errors.required(&path.child("secretName"), "");
            }
            files(value, path, errors);
        }
        "configMap" => {
            if value.is_empty_at("name") {
                errors.required(&path.child("name"), "");
            }
            files(value, path, errors);
        }
        "downwardAPI" => {
            mode(value, "defaultMode", path, errors);
            downward(value, path, errors);
        }
        "projected" => projected(value, path, errors),
        "ephemeral" => match value.opt("volumeClaimTemplate") {
            None => errors.required(&path.child("volumeClaimTemplate"), ""),
            Some(template) => {
                let at = path.child("volumeClaimTemplate");
                persistent_volume_claim::validate_template(template, &at, errors);
            }
        },
        _ => {
            let required = PLAIN
                .iter()
                .find(|(name, _)| *name == key)
                .map_or(&[][..], |(_, fields)| fields);
            for field in required.iter().filter(|field| value.is_empty_at(field)) {
                errors.required(&path.child(field), "");
            }
            let place = value.text("path");
            if key == "nfs" && !place.is_empty() && !place.starts_with('/') {
                errors.invalid(&path.child("path"), place, "must be an absolute path");
            }
        }
    }
}

fn empty_dir(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(limit) = value.opt("sizeLimit")
        && Quantity::from_json(limit).is_ok_and(Quantity::is_negative)
    {
        errors.forbidden(
            &path.child("sizeLimit"),
            "SizeLimit field must be a valid resource quantity",
        );
    }
}

/// Checks a place on the node.
pub(crate) fn host_path(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let text = value.text("path");
    if text.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_back_steps(text, &path.child("path"), errors);
    let kind = value.text("type");
    if !HOST_PATH_TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, HOST_PATH_TYPES);
    }
}

/// Checks modes and items of sources that turn keys into files.
fn files(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    mode(value, "defaultMode", path, errors);
    items(value, path, errors);
}

fn items(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("items");
    for (i, item) in value.list("items").iter().enumerate() {
        let at = at.index(i);
        if item.is_empty_at("key") {
            errors.required(&at.child("key"), "");
        }
        required_file(item, &at, errors);
        mode(item, "mode", &at, errors);
    }
}

fn required_file(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    if item.is_empty_at("path") {
        errors.required(&path.child("path"), "");
    } else {
        file_path(item.text("path"), &path.child("path"), errors);
    }
}

fn mode(value: &Value, key: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = value.int(key).filter(|mode| !(0..=MODE_MAX).contains(mode)) {
        errors.invalid(&path.child(key), mode, MODE);
    }
}

fn downward(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    // Upstream names no `items` in these paths.
    for item in value.list("items") {
        required_file(item, path, errors);
        match (item.opt("fieldRef"), item.opt("resourceFieldRef")) {
            (Some(_), Some(_)) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", detail);
            }
            (Some(field), None) => {
                field_ref(field, FILE_FIELDS, false, &path.child("fieldRef"), errors)
            }
            (None, Some(resource)) => {
                resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
            }
            (None, None) => {
                errors.required(path, "one of fieldRef and resourceFieldRef is required")
            }
        }
        mode(item, "mode", path, errors);
    }
}

fn projected(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    mode(value, "defaultMode", path, errors);
    let at = path.child("sources");
    for (i, source) in value.list("sources").iter().enumerate() {
        let at = at.index(i);
        let mut given = 0;
        for (kind, value) in source
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| !v.is_null())
        {
            let at = at.child(kind);
            given += 1;
            if given > 1 {
                errors.forbidden(&at, "may not specify more than 1 volume type per source");
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    if value.is_empty_at("name") {
                        errors.required(&at.child("name"), "");
                    }
                    items(value, &at, errors);
                }
                "downwardAPI" => downward(value, &at, errors),
                "serviceAccountToken" => token(value, &at, errors),
                "clusterTrustBundle" => required_file(value, &at, errors),
                _ => {}
            }
        }
    }
    unique_files(value, path, errors);
}

fn token(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let seconds = value.int("expirationSeconds").unwrap_or(0);
    let at = path.child("expirationSeconds");
    if seconds < 600 {
        errors.invalid(
            &at,
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    } else if seconds > 1 << 32 {
        errors.invalid(
            &at,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    required_file(value, path, errors);
}

/// Two sources may not write the same file.
fn unique_files(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    let at = path.child("sources");
    for (i, source) in value.list("sources").iter().enumerate() {
        let listed = ["secret", "configMap", "downwardAPI"]
            .into_iter()
            .flat_map(|kind| source.at(kind).list("items"));
        let single = source.opt("serviceAccountToken").into_iter();
        for file in listed
            .chain(single)
            .map(|item| item.text("path"))
            .filter(|file| !file.is_empty())
        {
            if seen.contains(&file) {
                let at = at.index(i);
                let name = source
                    .as_object()
                    .and_then(|map| map.values().next())
                    .map_or("", |v| v.text("name"));
                let detail = format!("conflicting duplicate paths: {name}");
                errors.invalid(&at, file, detail);
            } else {
                seen.push(file);
            }
        }
    }
}
