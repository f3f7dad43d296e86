//! PersistentVolumeClaim: somebody asks for storage, and gets a volume bound to it.
//!
//! Invariant: what was asked for stays, but for the size and the attributes of a bound claim; all else would get around
//! quotas and limits.

mod validate;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(crate) use self::validate::{validate_spec, validate_template};
use self::validate::{validate_status, validate_update};
use crate::kinds::core::persistent_volume::{
    CLASS_ANNOTATION, access_modes, class, or_unset, phase, size,
};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, default_absent, default_to, object_at, remove, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};
use crate::quantity::Quantity;

/// `persistentvolumeclaims` of v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "PersistentVolumeClaim",
    list_kind: "PersistentVolumeClaimList",
    resource: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    categories: &[],
    namespaced: true,
    storage_prefix: "persistentvolumeclaims",
    subresources: &[Subresource::status("PersistentVolumeClaim")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether it has its volume."),
        Column::text("Volume", "The volume it has."),
        Column::text("Capacity", "How much fits into the volume."),
        Column::text("Access Modes", "From how many nodes it can be used."),
        Column::text("StorageClass", "The class it asks for."),
        Column::text("VolumeAttributesClass", "The class of its attributes."),
        Column::AGE,
        Column::text("VolumeMode", "Whether it holds files or is a block device.").wide(),
    ],
    strategy: &PersistentVolumeClaim,
};

struct PersistentVolumeClaim;

static RULES: Rules = Rules {
    status: true,
    ..Rules::NAMESPACED
};

impl Strategy for PersistentVolumeClaim {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        if let Some(status) = object_at(object, "status") {
            default_to(status, "phase", "Pending");
        }
        if let Some(spec) = object_at(object, "spec") {
            default_spec(spec);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({"phase": "Pending"}));
        if let Some(spec) = object_at(object, "spec") {
            settle_data_sources(spec, &Value::Null);
        }
    }

    fn carry_over(&self, new: &mut Value, old: &Value) {
        if let Some(spec) = object_at(new, "spec") {
            settle_data_sources(spec, old.at("spec"));
        }
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        validate_spec(object.at("spec"), &Value::Null, &path, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        validate_spec(new.at("spec"), old.at("spec"), &path, errors);
        validate_update(new, old, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_status(new.at("status"), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings(object)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (meta, spec, status) = (
            object.at("metadata"),
            object.at("spec"),
            object.at("status"),
        );
        // Until it is bound, nobody knows what it gets.
        let (capacity, modes) = match spec.is_empty_at("volumeName") {
            true => (String::new(), String::new()),
            false => (
                size(status.at("capacity")),
                access_modes(status.list("accessModes")),
            ),
        };
        vec![
            meta.text("name").into(),
            phase(object).into(),
            spec.text("volumeName").into(),
            capacity.into(),
            modes.into(),
            class(object).into(),
            or_unset(spec, "volumeAttributesClassName").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            or_unset(spec, "volumeMode").into(),
        ]
    }
}

/// Fills in the defaults of a claim's spec, in a claim or in a template.
pub(crate) fn default_spec(spec: &mut Value) {
    default_absent(spec, "volumeMode", "Filesystem");
}

/// There are two fields for what a volume is filled with at first: an older one that knows claims and snapshots, and
/// drops all else silently, and a newer one. Each is made to say what the other says.
fn settle_data_sources(spec: &mut Value, old: &Value) {
    let (source, reference) = ("dataSource", "dataSourceRef");
    let from_elsewhere = !spec.at(reference).is_empty_at("namespace");
    if from_elsewhere && !old.has(reference) {
        // Sources in other namespaces are an alpha feature.
        remove(spec, reference);
    }
    let before = old.has(source) || old.has(reference);
    if !before && !spec.has(reference) && !is_known_source(spec.at(source)) {
        remove(spec, source);
    }
    match (spec.opt(source), spec.opt(reference)) {
        (Some(given), None) => {
            let copy = copied(given);
            set(spec, reference, copy);
        }
        (None, Some(given)) if given.is_empty_at("namespace") => {
            let copy = copied(given);
            set(spec, source, copy);
        }
        _ => {}
    }
}

fn is_known_source(source: &Value) -> bool {
    matches!(
        (source.text("apiGroup"), source.text("kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

fn copied(reference: &Value) -> Value {
    let keys = ["apiGroup", "kind", "name"].into_iter();
    let given = keys.filter(|key| reference.has(key));
    let entry = |key: &str| (key.to_owned(), reference.at(key).clone());
    Value::Object(given.map(entry).collect::<Map<_, _>>())
}

fn warnings(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if object
        .at("metadata")
        .at("annotations")
        .has(CLASS_ANNOTATION)
    {
        found.push(format!(
            "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    for which in ["requests", "limits"] {
        let amount = object.at("spec").at("resources").at(which).at("storage");
        if let Ok(amount) = Quantity::from_json(amount)
            && amount.milli_value() % 1000 != 0
        {
            found.push(format!(
                "spec.resources.{which}[storage]: fractional byte value \"{amount}\" is invalid, must be an integer"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests;
