//! Where a volume is: one of many kinds of storage. Kinds that need a plugin of the past get the checks that need no
//! knowledge of them, their required fields.

use serde_json::Value;

use crate::kinds::core::pod::{no_back_steps, validate_host_path};
use crate::kinds::storage::validate_driver_name;
use crate::kinds::value::{Get, default_absent, default_to};
use crate::kinds::{Errors, Path, names};

/// The kinds in the order in which they are looked at, with the fields that they cannot do without.
pub(super) const SOURCES: &[(&str, &[&str])] = &[
    ("hostPath", &[]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &["registry", "volume"]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &[]),
    ("storageos", &["volumeName"]),
    ("csi", &[]),
];

const LUN_MAX: i64 = 255;
const LUN: &str = "must be between 0 and 255, inclusive";

/// Fills in what sources of volumes and of pods' volumes leave out.
pub(crate) fn default_source(holder: &mut Value) {
    let texts: [(&str, &[(&str, &str)]); 4] = [
        (
            "rbd",
            &[
                ("pool", "rbd"),
                ("user", "admin"),
                ("keyring", "/etc/ceph/keyring"),
            ],
        ),
        ("iscsi", &[("iscsiInterface", "default")]),
        (
            "azureDisk",
            &[
                ("cachingMode", "ReadWrite"),
                ("fsType", "ext4"),
                ("kind", "Shared"),
            ],
        ),
        (
            "scaleIO",
            &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")],
        ),
    ];
    for (key, defaults) in texts {
        if let Some(source) = holder.get_mut(key).filter(|source| source.is_object()) {
            for (field, value) in defaults {
                default_to(source, field, *value);
            }
        }
    }
    let mut of = |key: &str, field: &str, value: Value| {
        if let Some(source) = holder.get_mut(key).filter(|source| source.is_object()) {
            default_absent(source, field, value);
        }
    };
    of("azureDisk", "readOnly", false.into());
    of("hostPath", "type", "".into());
}

/// Checks that there is exactly one source, and the source.
pub(super) fn validate_source(
    spec: &Value,
    name: &str,
    inline: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let given = SOURCES.iter().filter(|(key, _)| spec.has(key));
    for (i, (key, required)) in given.clone().enumerate() {
        let at = path.child(key);
        if i > 0 {
            errors.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        let source = spec.at(key);
        for field in required.iter().filter(|field| source.is_empty_at(field)) {
            errors.required(&at.child(field), "");
        }
        one_source(key, source, name, &at, errors);
        if *key == "local" && (inline || !spec.has("nodeAffinity")) {
            let detail = "Local volume requires node affinity";
            errors.required(&path.child("nodeAffinity"), detail);
        }
    }
    if given.count() == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn one_source(key: &str, source: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    match key {
        "hostPath" => validate_host_path(source, path, errors),
        "local" if source.is_empty_at("path") => errors.required(&path.child("path"), ""),
        "local" => no_back_steps(source.text("path"), &path.child("path"), errors),
        "nfs" if !source.text("path").starts_with('/') => {
            let detail = "must be an absolute path";
            errors.invalid(&path.child("path"), source.text("path"), detail);
        }
        "iscsi" => iscsi(source, name, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "cinder" | "storageos" => {
            if let Some(secret) = source.opt("secretRef") {
                for field in ["name", "namespace"] {
                    if secret.is_empty_at(field) {
                        errors.required(&path.child("secretRef").child(field), "");
                    }
                }
            }
        }
        "csi" => csi(source, path, errors),
        _ => {}
    }
}

fn iscsi(source: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let portal = source.text("targetPortal");
    if source.has("initiatorName") && name.len() + 1 + portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                      iscsi.initiatorName is specified.";
        errors.invalid(&path.child("targetportal"), portal, detail);
    }
    let known = |name: &str| {
        let mut prefixes = ["iqn", "eui", "naa"].iter();
        prefixes.any(|prefix| name.starts_with(prefix))
    };
    for (key, shown) in [("iqn", "iqn"), ("initiatorName", "initiatorname")] {
        let text = source.text(key);
        if !text.is_empty() && !known(text) {
            errors.invalid(&path.child(shown), text, "must be valid format");
        }
    }
    let lun = source.int("lun").unwrap_or(0);
    if !(0..=LUN_MAX).contains(&lun) {
        errors.invalid(&path.child("lun"), lun, LUN);
    }
    let secret = path.child("secretRef");
    let authenticated = source.flag("chapAuthDiscovery") || source.flag("chapAuthSession");
    match source.opt("secretRef") {
        None if authenticated => errors.required(&secret, ""),
        Some(given) if given.is_empty_at("name") => errors.required(&secret.child("name"), ""),
        _ => {}
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let targets = path.child("targetWWNs");
    let (has_targets, has_ids) = (
        !source.is_empty_at("targetWWNs"),
        !source.is_empty_at("wwids"),
    );
    match (has_targets, has_ids) {
        (false, false) => {
            let detail = "must specify either targetWWNs or wwids, but not both";
            errors.required(&targets, detail);
        }
        (true, true) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.invalid(&targets, source.at("targetWWNs"), detail);
        }
        _ => {}
    }
    match source.int("lun") {
        None if has_targets => {
            let detail = "lun is required if targetWWNs is specified";
            errors.required(&path.child("lun"), detail);
        }
        Some(lun) if has_targets && !(0..=LUN_MAX).contains(&lun) => {
            errors.invalid(&path.child("lun"), lun, LUN);
        }
        _ => {}
    }
}

fn csi(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_driver_name(source.text("driver"), &path.child("driver"), errors);
    if source.is_empty_at("volumeHandle") {
        errors.required(&path.child("volumeHandle"), "");
    }
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(secret) = source.opt(key) {
            secret_reference(secret, &path.child(key), errors);
        }
    }
}

fn secret_reference(secret: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (name, namespace) = (secret.text("name"), secret.text("namespace"));
    let at = path.child("name");
    if name.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, name, names::subdomain(name, false));
    }
    let at = path.child("namespace");
    if namespace.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, namespace, names::label(namespace, false));
    }
}
