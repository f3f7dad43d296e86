//! VolumeAttachment: a volume is to be attached to a node, and whether it is.

use jiff::Timestamp;
use serde_json::Value;

use super::validate_driver_name;
use crate::kinds::core::persistent_volume::{self, Context};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{immutable, keep_client_metadata};
use crate::kinds::value::{Get, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, names,
};

/// `volumeattachments` of storage.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "storage.k8s.io",
    version: "v1",
    kind: "VolumeAttachment",
    list_kind: "VolumeAttachmentList",
    resource: "volumeattachments",
    singular: "volumeattachment",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "volumeattachments",
    subresources: &[Subresource::status("VolumeAttachment")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column {
            format: "name",
            ..Column::text("Attacher", "The driver that attaches.")
        },
        Column::text("PV", "The volume."),
        Column::text("Node", "The node that it is to be attached to."),
        Column::boolean("Attached", "Whether it is."),
        Column::AGE,
    ],
    strategy: &VolumeAttachment,
};

/// What the driver noted of the attached volume, all together.
const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

struct VolumeAttachment;

static RULES: Rules = Rules {
    status: true,
    unconditional_update: false,
    ..Rules::CLUSTER
};

impl Strategy for VolumeAttachment {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let inline = object.pointer_mut("/spec/source/inlineVolumeSpec");
        if let Some(inline) = inline.filter(|inline| inline.is_object()) {
            persistent_volume::default_source(inline);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", serde_json::json!({"attached": false}));
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        keep_client_metadata(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object.at("spec"), errors);
        validate_results(object.at("status"), errors);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        validate_driver_name(spec.text("attacher"), &Path::new("spec.attacher"), errors);
        if let Some(name) = spec.at("source").opt_text("persistentVolumeName") {
            let path = Path::new("spec.source.persistentVolumeName");
            errors.invalid_each(&path, name, names::subdomain(name, false));
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        immutable(new.at("spec"), old.at("spec"), &Path::new("spec"), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate(new, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (meta, spec) = (object.at("metadata"), object.at("spec"));
        vec![
            meta.text("name").into(),
            spec.text("attacher").into(),
            spec.at("source").text("persistentVolumeName").into(),
            spec.text("nodeName").into(),
            object.at("status").flag("attached").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn validate_spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if spec.is_empty_at("attacher") {
        errors.required(&path.child("attacher"), "");
    }
    let source = path.child("source");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let inline = spec.at("source").opt("inlineVolumeSpec");
    let volume = spec.at("source").opt_text("persistentVolumeName");
    match (inline, volume) {
        (None, None) => errors.required(&source, one),
        (Some(_), Some(_)) => errors.forbidden(&source, one),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.required(&source.child("persistentVolumeName"), detail);
        }
        (None, Some(_)) => {}
        (Some(inline), None) => {
            let at = source.child("inlineVolumeSpec");
            persistent_volume::validate_spec(inline, Context::Inline, &at, errors);
        }
    }
    let node = spec.text("nodeName");
    errors.invalid_each(&path.child("nodeName"), node, names::subdomain(node, false));
}

fn validate_results(status: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let metadata = status.entries("attachmentMetadata");
    let bytes: usize = metadata
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > METADATA_BYTES_MAX {
        errors.too_long(&path.child("attachmentMetadata"), METADATA_BYTES_MAX);
    }
    for key in ["attachError", "detachError"] {
        let Some(error) = status.opt(key) else {
            continue;
        };
        let at = path.child(key);
        if error.text("message").len() > MESSAGE_BYTES_MAX {
            // Upstream tells the bound of the metadata here.
            errors.too_long(&at.child("message"), METADATA_BYTES_MAX);
        }
        if let Some(code) = error.int("errorCode").filter(|code| *code < 0) {
            let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
            errors.invalid(&at.child("errorCode"), code, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn attachment() -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"attacher": "csi.example.com", "nodeName": "n",
               "source": {"persistentVolumeName": "disk"}}})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        let strategy = &VolumeAttachment;
        assert_eq!(create(strategy, attachment()), none);
        let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        assert_eq!(
            create(strategy, with(attachment(), "/spec/source", json!({}))),
            [format!("spec.source: Required value: {one}")]
        );
        let both = json!({"persistentVolumeName": "a", "inlineVolumeSpec": {}});
        assert_eq!(
            create(strategy, with(attachment(), "/spec/source", both)),
            [format!("spec.source: Forbidden: {one}")]
        );
        let inline = json!({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"},
            "csi": {"driver": "d", "volumeHandle": "h"}}});
        assert_eq!(
            create(strategy, with(attachment(), "/spec/source", inline)),
            [
                "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes"
            ]
        );
        assert_eq!(
            update(
                strategy,
                with(attachment(), "/spec/nodeName", json!("m")),
                attachment()
            )
            .len(),
            1
        );
    }

    #[test]
    fn only_the_status_path_changes_the_status() {
        let mut made = with(attachment(), "/status", json!({"attached": true}));
        VolumeAttachment.prepare_for_create(&mut made);
        assert_eq!(made["status"], json!({"attached": false}));
        let mut new = with(made.clone(), "/status/attached", json!(true));
        new["metadata"]["labels"] = json!({"a": "b"});
        new["spec"]["nodeName"] = json!("m");
        VolumeAttachment.prepare_for_status_update(&mut new, &made);
        assert_eq!(new, with(made.clone(), "/status/attached", json!(true)));
        new["status"]["detachError"] = json!({"errorCode": -1});
        let errors = VolumeAttachment.validate_status_update(&new, &made);
        assert_eq!(
            errors[0].to_string(),
            "status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive"
        );
    }

    #[test]
    fn row() {
        let row = VolumeAttachment.row(&attachment(), Timestamp::UNIX_EPOCH);
        let cells = json!(["a", "csi.example.com", "disk", "n", false, "<unknown>"]);
        assert_eq!(Value::Array(row), cells);
    }
}
