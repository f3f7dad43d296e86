//! What a pod must look like: the fields of its spec that stand alone. Containers, volumes, affinity and the rest
//! have a file each. The same checks hold for templates.

mod affinity;
mod container;
mod env;
mod network;
mod probe;
mod resources;
mod scheduling;
mod security;
mod volume;

use serde_json::Value;

pub(crate) use affinity::node_selector as validate_node_selector;
pub(crate) use resources::resource_name as validate_resource_name;
pub(crate) use resources::resources as validate_resources;
pub(crate) use scheduling::taint_effect as validate_taint_effect;
pub(crate) use scheduling::tolerations as validate_tolerations;
pub(crate) use volume::{host_path as validate_host_path, no_back_steps};

use crate::kinds::object_meta::validate_labels;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

/// Largest number of the API's 32-bit fields.
pub(super) const INT32_MAX: i64 = i32::MAX as i64;
/// Set by node agents on the pods they read from files.
pub(super) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Checks the spec of a pod or of a template, which must have its defaults.
pub fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volume::volumes(spec.list("volumes"), &path.child("volumes"), errors);
    container::containers(spec, &volumes, path, errors);
    let policy = spec.text("restartPolicy");
    errors.one_of(
        &path.child("restartPolicy"),
        policy,
        &["Always", "OnFailure", "Never"],
    );
    network::dns(spec, path, errors);
    validate_labels(spec.at("nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec, path, errors);
    affinity::affinity(spec.at("affinity"), &path.child("affinity"), errors);
    scheduling::readiness_gates(
        spec.list("readinessGates"),
        &path.child("readinessGates"),
        errors,
    );
    let spread = path.child("topologySpreadConstraints");
    scheduling::spread(spec.list("topologySpreadConstraints"), &spread, errors);
    scheduling::gates(
        spec.list("schedulingGates"),
        &path.child("schedulingGates"),
        errors,
    );
    for key in [
        "serviceAccountName",
        "nodeName",
        "priorityClassName",
        "runtimeClassName",
    ] {
        let name = spec.text(key);
        if !name.is_empty() {
            errors.invalid_each(&path.child(key), name, names::subdomain(name, false));
        }
    }
    active_deadline(spec, path, errors);
    network::host_names(spec, path, errors);
    scheduling::tolerations(spec.list("tolerations"), &path.child("tolerations"), errors);
    network::host_aliases(spec.list("hostAliases"), &path.child("hostAliases"), errors);
    if let Some(policy) = spec.opt_text("preemptionPolicy") {
        errors.one_of(
            &path.child("preemptionPolicy"),
            policy,
            &["PreemptLowerPriority", "Never"],
        );
    }
    resources::overhead(spec, path, errors);
    if let Some(system) = spec.opt("os") {
        errors.one_of(
            &path.child("os"),
            system.text("name"),
            &["linux", "windows"],
        );
    }
}

/// Checks the ephemeral containers of a pod, when only they change.
pub(super) fn ephemeral_containers(spec: &Value, errors: &mut Errors) {
    let volumes = volume::VolumeNames::of(spec.list("volumes"));
    container::ephemeral(spec, &volumes, &Path::new("spec"), errors);
}

fn active_deadline(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(seconds) = spec.int("activeDeadlineSeconds")
        && !(1..=INT32_MAX).contains(&seconds)
    {
        let detail = format!("must be between 1 and {INT32_MAX}, inclusive");
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, detail);
    }
}

/// Checks what only holds of pods that mirror a file on a node.
pub(super) fn mirror_pod(pod: &Value, errors: &mut Errors) {
    let annotations = pod.at("metadata").at("annotations");
    if annotations.has(MIRROR_ANNOTATION) && pod.at("spec").is_empty_at("nodeName") {
        let path = Path::new("metadata.annotations");
        let at = path.key(MIRROR_ANNOTATION);
        errors.invalid(
            &at,
            annotations.at(MIRROR_ANNOTATION),
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
}

/// Refuses ids outside the range of the kernel's signed ids.
fn id(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(number) = value.as_i64()
        && !(0..=INT32_MAX).contains(&number)
    {
        errors.invalid(
            path,
            number,
            format!("must be between 0 and {INT32_MAX}, inclusive"),
        );
    }
}
