//! Rules: which operations on which resources are looked at.

use serde_json::Value;

use crate::kinds::value::{Get, default_to, items_at};
use crate::kinds::{Errors, Path};

/// Operations, in the order in which errors list them.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// Scopes, likewise.
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

/// Fills in the scope of each rule in a list.
pub(super) fn default_rules(object: &mut Value, key: &str) {
    for rule in items_at(object, key) {
        default_to(rule, "scope", "*");
    }
}

/// Checks a rule.
pub(super) fn validate_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let operations = texts(rule, "operations");
    let at = path.child("operations");
    lone_wildcard(rule, "operations", "operations", path, errors);
    for (i, operation) in operations.iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            errors.not_supported(&at.index(i), operation, OPERATIONS);
        }
    }
    lone_wildcard(rule, "apiGroups", "API groups", path, errors);
    lone_wildcard(rule, "apiVersions", "API versions", path, errors);
    let at = path.child("apiVersions");
    for (i, version) in texts(rule, "apiVersions").iter().enumerate() {
        if version.is_empty() {
            errors.required(&at.index(i), "");
        }
    }
    validate_resources(rule, &path.child("resources"), errors);
    if let Some(scope) = rule.opt_text("scope").filter(|s| !SCOPES.contains(s)) {
        errors.not_supported(&path.child("scope"), scope, SCOPES);
    }
}

/// A list that must not be empty, in which `*` stands alone.
fn lone_wildcard(rule: &Value, key: &str, what: &str, path: &Path<'_>, errors: &mut Errors) {
    let items = texts(rule, key);
    let at = path.child(key);
    if items.is_empty() {
        errors.required(&at, "");
    }
    if items.len() > 1 && items.contains(&"*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&at, rule.at(key), detail);
    }
}

fn texts<'a>(object: &'a Value, key: &str) -> Vec<&'a str> {
    let items = object.list(key).iter();
    items.map(|item| item.as_str().unwrap_or("")).collect()
}

fn validate_resources(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let resources = texts(rule, "resources");
    if resources.is_empty() {
        errors.required(path, "");
    }
    // `x/*` and `*/x` that came before.
    let mut every_subresource: Vec<&str> = Vec::new();
    let mut of_every_resource: Vec<&str> = Vec::new();
    let mut plain = false;
    for (i, text) in resources.iter().enumerate() {
        if text.is_empty() {
            errors.required(&path.index(i), "");
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            // As upstream has it, the last one counts.
            plain = *text != "*";
            continue;
        };
        if every_subresource.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&path.index(i), *text, detail);
        }
        if of_every_resource.contains(&sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.invalid(&path.index(i), *text, detail);
        }
        if sub == "*" {
            every_subresource.push(resource);
        }
        if resource == "*" {
            of_every_resource.push(sub);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, rule.at("resources"), detail);
    }
    if plain && resources.contains(&"*") {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, rule.at("resources"), detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::with;

    #[test]
    fn wildcards_stand_alone() {
        let rule = json!({
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods", "pods/status"]});
        let check = |rule: Value| -> Vec<String> {
            let mut errors = Errors::new();
            validate_rule(&rule, &Path::new("r"), &mut errors);
            errors.finish().iter().map(ToString::to_string).collect()
        };
        let none: Vec<String> = vec![];
        assert_eq!(check(rule.clone()), none);
        assert_eq!(
            check(json!({})),
            [
                "r.operations: Required value",
                "r.apiGroups: Required value",
                "r.apiVersions: Required value",
                "r.resources: Required value",
            ]
        );
        let cases = [
            (
                "/operations",
                json!(["*", "CREATE"]),
                "r.operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            ),
            (
                "/operations",
                json!(["PATCH"]),
                "r.operations[0]: Unsupported value: \"PATCH\": supported values: \"*\", \"CONNECT\", \"CREATE\", \
                 \"DELETE\", \"UPDATE\"",
            ),
            (
                "/apiVersions",
                json!([""]),
                "r.apiVersions[0]: Required value",
            ),
            (
                "/resources",
                json!(["pods/*", "pods/log"]),
                "r.resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
            ),
            (
                "/resources",
                json!(["*/log", "pods/log"]),
                "r.resources[1]: Invalid value: \"pods/log\": if '*/log' is present, must not specify pods/log",
            ),
            (
                "/resources",
                json!(["*", "pods"]),
                "r.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources \
                 without subresources",
            ),
            (
                "/scope",
                json!("World"),
                "r.scope: Unsupported value: \"World\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ),
        ];
        for (pointer, value, expected) in cases {
            assert_eq!(check(with(rule.clone(), pointer, value)), [expected]);
        }
    }
}
