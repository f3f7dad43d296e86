//! Resizing a pod where it runs: `pods/resize` changes cpu and memory of containers and sidecars, and nothing else.
//! Whether a node can give what is asked is not known here; its agent decides and says so in the status.
//!
//! Invariant: a resize never changes the class of a pod, and takes no request and no limit away.

use serde_json::Value;

use super::validate::MIRROR_ANNOTATION;
use super::{qos, validate_spec};
use crate::kinds::value::{Get, items_at, keep, same, set};
use crate::kinds::{Errors, Path};

/// The subresource.
pub(super) const RESIZE: &str = "resize";

/// Upstream's path for what is wrong with the pod as a whole.
const POD: Path<'static> = Path::new("[]");

/// The resources that can change while a container runs.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Drops everything from an update but the resources of containers. Containers that do not match the present ones one by
/// one are left as they came: validation says what is wrong with them.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    let lists = ["containers", "initContainers"];
    let (wanted, present) = (new.at("spec"), old.at("spec"));
    let as_many = |key: &&str| wanted.list(key).len() == present.list(key).len();
    if lists.iter().all(as_many) {
        if let Some(spec) = kept.get_mut("spec") {
            for key in lists {
                merge_resources(spec, wanted, key);
            }
        }
    } else if let Some(spec) = new.get("spec") {
        set(&mut kept, "spec", spec.clone());
    }
    if let Some(meta) = kept.get_mut("metadata") {
        keep(meta, new.at("metadata"), "resourceVersion");
    }
    *new = kept;
}

fn merge_resources(spec: &mut Value, wanted: &Value, key: &str) {
    let names_differ = |(a, b): (&Value, &Value)| a.text("name") != b.text("name");
    if wanted
        .list(key)
        .iter()
        .zip(spec.list(key))
        .any(names_differ)
    {
        set(spec, key, wanted.at(key).clone());
        return;
    }
    for (container, wanted) in items_at(spec, key).zip(wanted.list(key)) {
        keep(container, wanted, "resources");
        // Not to be changed either; kept so that the attempt is refused and not passed over.
        keep(container, wanted, "resizePolicy");
    }
}

/// Checks a resize.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let path = Path::new("spec");
    validate_spec(spec, &path, errors);
    if let Some(why) = never_resized(old) {
        *errors = Errors::new();
        errors.forbidden(&POD, why);
        return;
    }
    let class = match old.at("status").text("qosClass") {
        "" => qos::class(before),
        class => class,
    };
    if class != qos::class(spec) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&path, class, detail);
    }
    if !node_knows_resizes(old) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    if [spec, before].into_iter().any(speaks_of_the_whole) {
        errors.forbidden(
            &POD,
            "resize of pods with pod-level resources is forbidden when \
             InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled",
        );
        return;
    }
    if same_containers(spec, before, &path, errors) {
        containers(spec, before, &path, errors);
    }
}

/// Why pods like this one are never resized.
fn never_resized(pod: &Value) -> Option<&'static str> {
    if pod.at("metadata").at("annotations").has(MIRROR_ANNOTATION) {
        Some("static pods cannot be resized")
    } else if pod.at("spec").at("os").text("name") == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    }
}

/// A node agent that can resize shows the resources of what runs. Where nothing runs yet, one cannot tell.
fn node_knows_resizes(pod: &Value) -> bool {
    let statuses = pod.at("status").list("containerStatuses");
    let running = statuses
        .iter()
        .find(|status| status.at("state").has("running"));
    running.is_none_or(|status| status.has("resources"))
}

fn speaks_of_the_whole(spec: &Value) -> bool {
    let resources = spec.at("resources");
    !resources.is_empty_at("requests") || !resources.is_empty_at("limits")
}

fn same_containers(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let found = errors.len();
    for key in ["containers", "initContainers"] {
        let at = path.child(key);
        let (new, old) = (new.list(key), old.list(key));
        if new.len() != old.len() {
            errors.forbidden(&at, format!("{key} may not be added or removed on resize"));
            continue;
        }
        for (i, (new, old)) in new.iter().zip(old).enumerate() {
            if new.text("name") != old.text("name") {
                let detail = format!("{key} may not be renamed or reordered on resize");
                errors.forbidden(&at.index(i).child("name"), detail);
            }
        }
    }
    errors.len() == found
}

fn containers(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["initContainers", "containers"] {
        let at = path.child(key);
        for (i, (new, old)) in new.list(key).iter().zip(old.list(key)).enumerate() {
            if key == "containers" || is_sidecar(old) {
                let at = at.index(i);
                nothing_removed(new, old, &at.child("resources"), errors);
            }
        }
    }
    for key in ["containers", "initContainers"] {
        for (new, old) in new.list(key).iter().zip(old.list(key)) {
            let (new, detail) = match key {
                "containers" => (
                    masked(new, old),
                    "only cpu and memory resources are mutable",
                ),
                _ if is_sidecar(new) => (
                    masked(new, old),
                    "only cpu and memory resources for sidecar containers are mutable",
                ),
                _ => (
                    new.clone(),
                    "resources for non-sidecar init containers are immutable",
                ),
            };
            if !same(&new, old) {
                errors.forbidden(path, detail);
            }
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

fn nothing_removed(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["requests", "limits"] {
        let (new, old) = (new.at("resources").at(key), old.at("resources"));
        if old.entries(key).any(|(name, _)| !new.has(name)) {
            let detail = format!("resource {key} cannot be removed");
            errors.forbidden(&path.child(key), detail);
        }
    }
}

/// A container with cpu and memory as they were.
fn masked(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for key in ["requests", "limits"] {
        let before = old.at("resources").at(key);
        let amounts = masked
            .get_mut("resources")
            .and_then(|resources| resources.get_mut(key));
        if let Some(amounts) = amounts {
            for name in RESIZABLE {
                keep(amounts, before, name);
            }
        }
    }
    masked
}

#[cfg(test)]
mod tests;
