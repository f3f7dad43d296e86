//! Requests and limits.

use serde_json::Value;

use crate::kinds::errors::NOT_NEGATIVE;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};
use crate::quantity::Quantity;

const HUGE_PAGES: &str = "hugepages-";

/// Checks the `resources` of a container or of a whole pod.
pub(crate) fn resources(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let limits_path = path.child("limits");
    let requests_path = path.child("requests");
    let mut huge_pages = false;
    let mut ordinary = false;
    for (key, at) in [("limits", &limits_path), ("requests", &requests_path)] {
        for (name, amount) in resources.entries(key) {
            resource_name(name, &at.key(name), errors);
            quantity(name, amount, &at.key(name), errors);
            huge_pages |= name.starts_with(HUGE_PAGES);
            ordinary |= matches!(name, "cpu" | "memory");
        }
    }
    for (name, request) in resources.entries("requests") {
        let limit = resources.at("limits").opt(name);
        request_within_limit(name, request, limit, &limits_path, &requests_path, errors);
    }
    if huge_pages && !ordinary {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// Checks what becomes of a container when its resources change.
pub(super) fn resize_policy(
    policies: &[Value],
    pod_restart_policy: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    for (i, policy) in policies.iter().enumerate() {
        let (name, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if policies[..i].iter().any(|p| p.text("resourceName") == name) {
            errors.duplicate(&path.index(i), name);
        }
        errors.one_of(path, name, &["cpu", "memory"]);
        errors.one_of(path, restart, &["NotRequired", "RestartContainer"]);
        if pod_restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.invalid(path, restart, detail);
        }
    }
}

/// Checks the overhead that a runtime class added.
pub(super) fn overhead(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("overhead");
    for (name, amount) in spec.entries("overhead") {
        resource_name(name, &path.key(name), errors);
        quantity(name, amount, &path.key(name), errors);
    }
}

fn request_within_limit(
    name: &str,
    request: &Value,
    limit: Option<&Value>,
    limits_path: &Path<'_>,
    requests_path: &Path<'_>,
    errors: &mut Errors,
) {
    let Some(limit) = limit else {
        if !may_overcommit(name) {
            errors.required(
                limits_path,
                "Limit must be set for non overcommitable resources",
            );
        }
        return;
    };
    let (Ok(wanted), Ok(limit)) = (Quantity::from_json(request), Quantity::from_json(limit)) else {
        return;
    };
    if wanted != limit && !may_overcommit(name) {
        let detail = format!("must be equal to {name} limit of {limit}");
        errors.invalid(requests_path, wanted.to_string(), detail);
    } else if wanted > limit {
        let detail = format!("must be less than or equal to {name} limit of {limit}");
        errors.invalid(requests_path, wanted.to_string(), detail);
    }
}

/// Devices and huge pages cannot be promised twice.
fn may_overcommit(name: &str) -> bool {
    !is_extended(name) && !name.starts_with(HUGE_PAGES)
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// Checks the name of a resource that containers may ask for.
pub(crate) fn resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let faults = names::qualified_name(name);
    if !faults.is_empty() {
        errors.invalid_each(path, name, faults);
    } else if !name.contains('/') {
        let standard =
            matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES);
        if !standard {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_extended(name) && !name.contains("kubernetes.io/") {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn quantity(name: &str, amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    match Quantity::from_json(amount) {
        Err(error) => errors.invalid(path, amount, error.to_string()),
        Ok(quantity) if quantity.is_negative() => {
            errors.invalid(path, quantity.to_string(), NOT_NEGATIVE)
        }
        Ok(quantity) if is_extended(name) && !quantity.is_integer() => {
            errors.invalid(path, quantity.to_string(), "must be an integer");
        }
        Ok(_) => {}
    }
}
