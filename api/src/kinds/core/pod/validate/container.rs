//! Containers of all three sorts: ordinary ones, init containers (sidecars among them) and ephemeral ones.

use serde_json::Value;

use super::volume::{VolumeNames, mounts};
use super::{env, probe, resources, security};
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
/// Fields that make no sense for a container that somebody adds to look around.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
];

/// Checks all containers of a pod, and what they share: names and host ports.
pub(super) fn containers(
    spec: &Value,
    volumes: &VolumeNames<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let containers = spec.list("containers");
    let at = path.child("containers");
    let grace = spec.int("terminationGracePeriodSeconds").unwrap_or(0);
    if containers.is_empty() {
        errors.required(&at, "");
    }
    for (i, container) in containers.iter().enumerate() {
        let at = at.index(i);
        common(container, spec, volumes, &at, errors);
        unique_name(container, &containers[..i], &at, errors);
        probe::lifecycle(
            container.at("lifecycle"),
            grace,
            &at.child("lifecycle"),
            errors,
        );
        probe::probes(container, &at, errors);
        restart_policy(container, &at, errors);
    }
    host_port_conflicts(containers, &at, errors);
    init(spec, volumes, path, errors);
    ephemeral(spec, volumes, path, errors);
}

fn init(spec: &Value, volumes: &VolumeNames<'_>, path: &Path<'_>, errors: &mut Errors) {
    let containers = spec.list("initContainers");
    let at = path.child("initContainers");
    let grace = spec.int("terminationGracePeriodSeconds").unwrap_or(0);
    for (i, container) in containers.iter().enumerate() {
        let at = at.index(i);
        common(container, spec, volumes, &at, errors);
        unique_name(container, spec.list("containers"), &at, errors);
        unique_name(container, &containers[..i], &at, errors);
        restart_policy(container, &at, errors);
        if container.text("restartPolicy") == "Always" {
            probe::lifecycle(
                container.at("lifecycle"),
                grace,
                &at.child("lifecycle"),
                errors,
            );
            probe::probes(container, &at, errors);
            continue;
        }
        // It ends by itself, before anybody could probe it.
        for key in [
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
        ] {
            if container.has(key) {
                errors.forbidden(
                    &at.child(key),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
    }
    for (i, container) in containers.iter().enumerate() {
        host_port_conflicts(std::slice::from_ref(container), &at.index(i), errors);
    }
}

/// Checks the ephemeral containers of a pod.
pub(super) fn ephemeral(
    spec: &Value,
    volumes: &VolumeNames<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let containers = spec.list("ephemeralContainers");
    let at = path.child("ephemeralContainers");
    for (i, container) in containers.iter().enumerate() {
        let at = at.index(i);
        common(container, spec, volumes, &at, errors);
        for others in [
            spec.list("containers"),
            spec.list("initContainers"),
            &containers[..i],
        ] {
            unique_name(container, others, &at, errors);
        }
        let target = container.text("targetContainerName");
        let known = ["containers", "initContainers"];
        if !target.is_empty()
            && !known
                .iter()
                .any(|k| spec.list(k).iter().any(|c| c.text("name") == target))
        {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        for key in NOT_EPHEMERAL.iter().filter(|key| container.has(key)) {
            errors.forbidden(&at.child(key), "cannot be set for an Ephemeral Container");
        }
        let resources = container.at("resources");
        if !resources.is_empty_at("limits") || !resources.is_empty_at("requests") {
            errors.forbidden(
                &at.child("resources"),
                "cannot be set for an Ephemeral Container",
            );
        }
    }
}

fn common(
    container: &Value,
    spec: &Value,
    volumes: &VolumeNames<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let name = container.text("name");
    let at = path.child("name");
    if name.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, name, names::label(name, false));
    }
    image(container, path, errors);
    let policy = container.text("terminationMessagePolicy");
    errors.one_of(
        &path.child("terminationMessagePolicy"),
        policy,
        &["FallbackToLogsOnError", "File"],
    );
    ports(
        container.list("ports"),
        spec.flag("hostNetwork"),
        &path.child("ports"),
        errors,
    );
    env::env(container.list("env"), &path.child("env"), errors);
    env::env_from(container.list("envFrom"), &path.child("envFrom"), errors);
    mounts(container, volumes, path, errors);
    errors.one_of(
        &path.child("imagePullPolicy"),
        container.text("imagePullPolicy"),
        PULL_POLICIES,
    );
    resources::resources(container.at("resources"), &path.child("resources"), errors);
    resources::resize_policy(
        container.list("resizePolicy"),
        spec.text("restartPolicy"),
        &path.child("resizePolicy"),
        errors,
    );
    security::container(
        container.at("securityContext"),
        spec,
        &path.child("securityContext"),
        errors,
    );
}

fn image(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let image = container.text("image");
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
}

fn unique_name(container: &Value, others: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let name = container.text("name");
    if !name.is_empty() && others.iter().any(|c| c.text("name") == name) {
        errors.duplicate(&path.child("name"), name);
    }
}

fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(policy) = container.opt_text("restartPolicy")
        && !RESTART_POLICIES.contains(&policy)
    {
        errors.not_supported(&path.child("restartPolicy"), policy, RESTART_POLICIES);
    }
}

fn ports(ports: &[Value], host_network: bool, path: &Path<'_>, errors: &mut Errors) {
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            let faults = names::port_name(name);
            let good = faults.is_empty();
            errors.invalid_each(&at.child("name"), name, faults);
            if good && ports[..i].iter().any(|p| p.text("name") == name) {
                errors.duplicate(&at.child("name"), name);
            }
        }
        let number = port.int("containerPort").unwrap_or(0);
        let host_port = port.int("hostPort").unwrap_or(0);
        if number == 0 {
            errors.required(&at.child("containerPort"), "");
        } else {
            errors.invalid_each_of(&at.child("containerPort"), number, names::port(number));
        }
        if host_port != 0 {
            errors.invalid_each_of(&at.child("hostPort"), host_port, names::port(host_port));
        }
        errors.one_of(
            &at.child("protocol"),
            port.text("protocol"),
            names::PROTOCOLS,
        );
        // In a template it may be left out; the pod gets it as a default.
        if host_network && host_port != 0 && host_port != number {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            errors.invalid(&at.child("containerPort"), number, detail);
        }
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str, i64)> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        let at = at.child("ports");
        for (j, port) in container.list("ports").iter().enumerate() {
            let number = port.int("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = (port.text("protocol"), port.text("hostIP"), number);
            if seen.contains(&key) {
                let at = at.index(j);
                errors.duplicate(
                    &at.child("hostPort"),
                    format!("{}/{}/{}", key.0, key.1, key.2),
                );
            } else {
                seen.push(key);
            }
        }
    }
}
