//! Comparing pod templates, and the hash that names a ReplicaSet.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::pods::short_name;

/// The label that keeps the pods of one Deployment's sets apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Length of the hash in names.
const HASH_LETTERS: usize = 10;

/// Whether two templates make the same pods. The hash label is ours, not the user's.
pub(super) fn equal(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    without_hash(a) == without_hash(b)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta
        .annotations
        .take()
        .filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    template
}

/// A short hash of a template; `collisions` makes another when a name is taken by a different template.
pub(super) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut text =
        serde_json::to_vec(&without_hash(template)).expect("templates have string keys only");
    text.extend_from_slice(&collisions.to_be_bytes());
    short_name(&text, HASH_LETTERS)
}
