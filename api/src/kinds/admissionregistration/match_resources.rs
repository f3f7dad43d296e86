//! Which objects a policy, or a binding of one, speaks of.

use serde_json::{Value, json};

use super::MATCH_POLICIES;
use super::rules::{default_rules, validate_rule};
use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::value::{Get, default_to};
use crate::kinds::{Errors, Path, names};

const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];
const RULES: [&str; 2] = ["resourceRules", "excludeResourceRules"];

/// Fills in what matches when nothing is said: everything.
pub(super) fn default_match_resources(resources: &mut Value) {
    default_to(resources, "matchPolicy", "Equivalent");
    for key in SELECTORS {
        default_to(resources, key, json!({}));
    }
    for key in RULES {
        default_rules(resources, key);
    }
}

/// Checks what matches, which must have its defaults.
pub(super) fn validate_match_resources(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let policy = resources.text("matchPolicy");
    errors.one_of(&path.child("matchPolicy"), policy, MATCH_POLICIES);
    for key in SELECTORS {
        match resources.opt(key) {
            None => errors.required(&path.child(key), ""),
            Some(selector) => validate_label_selector(selector, &path.child(key), errors),
        }
    }
    for key in RULES {
        for (i, rule) in resources.list(key).iter().enumerate() {
            let at = path.child(key);
            validate_named_rule(rule, &at.index(i), errors);
        }
    }
}

fn validate_named_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("resourceNames");
    let mut seen: Vec<&str> = Vec::new();
    for (i, name) in rule.list("resourceNames").iter().enumerate() {
        let name = name.as_str().unwrap_or("");
        errors.invalid_each(&at.index(i), name, names::path_segment(name, false));
        if seen.contains(&name) {
            errors.duplicate(&at.index(i), name);
        }
        seen.push(name);
    }
    validate_rule(rule, path, errors);
}
