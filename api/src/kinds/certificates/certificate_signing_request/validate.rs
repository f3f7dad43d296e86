//! What a signing request must look like, and who may change which part of its status.

use serde_json::Value;

use super::DECISIONS;
use super::contents::{certificate_fault, request_fault};
use crate::kinds::value::{Get, same};
use crate::kinds::{Errors, Path};
use crate::names::{DNS_LABEL_MAX, DNS_SUBDOMAIN_MAX, dns1123_label, dns1123_subdomain};
use crate::quote::quote;

/// Conditions that are true or not there.
const TRUE_ONLY: &[&str] = &["Approved", "Denied", "Failed"];
/// Shortest life of a certificate that can be asked for.
const EXPIRATION_SECONDS_MIN: i64 = 600;
/// A signer that only a former version of the API knew.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// Longest signer: a subdomain, and a path that may name a namespaced resource in it.
const SIGNER_BYTES_MAX: usize = 2 * DNS_SUBDOMAIN_MAX + DNS_LABEL_MAX + 2;

/// What a certificate can be for, sorted as errors list it.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The path of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Through {
    /// The object itself.
    Main,
    /// The signer's.
    Status,
    /// The approver's.
    Approval,
}

/// Checks a new object, or an update of `old`. What is wrong in `old` already is borne.
pub(super) fn validate(new: &Value, old: Option<&Value>, through: Through, errors: &mut Errors) {
    validate_spec(new.at("spec"), old.map(|old| old.at("spec")), errors);
    let (status, old_status) = (new.at("status"), old.map(|old| old.at("status")));
    validate_conditions(status, old_status, errors);
    let certificate = status.text("certificate");
    let path = Path::new("status.certificate");
    let borne = old_status.is_some_and(|old| {
        let before = old.text("certificate");
        before == certificate || certificate_fault(before).is_some()
    });
    if let Some(fault) = certificate_fault(certificate).filter(|_| !borne) {
        errors.invalid(&path, "<certificate data>", fault);
    }
    let Some(old) = old_status else {
        return;
    };
    validate_condition_changes(status, old, through, errors);
    if certificate != old.text("certificate") {
        if through != Through::Status {
            errors.forbidden(&path, "updates may not set certificate content");
        } else if !old.is_empty_at("certificate") {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
    }
}

fn validate_spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    if let Some(fault) = request_fault(spec.text("request")) {
        errors.invalid(&path.child("request"), spec.text("request"), fault);
    }
    validate_usages(spec, old, &path.child("usages"), errors);
    let signer = spec.text("signerName");
    let at = path.child("signerName");
    let legacy_before = old.is_some_and(|old| old.text("signerName") == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !legacy_before {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.invalid(&at, signer, detail);
    } else {
        validate_signer_name(signer, &at, errors);
    }
    if let Some(seconds) = spec.int("expirationSeconds")
        && seconds < EXPIRATION_SECONDS_MIN
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
}

fn validate_usages(spec: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let usages = texts(spec.list("usages"));
    let before = old.map(|old| texts(old.list("usages"))).unwrap_or_default();
    if usages.is_empty() {
        errors.required(path, "");
    }
    let unknown = |usage: &&str| !USAGES.contains(usage);
    if !before.iter().any(unknown) {
        for (i, usage) in usages.iter().enumerate().filter(|(_, u)| unknown(u)) {
            errors.not_supported(&path.index(i), usage, USAGES);
        }
    }
    if !has_duplicates(&before) {
        for (i, usage) in usages.iter().enumerate() {
            if usages[..i].contains(usage) {
                errors.duplicate(&path.index(i), *usage);
            }
        }
    }
}

fn texts(list: &[Value]) -> Vec<&str> {
    list.iter()
        .map(|item| item.as_str().unwrap_or(""))
        .collect()
}

fn has_duplicates(texts: &[&str]) -> bool {
    let repeated = |(i, text): (usize, &&str)| texts[..i].contains(text);
    texts.iter().enumerate().any(repeated)
}

/// Checks the name of a signer: `domain/path`.
fn validate_signer_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, rest] = parts[..] else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, name, detail);
        return;
    };
    if domain.len() > DNS_SUBDOMAIN_MAX {
        errors.too_long(path, DNS_SUBDOMAIN_MAX);
    }
    first_bad_label(domain, dns1123_label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, detail);
    }
    first_bad_label(rest, dns1123_subdomain, path, errors);
    if name.len() > SIGNER_BYTES_MAX {
        errors.too_long(path, SIGNER_BYTES_MAX);
    }
}

fn first_bad_label(
    text: &str,
    rule: fn(&str) -> crate::names::Faults,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let mut labels = text.split('.').map(|label| (label, rule(label)));
    if let Some((label, faults)) = labels.find(|(_, faults)| !faults.is_empty()) {
        for fault in faults {
            let detail = format!("validating label {}: {fault}", quote(label));
            errors.invalid(path, text, detail);
        }
    }
}

fn validate_conditions(status: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let before = old.map(types).unwrap_or_default();
    let both_before = DECISIONS.iter().all(|decision| before.contains(decision));
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in status.list("conditions").iter().enumerate() {
        let at = path.index(i);
        let kind = condition.text("type");
        if kind.is_empty() && !before.contains(&"") {
            errors.required(&at.child("type"), "");
        }
        let allowed: &[&str] = match TRUE_ONLY.contains(&kind) {
            true => &["True"],
            false => &["False", "True", "Unknown"],
        };
        errors.one_of(&at.child("status"), condition.text("status"), allowed);
        let other = DECISIONS.iter().find(|decision| **decision != kind);
        let excluded = DECISIONS.contains(&kind) && other.is_some_and(|other| seen.contains(other));
        if excluded && !both_before {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path, kind, detail);
        }
        if seen.contains(&kind) && !has_duplicates(&before) {
            errors.duplicate(&at.child("type"), kind);
        }
        seen.push(kind);
    }
}

fn types(status: &Value) -> Vec<&str> {
    let conditions = status.list("conditions").iter();
    conditions.map(|condition| condition.text("type")).collect()
}

fn validate_condition_changes(new: &Value, old: &Value, through: Through, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let of_type = |status: &Value, kind: &str| -> Vec<Value> {
        let conditions = status.list("conditions").iter();
        let conditions = conditions.filter(|condition| condition.text("type") == kind);
        conditions.cloned().collect()
    };
    for kind in TRUE_ONLY {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {}", quote(kind));
            errors.forbidden(&path, detail);
        }
    }
    if through == Through::Approval {
        return;
    }
    for kind in DECISIONS {
        let (after, before) = (of_type(new, kind), of_type(old, kind));
        let kind = quote(kind);
        if after.len() > before.len() {
            let detail = format!("updates may not add a condition of type {kind}");
            errors.forbidden(&path, detail);
        } else if after.len() == before.len() && !same(&after.into(), &before.into()) {
            let detail = format!("updates may not modify a condition of type {kind}");
            errors.forbidden(&path, detail);
        }
    }
}
