//! What an Ingress must look like.

use std::net::IpAddr;

use serde_json::Value;

use super::CLASS_ANNOTATION;
use crate::kinds::networking::validate_typed_reference;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};
use crate::names::wildcard_dns1123_subdomain;

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
/// Sequences that proxies would rewrite, so that a path with them could never match.
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];

/// Checks the `spec`. `relaxed` lets the names of Services begin with a digit.
pub(super) fn validate_spec(spec: &Value, relaxed: bool, errors: &mut Errors) {
    let path = Path::new("spec");
    let rules = spec.list("rules");
    let backend = spec.opt("defaultBackend");
    if rules.is_empty() && backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, spec.at("rules"), detail);
    }
    if let Some(backend) = backend {
        validate_backend(backend, relaxed, &path.child("defaultBackend"), errors);
    }
    let at = path.child("rules");
    for (i, rule) in rules.iter().enumerate() {
        validate_rule(rule, relaxed, &at.index(i), errors);
    }
    let at = path.child("tls");
    for (i, tls) in spec.list("tls").iter().enumerate() {
        validate_tls(tls, &at.index(i), errors);
    }
    if let Some(class) = spec.opt_text("ingressClassName") {
        let faults = names::subdomain(class, false);
        errors.invalid_each(&path.child("ingressClassName"), class, faults);
    }
}

/// Refuses a new Ingress whose annotation and field name different classes.
pub(super) fn validate_class_annotation(object: &Value, errors: &mut Errors) {
    let annotations = object.at("metadata").at("annotations");
    let class = object.at("spec").opt_text("ingressClassName");
    if let (Some(annotated), Some(class)) = (annotations.opt_text(CLASS_ANNOTATION), class)
        && annotated != class
    {
        let path = Path::new("annotations");
        let detail = "must match `ingressClassName` when both are specified";
        errors.invalid(&path.child(CLASS_ANNOTATION), annotated, detail);
    }
}

/// Whether the stored Ingress already names a Service in the wider form, which then may stay.
pub(super) fn relaxed_names(spec: &Value) -> bool {
    let rules = spec.list("rules").iter();
    let paths = rules.flat_map(|rule| rule.at("http").list("paths"));
    let backends = paths.map(|path| path.at("backend"));
    backends
        .chain([spec.at("defaultBackend")])
        .filter_map(|backend| backend.at("service").opt_text("name"))
        .any(|name| {
            names::label(name, false).is_empty() && !names::label_1035(name, false).is_empty()
        })
}

fn validate_host(host: &str, path: &Path<'_>, errors: &mut Errors) {
    let faults = if host.contains('*') {
        wildcard_dns1123_subdomain(host)
    } else {
        names::subdomain(host, false)
    };
    errors.invalid_each(path, host, faults);
}

fn validate_tls(tls: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("hosts");
    for (i, host) in tls.list("hosts").iter().enumerate() {
        validate_host(host.as_str().unwrap_or(""), &at.index(i), errors);
    }
    let secret = tls.text("secretName");
    if !secret.is_empty() {
        let faults = names::subdomain(secret, false);
        errors.invalid_each(&path.child("secretName"), secret, faults);
    }
}

fn validate_rule(rule: &Value, relaxed: bool, path: &Path<'_>, errors: &mut Errors) {
    let host = rule.text("host");
    if !host.is_empty() {
        let at = path.child("host");
        if host.parse::<IpAddr>().is_ok() {
            errors.invalid(&at, host, "must be a DNS name, not an IP address");
        }
        validate_host(host, &at, errors);
    }
    let Some(http) = rule.opt("http") else {
        return;
    };
    let at = path.child("http");
    let at = at.child("paths");
    if http.list("paths").is_empty() {
        errors.required(&at, "");
    }
    for (i, item) in http.list("paths").iter().enumerate() {
        validate_path(item, relaxed, &at.index(i), errors);
    }
}

fn validate_path(item: &Value, relaxed: bool, path: &Path<'_>, errors: &mut Errors) {
    let Some(kind) = item.opt_text("pathType") else {
        errors.required(&path.child("pathType"), "pathType must be specified");
        return;
    };
    let text = item.text("path");
    let at = path.child("path");
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&at, text, "must be an absolute path");
            }
            for sequence in BAD_SEQUENCES.iter().filter(|bad| text.contains(**bad)) {
                errors.invalid(&at, text, format!("must not contain '{sequence}'"));
            }
            for end in BAD_ENDS.iter().filter(|bad| text.ends_with(**bad)) {
                errors.invalid(&at, text, format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&at, text, "must be an absolute path");
            }
        }
        _ => errors.not_supported(&path.child("pathType"), kind, PATH_TYPES),
    }
    validate_backend(item.at("backend"), relaxed, &path.child("backend"), errors);
}

fn validate_backend(backend: &Value, relaxed: bool, path: &Path<'_>, errors: &mut Errors) {
    match (backend.opt("resource"), backend.opt("service")) {
        (Some(_), Some(_)) => {
            errors.invalid(path, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => {
            validate_typed_reference(resource, &path.child("resource"), errors);
        }
        (None, Some(service)) => validate_service(service, relaxed, path, errors),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn validate_service(service: &Value, relaxed: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = service.text("name");
    let at = path.child("service");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        let faults = if relaxed {
            names::label(name, false)
        } else {
            names::label_1035(name, false)
        };
        errors.invalid_each(&at.child("name"), name, faults);
    }
    let port = service.at("port");
    let at = at.child("port");
    match (port.text("name"), port.int("number").unwrap_or(0)) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => {
            errors.invalid_each_of(&at.child("number"), number, names::port(number));
        }
        (name, 0) => errors.invalid_each(&at.child("name"), name, names::port_name(name)),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}
