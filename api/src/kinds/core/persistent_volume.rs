//! PersistentVolume: a piece of storage in the cluster, with where it is and who has claimed it.
//!
//! Invariant: where a volume is never changes once it exists.

mod source;
mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) use self::source::default_source;
pub(crate) use self::validate::{
    Context, validate_access_modes, validate_spec, validate_volume_mode,
};
use self::validate::{validate_mount_options, validate_update};
use crate::kinds::core::node_labels;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, default_absent, default_to, object_at, set};
use crate::kinds::{
    Column, Errors, Path, Request, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};
use crate::meta::format_time;
use crate::quantity::Quantity;

/// `persistentvolumes` of v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "PersistentVolume",
    list_kind: "PersistentVolumeList",
    resource: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    categories: &[],
    namespaced: false,
    storage_prefix: "persistentvolumes",
    subresources: &[Subresource::status("PersistentVolume")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Capacity", "How much fits in."),
        Column::text("Access Modes", "From how many nodes it can be used."),
        Column::text("Reclaim Policy", "What becomes of it after its claim."),
        Column::text("Status", "Whether it is free, bound or left over."),
        Column::text("Claim", "The claim that has it."),
        Column::text("StorageClass", "The class it belongs to."),
        Column::text("VolumeAttributesClass", "The class of its attributes."),
        Column::text("Reason", "Why it is in its state."),
        Column::AGE,
        Column::text("VolumeMode", "Whether it holds files or is a block device.").wide(),
    ],
    strategy: &PersistentVolume,
};

/// Names the class of volumes and claims that were made before there was a field for it.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Options for mounting, before there was a field for them.
const MOUNT_OPTIONS_ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";
const TRANSITION_TIME: &str = "lastPhaseTransitionTime";

/// Sources of which nothing works any more, and what people are told of them.
const GONE: [(&str, &str, &str); 6] = [
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "rbd",
        "rbd",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
];

struct PersistentVolume;

static RULES: Rules = Rules {
    status: true,
    ..Rules::CLUSTER
};

impl Strategy for PersistentVolume {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        if let Some(status) = object_at(object, "status") {
            default_to(status, "phase", "Pending");
        }
        if let Some(spec) = object_at(object, "spec") {
            default_to(spec, "persistentVolumeReclaimPolicy", "Retain");
            default_absent(spec, "volumeMode", "Filesystem");
            default_source(spec);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({"phase": "Pending"}));
    }

    fn note_request(&self, new: &mut Value, old: Option<&Value>, request: &Request<'_>) {
        note_transition(new, old, request.now);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let context = Context::Volume {
            name: object.at("metadata").text("name"),
        };
        validate_spec(object.at("spec"), context, &Path::new("spec"), errors);
        validate_mount_options(object, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_update(new.at("spec"), old.at("spec"), errors);
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
        let claim = spec.opt("claimRef").map(|claim| {
            let (namespace, name) = (claim.text("namespace"), claim.text("name"));
            format!("{namespace}/{name}")
        });
        vec![
            meta.text("name").into(),
            size(spec.at("capacity")).into(),
            access_modes(spec.list("accessModes")).into(),
            spec.text("persistentVolumeReclaimPolicy").into(),
            phase(object).into(),
            claim.unwrap_or_default().into(),
            class(object).into(),
            or_unset(spec, "volumeAttributesClassName").into(),
            status.text("reason").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            or_unset(spec, "volumeMode").into(),
        ]
    }
}

/// Notes when the phase changed, unless the one who changed it says so.
fn note_transition(new: &mut Value, old: Option<&Value>, now: Timestamp) {
    let nothing = Value::Null;
    let before = old.map_or(&nothing, |old| old.at("status"));
    let changed = old.is_none() || before.text("phase") != new.at("status").text("phase");
    let Some(status) = object_at(new, "status") else {
        return;
    };
    let given = status.at(TRANSITION_TIME);
    if changed && (given.is_null() || given == before.at(TRANSITION_TIME)) {
        set(status, TRANSITION_TIME, format_time(now));
    } else if !changed && given.is_null() && before.has(TRANSITION_TIME) {
        set(status, TRANSITION_TIME, before.at(TRANSITION_TIME).clone());
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (annotations, spec) = (object.at("metadata").at("annotations"), object.at("spec"));
    let deprecated = [
        (
            CLASS_ANNOTATION,
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            MOUNT_OPTIONS_ANNOTATION,
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ];
    for (key, word) in deprecated {
        if annotations.has(key) {
            found.push(format!("metadata.annotations[{key}]: {word}"));
        }
    }
    if spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        found.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let path = Path::new("spec.nodeAffinity.required.nodeSelectorTerms");
    let terms = spec.at("nodeAffinity").at("required");
    for (i, term) in terms.list("nodeSelectorTerms").iter().enumerate() {
        found.extend(node_labels::expression_warnings(term, &path.index(i)));
    }
    for (key, shown, word) in GONE {
        if spec.has(key) {
            found.push(format!("spec.{shown}: {word}"));
        }
    }
    found
}

/// The storage of a capacity or a request, as rows show it.
pub(super) fn size(amounts: &Value) -> String {
    let amount = Quantity::from_json(amounts.at("storage")).unwrap_or(Quantity::ZERO);
    amount.to_string()
}

/// The phase, or that the object is on its way out.
pub(super) fn phase(object: &Value) -> &str {
    if object.at("metadata").has("deletionTimestamp") {
        "Terminating"
    } else {
        object.at("status").text("phase")
    }
}

/// The class of a volume or a claim.
pub(crate) fn class(object: &Value) -> &str {
    let annotation = object.at("metadata").at("annotations");
    let annotation = annotation.opt_text(CLASS_ANNOTATION);
    annotation.unwrap_or_else(|| object.at("spec").text("storageClassName"))
}

/// A field that may not be set.
pub(super) fn or_unset<'a>(spec: &'a Value, key: &str) -> &'a str {
    spec.opt_text(key).unwrap_or("<unset>")
}

/// Access modes in short, in a fixed order.
pub(super) fn access_modes(modes: &[Value]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let given = |(mode, _): &&(&str, &str)| modes.iter().any(|m| m.as_str() == Some(mode));
    let given: Vec<&str> = short.iter().filter(given).map(|(_, word)| *word).collect();
    given.join(",")
}

#[cfg(test)]
mod tests;
