//! Environment variables of containers.

use serde_json::Value;

use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

/// Fields of a pod that a variable may show.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may show.
pub(super) const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Resources of a container that may be shown.
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SOURCES: &[&str] = &[
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];
const ONE_ONLY: &str = "may not have more than one field specified at a time";

/// Checks a list of variables.
pub(super) fn env(variables: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, variable) in variables.iter().enumerate() {
        let at = path.index(i);
        let name = variable.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.invalid_each(&at.child("name"), name, names::env_var(name));
        }
        if let Some(from) = variable.opt("valueFrom") {
            value_from(variable, from, &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, from: &Value, path: &Path<'_>, errors: &mut Errors) {
    let given = SOURCES.iter().filter(|source| from.has(source)).count();
    if let Some(field) = from.opt("fieldRef") {
        field_ref(field, FIELDS, true, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = from.opt("resourceFieldRef") {
        resource_ref(resource, false, &path.child("resourceFieldRef"), errors);
    }
    for source in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = from.opt(source) {
            key_ref(key, &path.child(source), errors);
        }
    }
    if given == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.invalid(path, "", detail);
    } else if !variable.text("value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if given > 1 {
        errors.invalid(path, "", ONE_ONLY);
    }
}

/// Checks a reference to a field of the pod.
pub(super) fn field_ref(
    field: &Value,
    known: &[&str],
    subscripts: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if field.is_empty_at("apiVersion") {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    let at = path.child("fieldPath");
    let text = field.text("fieldPath");
    if text.is_empty() {
        errors.required(&at, "");
        return;
    }
    if let Some((base, key)) = subscript(text) {
        match base {
            "metadata.annotations" => {
                errors.invalid_each(&at, key, names::qualified_name(&key.to_lowercase()))
            }
            "metadata.labels" => errors.invalid_each(&at, key, names::qualified_name(key)),
            _ => errors.invalid(&at, text, "does not support subscript"),
        }
    } else if !FIELDS.contains(&text) && !FILE_FIELDS.contains(&text) {
        let why = format!("error converting fieldPath: field label not supported: {text}");
        errors.invalid(&at, text, why);
    } else if subscripts && matches!(text, "metadata.annotations" | "metadata.labels")
        || !known.contains(&text)
    {
        errors.not_supported(&at, text, known);
    }
}

/// `metadata.labels['key']` as base and key.
fn subscript(text: &str) -> Option<(&str, &str)> {
    let (base, rest) = text.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// Checks a reference to a container's resource; files must say which container.
pub(super) fn resource_ref(resource: &Value, in_file: bool, path: &Path<'_>, errors: &mut Errors) {
    if in_file && resource.is_empty_at("containerName") {
        errors.required(&path.child("containerName"), "");
        return;
    }
    let name = resource.text("resource");
    if name.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&name)
        && !name.starts_with("limits.hugepages-")
        && !name.starts_with("requests.hugepages-")
    {
        errors.not_supported(&path.child("resource"), name, RESOURCES);
    }
    let divisor = match resource.at("divisor") {
        Value::String(text) => text.as_str(),
        _ => return,
    };
    let allowed: &[&str] = if name.ends_with(".cpu") {
        &["0", "1m", "1"]
    } else {
        &[
            "0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
        ]
    };
    if !allowed.contains(&divisor) {
        let what = if name.ends_with(".cpu") {
            "cpu"
        } else {
            "memory"
        };
        let detail = format!(
            "only divisor's values {} are supported with the {what} resource",
            allowed[1..].join(", ")
        );
        errors.invalid(&path.child("divisor"), divisor, detail);
    }
}

fn key_ref(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = reference.text("name");
    errors.invalid_each(&path.child("name"), name, names::subdomain(name, false));
    let key = reference.text("key");
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.invalid_each(&path.child("key"), key, names::config_map_key(key));
    }
}

/// Checks whole ConfigMaps and Secrets taken as variables.
pub(super) fn env_from(sources: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        let at = path.index(i);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            errors.invalid_each(&at.child("prefix"), prefix, names::env_var(prefix));
        }
        let mut given = 0;
        for kind in ["configMapRef", "secretRef"] {
            let Some(reference) = source.opt(kind) else {
                continue;
            };
            given += 1;
            let at = at.child(kind);
            let name = reference.text("name");
            if name.is_empty() {
                errors.required(&at.child("name"), "");
            } else {
                errors.invalid_each(&at.child("name"), name, names::subdomain(name, false));
            }
        }
        match given {
            0 => errors.invalid(
                &at,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => errors.invalid(&at, "", ONE_ONLY),
        }
    }
}
