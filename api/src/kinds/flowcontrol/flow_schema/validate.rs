//! What a FlowSchema must look like.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::flowcontrol::mandatory::EXEMPT;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

const PRECEDENCE_MAX: i64 = 10_000;
const DISTINGUISHERS: &[&str] = &["ByNamespace", "ByUser"];
/// The kinds of subjects, and the field that goes with each.
const SUBJECTS: [(&str, &str); 3] = [
    ("Group", "group"),
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
];
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// Checks the `spec` of the schema of that name.
pub(super) fn validate_spec(name: &str, spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let precedence = spec.int("matchingPrecedence").unwrap_or(0);
    let at = path.child("matchingPrecedence");
    if precedence <= 0 {
        errors.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        let detail = format!("must not be greater than {PRECEDENCE_MAX}");
        errors.invalid(&at, precedence, detail);
    }
    if precedence == 1 && name != EXEMPT {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&at, precedence, detail);
    }
    if let Some(method) = spec.opt("distinguisherMethod")
        && !DISTINGUISHERS.contains(&method.text("type"))
    {
        let at = path.child("distinguisherMethod");
        errors.push(FieldError::not_supported(
            &at.child("type").to_field_path(),
            method.clone(),
            DISTINGUISHERS,
        ));
    }
    let level = spec.at("priorityLevelConfiguration").text("name");
    let at = path.child("priorityLevelConfiguration");
    let at = at.child("name");
    if level.is_empty() {
        errors.required(&at, "must reference a priority level");
    } else {
        errors.invalid_each(&at, level, names::subdomain(level, false));
    }
    let at = path.child("rules");
    for (i, rule) in spec.list("rules").iter().enumerate() {
        validate_rule(rule, &at.index(i), errors);
    }
}

fn validate_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let subjects = rule.list("subjects");
    let at = path.child("subjects");
    if subjects.is_empty() {
        errors.required(&at, "subjects must contain at least one value");
    }
    for (i, subject) in subjects.iter().enumerate() {
        validate_subject(subject, &at.index(i), errors);
    }
    let (resources, others) = (rule.list("resourceRules"), rule.list("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(path, detail);
    }
    let at = path.child("resourceRules");
    for (i, rule) in resources.iter().enumerate() {
        validate_resource_rule(rule, &at.index(i), errors);
    }
    let at = path.child("nonResourceRules");
    for (i, rule) in others.iter().enumerate() {
        validate_other_rule(rule, &at.index(i), errors);
    }
}

fn validate_subject(subject: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = subject.text("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(name, _)| *name == kind) else {
        let kinds = SUBJECTS.map(|(name, _)| name);
        errors.not_supported(&path.child("kind"), kind, &kinds);
        return;
    };
    let at = path.child(own);
    match subject.opt(own) {
        None => {
            let detail = format!("{own} is required when subject kind is '{kind}'");
            errors.required(&at, &detail);
        }
        Some(account) if kind == "ServiceAccount" => validate_account(account, &at, errors),
        Some(named) => {
            if named.is_empty_at("name") {
                errors.required(&at.child("name"), "");
            }
        }
    }
    // Upstream looks at the service account first, then at the user, then at the group.
    for (name, field) in [SUBJECTS[1], SUBJECTS[2], SUBJECTS[0]] {
        if name != kind && subject.has(field) {
            let detail = format!("{field} is forbidden when subject kind is not '{name}'");
            errors.forbidden(&path.child(field), detail);
        }
    }
}

fn validate_account(account: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = account.text("name");
    let at = path.child("name");
    match name {
        "" => errors.required(&at, ""),
        "*" => {}
        name => errors.invalid_each(&at, name, names::subdomain(name, false)),
    }
    let namespace = account.text("namespace");
    let at = path.child("namespace");
    if namespace.is_empty() {
        errors.required(&at, "must specify namespace for service account");
    } else {
        errors.invalid_each(&at, namespace, names::label(namespace, false));
    }
}

/// Checks a list that is not empty and in which `*` stands alone; tells whether it holds anything but `*`.
fn validate_list(
    rule: &Value,
    path: &Path<'_>,
    key: &str,
    missing: &str,
    others: &str,
    errors: &mut Errors,
) -> bool {
    let items = rule.list(key);
    let wildcard = items.iter().any(|item| item.as_str() == Some("*"));
    if items.is_empty() {
        errors.required(&path.child(key), missing);
    } else if wildcard && items.len() > 1 {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.invalid(&path.child(key), rule.at(key), detail);
    }
    !items.is_empty() && !wildcard
}

fn validate_verbs(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let missing = "verbs must contain at least one value";
    let named = validate_list(rule, path, "verbs", missing, "verbs", errors);
    let known = |verb: &Value| VERBS.contains(&verb.as_str().unwrap_or(""));
    if named && !rule.list("verbs").iter().all(known) {
        errors.push(FieldError::not_supported(
            &path.child("verbs").to_field_path(),
            rule.at("verbs").clone(),
            VERBS,
        ));
    }
}

fn validate_resource_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_verbs(rule, path, errors);
    let missing = "resource rules must supply at least one api group";
    validate_list(rule, path, "apiGroups", missing, "api groups", errors);
    let missing = "resource rules must supply at least one resource";
    validate_list(rule, path, "resources", missing, "resources", errors);
    if rule.is_empty_at("namespaces") && rule.flag("clusterScope") {
        return;
    }
    let missing = "resource rules that are not cluster scoped must supply at least one namespace";
    if validate_list(rule, path, "namespaces", missing, "namespaces", errors) {
        let at = path.child("namespaces");
        for (i, namespace) in rule.list("namespaces").iter().enumerate() {
            let namespace = namespace.as_str().unwrap_or("");
            for fault in names::label(namespace, false) {
                let detail =
                    format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
                errors.invalid(&at.index(i), namespace, detail);
            }
        }
    }
}

fn validate_other_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_verbs(rule, path, errors);
    let key = "nonResourceURLs";
    let missing = "nonResourceURLs must contain at least one value";
    if validate_list(rule, path, key, missing, "non-resource URLs", errors) {
        let at = path.child(key);
        for (i, url) in rule.list(key).iter().enumerate() {
            let url = url.as_str().unwrap_or("");
            if let Some(fault) = url_fault(url) {
                errors.invalid(&at.index(i), url, fault);
            }
        }
    }
}

fn url_fault(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}
