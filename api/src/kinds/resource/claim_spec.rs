//! What a claim asks for, in a claim or in a template: requests for devices, constraints between them, configuration.

use serde_json::Value;

use super::checks::{bounded, configuration, fully_qualified_name, label, selectors, unique};
use crate::kinds::value::{Get, default_to, items_at, remove, set};
use crate::kinds::{Errors, Path, names};

/// Also the most devices that a claim can be given.
pub(super) const REQUESTS_MAX: usize = 32;
pub(super) const CONFIGS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
/// Namespaces with it may look at devices that others use.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";
const REFERENCE: &str = "must be the name of a request in the claim or the name of a request and a subrequest \
    separated by '/'";

/// Fills in how many devices a request is for.
pub(super) fn default_spec(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else {
        return;
    };
    for request in items_at(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            default_request(exactly);
        }
        items_at(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    if !request.is_object() {
        return;
    }
    default_to(request, "allocationMode", "ExactCount");
    let none = request.int("count").unwrap_or(0) == 0;
    if request.text("allocationMode") == "ExactCount" && none {
        set(request, "count", 1);
    }
}

/// Drops what belongs to features that are off.
pub(super) fn drop_disabled(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else {
        return;
    };
    let drop = |request: &mut Value| {
        remove(request, "tolerations");
        remove(request, "capacity");
    };
    for request in items_at(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            drop(exactly);
        }
        items_at(request, "firstAvailable").for_each(drop);
    }
    for constraint in items_at(devices, "constraints") {
        remove(constraint, "distinctAttribute");
    }
}

/// The names under which a claim's requests can be referred to.
pub(super) struct RequestNames<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> RequestNames<'a> {
    /// Those of a claim's spec.
    pub(super) fn of(spec: &'a Value) -> Self {
        let requests = spec.at("devices").list("requests").iter();
        let names = requests.map(|request| {
            let alternatives = request.list("firstAvailable").iter();
            let alternatives = alternatives.map(|alternative| alternative.text("name"));
            (request.text("name"), alternatives.collect())
        });
        Self(names.collect())
    }

    fn contains(&self, reference: &str) -> bool {
        let (name, alternative) = match reference.split_once('/') {
            None => (reference, None),
            Some((name, alternative)) => (name, Some(alternative)),
        };
        let mut requests = self.0.iter().filter(|(known, _)| *known == name);
        requests.any(|(_, known)| alternative.is_none_or(|name| known.contains(&name)))
    }

    /// Checks one reference.
    pub(super) fn check(&self, reference: &str, path: &Path<'_>, errors: &mut Errors) {
        let segments: Vec<&str> = reference.split('/').collect();
        if segments.len() > 2 {
            errors.invalid(path, reference, REFERENCE);
            return;
        }
        for segment in segments {
            label(segment, path, errors);
        }
        if !self.contains(reference) {
            errors.invalid(path, reference, REFERENCE);
        }
    }

    /// Checks a list of references.
    pub(super) fn check_all(&self, references: &[Value], path: &Path<'_>, errors: &mut Errors) {
        let references = bounded(references, REQUESTS_MAX, path, errors);
        let texts = || references.iter().map(|r| r.as_str().unwrap_or(""));
        for (i, reference) in texts().enumerate() {
            self.check(reference, &path.index(i), errors);
        }
        unique(texts(), path, errors);
    }
}

/// Checks what a new claim asks for.
pub(super) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("devices");
    let devices = spec.at("devices");
    let known = RequestNames::of(spec);
    let at = path.child("requests");
    let requests = bounded(devices.list("requests"), REQUESTS_MAX, &at, errors);
    for (i, request) in requests.iter().enumerate() {
        validate_request(request, &at.index(i), errors);
    }
    unique(requests.iter().map(|r| r.text("name")), &at, errors);
    let at = path.child("constraints");
    let constraints = bounded(devices.list("constraints"), CONSTRAINTS_MAX, &at, errors);
    for (i, constraint) in constraints.iter().enumerate() {
        let at = at.index(i);
        known.check_all(constraint.list("requests"), &at.child("requests"), errors);
        let attribute = at.child("matchAttribute");
        match constraint.opt_text("matchAttribute") {
            Some(name) => fully_qualified_name(name, &attribute, errors),
            None => errors.required(&attribute, ""),
        }
    }
    let at = path.child("config");
    let configs = bounded(devices.list("config"), CONFIGS_MAX, &at, errors);
    for (i, config) in configs.iter().enumerate() {
        let at = at.index(i);
        known.check_all(config.list("requests"), &at.child("requests"), errors);
        configuration(config, false, &at, errors);
    }
}

/// Refuses a look at devices that others use: whether the namespace allows it is not known here.
pub(super) fn refuse_admin_access(spec: &Value, errors: &mut Errors) {
    let requests = spec.at("devices").list("requests");
    let asks = |request: &Value| request.at("exactly").flag("adminAccess");
    if let Some(i) = requests.iter().position(asks) {
        let path = Path::new("spec.devices.requests");
        let detail = format!(
            "admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
        );
        errors.forbidden(&path.index(i).child("adminAccess"), detail);
    }
}

fn validate_request(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    label(request.text("name"), &path.child("name"), errors);
    let either = "exactly one of `exactly` or `firstAvailable` is required";
    let alternatives = request.list("firstAvailable");
    match (request.opt("exactly"), alternatives.is_empty()) {
        (None, true) => errors.required(path, either),
        (Some(_), false) => {
            let detail = format!("{either}, but multiple fields are set");
            errors.invalid(path, &Value::Null, detail);
        }
        (Some(exactly), true) => validate_devices(exactly, &path.child("exactly"), errors),
        (None, false) => {
            let at = path.child("firstAvailable");
            let alternatives = bounded(alternatives, ALTERNATIVES_MAX, &at, errors);
            for (i, alternative) in alternatives.iter().enumerate() {
                let at = at.index(i);
                label(alternative.text("name"), &at.child("name"), errors);
                validate_devices(alternative, &at, errors);
            }
            unique(alternatives.iter().map(|a| a.text("name")), &at, errors);
        }
    }
}

fn validate_devices(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    let class = request.text("deviceClassName");
    let at = path.child("deviceClassName");
    if class.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, class, names::subdomain(class, false));
    }
    selectors(request.list("selectors"), &path.child("selectors"), errors);
    let count = request.int("count").unwrap_or(0);
    let at = path.child("count");
    match request.text("allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&at, count, detail);
        }
        "ExactCount" if count <= 0 => errors.invalid(&at, count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        mode => errors.not_supported(&path.child("allocationMode"), mode, &["All", "ExactCount"]),
    }
}
