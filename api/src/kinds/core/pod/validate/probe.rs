//! Probes and hooks: how a container is asked whether it is well, and what it does when it starts and stops.

use serde_json::Value;

use crate::kinds::core::service::validate_port_reference;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Checks the three probes of a container.
pub(super) fn probes(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.opt(kind) else {
            continue;
        };
        let at = path.child(kind);
        validate(probe, &at, errors);
        let success = probe.int("successThreshold").unwrap_or(1);
        if kind == "readinessProbe" {
            // A pod that is not ready is not killed, so nothing would use the period.
            if let Some(seconds) = probe.int("terminationGracePeriodSeconds") {
                let at = at.child("terminationGracePeriodSeconds");
                errors.invalid(&at, seconds, "must not be set for readinessProbes");
            }
        } else if success != 1 {
            errors.invalid(&at.child("successThreshold"), success, "must be 1");
        }
    }
}

fn validate(probe: &Value, path: &Path<'_>, errors: &mut Errors) {
    handler(probe, 0, path, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.non_negative(&path.child(key), probe.int(key));
    }
    if let Some(seconds) = probe
        .int("terminationGracePeriodSeconds")
        .filter(|seconds| *seconds <= 0)
    {
        errors.invalid(
            &path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
}

/// Checks the hooks of a container in a pod with the given grace period.
pub(super) fn lifecycle(
    lifecycle: &Value,
    grace_seconds: i64,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    for hook in ["postStart", "preStop"] {
        if let Some(action) = lifecycle.opt(hook) {
            handler(action, grace_seconds, &path.child(hook), errors);
        }
    }
}

fn handler(action: &Value, grace_seconds: i64, path: &Path<'_>, errors: &mut Errors) {
    let mut given = 0;
    for kind in HANDLERS {
        let Some(value) = action.opt(kind) else {
            continue;
        };
        let at = path.child(kind);
        if given > 0 {
            errors.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        given += 1;
        match *kind {
            "exec" => {
                if value.is_empty_at("command") {
                    errors.required(&at.child("command"), "");
                }
            }
            "httpGet" => http(value, &at, errors),
            "tcpSocket" => validate_port_reference(value.at("port"), &at.child("port"), errors),
            "grpc" => {
                let port = value.int("port").unwrap_or(0);
                errors.invalid_each_of(&at.child("port"), port, names::port(port));
            }
            _ => sleep(value, grace_seconds, &at, errors),
        }
    }
    if given == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http(http: &Value, path: &Path<'_>, errors: &mut Errors) {
    if http.is_empty_at("path") {
        errors.required(&path.child("path"), "");
    }
    validate_port_reference(http.at("port"), &path.child("port"), errors);
    let scheme = http.text("scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in http.list("httpHeaders") {
        let name = header.text("name");
        errors.invalid_each(
            &path.child("httpHeaders"),
            name,
            crate::names::http_header_name(name),
        );
    }
}

fn sleep(sleep: &Value, grace_seconds: i64, path: &Path<'_>, errors: &mut Errors) {
    let seconds = sleep.int("seconds").unwrap_or(0);
    if seconds < 0 || seconds > grace_seconds {
        let detail = format!(
            "must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"
        );
        errors.invalid(path, seconds, detail);
    }
}
