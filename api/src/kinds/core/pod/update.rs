//! What an update of a pod may change: images, the active deadline, more tolerations, fewer scheduling gates, and a
//! negative grace period to one second. Everything else was decided when the pod was made.

use serde_json::Value;

use super::validate::{INT32_MAX, MIRROR_ANNOTATION, ephemeral_containers, validate_tolerations};
use crate::kinds::value::{Get, differences, items_at, keep, same, set};
use crate::kinds::{Errors, Path};

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
    set to 1 if it was previously negative)";

/// Checks an update of the main resource.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    mirror_annotation(new, old, errors);
    let (new, old) = (new.at("spec"), old.at("spec"));
    let path = Path::new("spec");
    for key in ["containers", "initContainers"] {
        if !images(new.list(key), old.list(key), &path.child(key), errors) {
            return;
        }
    }
    if !active_deadline(new, old, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    added_tolerations(new, old, &path.child("tolerations"), errors);
    removed_gates(new, old, &path.child("schedulingGates"), errors);
    let masked = mask(new, old);
    if !same(&masked, old) {
        let changed = differences("spec", &masked, old);
        errors.forbidden(
            &path,
            format!("pod updates may not change fields other than {CHANGEABLE}\n{changed}"),
        );
    }
}

/// A pod stays or never becomes the mirror of a file: what a node agent may reach by its pods depends on it.
fn mirror_annotation(new: &Value, old: &Value, errors: &mut Errors) {
    let mark = |pod: &Value| {
        let annotations = pod.at("metadata").at("annotations");
        annotations.get(MIRROR_ANNOTATION).cloned()
    };
    let (before, after) = (mark(old), mark(new));
    if before == after {
        return;
    }
    let path = Path::new("metadata.annotations");
    let detail = match before {
        Some(_) => "may not remove or update mirror pod annotation",
        None => "may not add mirror pod annotation",
    };
    errors.forbidden(&path.key(MIRROR_ANNOTATION), detail);
}

fn images(new: &[Value], old: &[Value], path: &Path<'_>, errors: &mut Errors) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return false;
    }
    for (i, container) in new.iter().enumerate() {
        let at = path.index(i);
        let image = container.text("image");
        if image.is_empty() {
            errors.required(&at.child("image"), "");
        } else if image.trim() != image {
            errors.invalid(
                &at.child("image"),
                image,
                "must not have leading or trailing whitespace",
            );
        }
    }
    true
}

fn active_deadline(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let before = old.int("activeDeadlineSeconds");
    match new.int("activeDeadlineSeconds") {
        Some(seconds) if !(0..=INT32_MAX).contains(&seconds) => {
            errors.invalid(
                path,
                seconds,
                format!("must be between 0 and {INT32_MAX}, inclusive"),
            );
            false
        }
        Some(seconds) if before.is_some_and(|before| before < seconds) => {
            errors.invalid(
                path,
                seconds,
                "must be less than or equal to previous value",
            );
            false
        }
        None if before.is_some() => {
            errors.invalid(
                path,
                &Value::Null,
                "must not update from a positive integer to nil value",
            );
            true
        }
        _ => true,
    }
}

fn added_tolerations(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let timeless = |toleration: &Value| {
        let mut toleration = toleration.clone();
        crate::kinds::value::remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let kept = |before: &Value| {
        let before = timeless(before);
        new.list("tolerations")
            .iter()
            .any(|t| same(&timeless(t), &before))
    };
    if !old.list("tolerations").iter().all(kept) {
        errors.forbidden(
            path,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    validate_tolerations(new.list("tolerations"), path, errors);
}

fn removed_gates(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (i, gate) in new.list("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !old
            .list("schedulingGates")
            .iter()
            .any(|g| g.text("name") == name)
        {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(i), detail);
        }
    }
}

/// The new spec with everything that may change set back.
fn mask(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for key in ["containers", "initContainers"] {
        for (container, before) in items_at(&mut masked, key).zip(old.list(key)) {
            keep(container, before, "image");
        }
    }
    for key in [
        "activeDeadlineSeconds",
        "tolerations",
        "schedulingGates",
        "ephemeralContainers",
    ] {
        keep(&mut masked, old, key);
    }
    let grace = "terminationGracePeriodSeconds";
    if old.int(grace).is_some_and(|seconds| seconds < 0) && new.int(grace) == Some(1) {
        keep(&mut masked, old, grace);
    }
    if !old.is_empty_at("schedulingGates") {
        narrow_gated(&mut masked, old);
    }
    masked
}

/// While gates hold a pod, whoever owns them may narrow down where it can go.
fn narrow_gated(masked: &mut Value, old: &Value) {
    let kept = old
        .entries("nodeSelector")
        .all(|(key, value)| masked.at("nodeSelector").at(key) == value);
    if kept {
        keep(masked, old, "nodeSelector");
    }
    let terms = |spec: &Value| {
        let required = spec
            .at("affinity")
            .at("nodeAffinity")
            .at("requiredDuringSchedulingIgnoredDuringExecution");
        required.list("nodeSelectorTerms").to_vec()
    };
    let (new_terms, old_terms) = (terms(masked), terms(old));
    let narrowed = old_terms.is_empty()
        || old_terms.len() == new_terms.len() && {
            old_terms.iter().zip(&new_terms).all(|(old, new)| {
                ["matchExpressions", "matchFields"].into_iter().all(|key| {
                    old.list(key)
                        .iter()
                        .all(|requirement| new.list(key).contains(requirement))
                })
            })
        };
    if !narrowed {
        return;
    }
    let Some(affinity) = old.opt("affinity") else {
        // Only node affinity may be added; anything else beside it stays a difference.
        let only_nodes = masked
            .entries("affinity")
            .all(|(key, _)| key == "nodeAffinity");
        if only_nodes {
            crate::kinds::value::remove(masked, "affinity");
        }
        return;
    };
    if let Some(new_affinity) = masked.get_mut("affinity") {
        match affinity.opt("nodeAffinity") {
            Some(node) => set(new_affinity, "nodeAffinity", node.clone()),
            None => {
                crate::kinds::value::remove(new_affinity, "nodeAffinity");
            }
        }
    }
}

/// Checks an update of `status`.
pub(super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    mirror_annotation(new, old, errors);
    let path = Path::new("status");
    let (status, before) = (new.at("status"), old.at("status"));
    if status.text("qosClass") != before.text("qosClass") && !before.is_empty_at("qosClass") {
        errors.invalid(
            &path.child("qosClass"),
            status.at("qosClass"),
            "field is immutable",
        );
    }
    let policy = old.at("spec").text("restartPolicy");
    for (key, specs) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
    ] {
        let at = path.child(key);
        for (i, container) in status.list(key).iter().enumerate() {
            let name = container.text("name");
            let spec = old
                .at("spec")
                .list(specs)
                .iter()
                .find(|c| c.text("name") == name);
            let restarts = spec.is_some_and(|c| c.has("restartPolicy"));
            let was = before.list(key).iter().find(|c| c.text("name") == name);
            let Some(ended) = was.and_then(|c| c.at("state").opt("terminated")) else {
                continue;
            };
            let stays = match policy {
                "Never" => true,
                "OnFailure" => ended.int("exitCode").unwrap_or(0) == 0,
                _ => false,
            };
            if stays && !restarts && !container.at("state").has("terminated") {
                let at = at.index(i);
                errors.forbidden(
                    &at.child("state"),
                    "may not be transitioned to non-terminated state",
                );
            }
        }
    }
}

/// Checks an update of the ephemeral containers: they may only be added.
pub(super) fn validate_ephemeral(new: &Value, old: &Value, errors: &mut Errors) {
    mirror_annotation(new, old, errors);
    ephemeral_containers(new.at("spec"), errors);
    let path = Path::new("spec.ephemeralContainers");
    let after = new.at("spec").list("ephemeralContainers");
    for container in old.at("spec").list("ephemeralContainers") {
        let name = container.text("name");
        match after.iter().find(|c| c.text("name") == name) {
            None => {
                errors.forbidden(
                    &path,
                    format!("existing ephemeral containers {name:?} may not be removed\n"),
                );
            }
            Some(found) if !same(found, container) => {
                errors.forbidden(
                    &path,
                    format!("existing ephemeral containers {name:?} may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
}
