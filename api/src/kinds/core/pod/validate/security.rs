//! Security contexts of pods and containers.

use serde_json::Value;

use super::id;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path};

/// Checks the pod's own security context and what goes with sharing the host.
pub(super) fn pod(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let context = spec.at("securityContext");
    let at = path.child("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context.at(key), &at.child(key), errors);
    }
    let groups = at.child("supplementalGroups");
    for (i, group) in context.list("supplementalGroups").iter().enumerate() {
        id(group, &groups.index(i), errors);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        let path = path.child("securityContext");
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    sysctls(context.list("sysctls"), spec, &at.child("sysctls"), errors);
    if let Some(policy) = context.opt_text("fsGroupChangePolicy") {
        errors.one_of(
            &at.child("fsGroupChangePolicy"),
            policy,
            &["Always", "OnRootMismatch"],
        );
    }
    if let Some(policy) = context.opt_text("supplementalGroupsPolicy") {
        errors.one_of(
            &at.child("supplementalGroupsPolicy"),
            policy,
            &["Merge", "Strict"],
        );
    }
    profile(
        context.at("seccompProfile"),
        "seccomp",
        &at.child("seccompProfile"),
        errors,
    );
    profile(
        context.at("appArmorProfile"),
        "AppArmor",
        &at.child("appArmorProfile"),
        errors,
    );
    if spec.at("hostUsers").as_bool() == Some(false) {
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            if spec.flag(key) {
                errors.forbidden(
                    &path.child("hostUsers"),
                    format!("when `{key}` is true, `hostUsers` must be true"),
                );
            }
        }
    }
}

/// Checks the security context of one container.
pub(super) fn container(context: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        id(context.at(key), &path.child(key), errors);
    }
    if let Some(mount) = context.opt_text("procMount") {
        errors.one_of(&path.child("procMount"), mount, &["Default", "Unmasked"]);
        if mount == "Unmasked" && spec.at("hostUsers").as_bool() != Some(false) {
            errors.invalid(
                &path.child("procMount"),
                mount,
                "`hostUsers` must be false to use `Unmasked`",
            );
        }
    }
    profile(
        context.at("seccompProfile"),
        "seccomp",
        &path.child("seccompProfile"),
        errors,
    );
    profile(
        context.at("appArmorProfile"),
        "AppArmor",
        &path.child("appArmorProfile"),
        errors,
    );
    if context.at("allowPrivilegeEscalation").as_bool() == Some(false) {
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context, detail);
        }
        let added = context.at("capabilities").list("add");
        if added
            .iter()
            .any(|capability| capability.as_str() == Some("CAP_SYS_ADMIN"))
        {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context, detail);
        }
    }
}

fn profile(profile: &Value, what: &str, path: &Path<'_>, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let kind = profile.text("type");
    if kind.is_empty() {
        let detail = if what == "seccomp" {
            "type is required when seccompProfile is set"
        } else {
            "type is required when appArmorProfile is set"
        };
        errors.required(&path.child("type"), detail);
        return;
    }
    let local = profile.opt("localhostProfile");
    let at = path.child("localhostProfile");
    match kind {
        "Localhost" if local.is_none() => {
            errors.required(&at, &format!("must be set when {what} type is Localhost"));
        }
        "Localhost" => {
            let text = profile.text("localhostProfile");
            if text.starts_with('/') {
                errors.invalid(&at, text, "must be a relative path");
            } else if text.split('/').any(|part| part == "..") {
                errors.invalid(&at, text, "must not contain '..'");
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(local) = local {
                errors.invalid(
                    &at,
                    local,
                    format!("can only be set when {what} type is Localhost"),
                );
            }
        }
        other => errors.not_supported(
            &path.child("type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
}

fn sysctls(sysctls: &[Value], spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (i, sysctl) in sysctls.iter().enumerate() {
        let at = path.index(i);
        let at = at.child("name");
        let name = sysctl.text("name");
        if name.is_empty() {
            errors.required(&at, "");
        } else if name.len() > 253 || !well_formed(name) {
            let detail = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*\
                          [a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, detail);
        } else if sysctls[..i].iter().any(|s| s.text("name") == name) {
            errors.duplicate(&at, name);
        }
        let host_network = spec.flag("hostNetwork") && name.starts_with("net.");
        let host_ipc = spec.flag("hostIPC")
            && (name.starts_with("kernel.shm") || name.starts_with("fs.mqueue."));
        if host_network || host_ipc {
            let key = if host_network {
                "hostNetwork"
            } else {
                "hostIPC"
            };
            errors.invalid(
                &at,
                name,
                format!("may not be specified when '{key}' is true"),
            );
        }
    }
}

fn well_formed(name: &str) -> bool {
    name.split(['.', '/']).all(|part| {
        let inner =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next()) && edge(part.chars().next_back()) && part.chars().all(inner)
    })
}
