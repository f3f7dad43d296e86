//! What a policy must look like, but for its expressions: whether they compile is the evaluator's business.

use serde_json::Value;

use super::super::FAILURE_POLICIES;
use super::super::match_conditions::validate_match_conditions;
use super::super::match_resources::validate_match_resources;
use crate::kinds::value::{Get, same};
use crate::kinds::{Errors, Path, names};

/// Audit annotations of one policy.
const ANNOTATIONS_MAX: usize = 20;
/// Longest expression for the value of one.
const ANNOTATION_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
/// Reasons that a refusal may carry.
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// Words of CEL that cannot be names.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Checks a new policy, or an update of `old`.
pub(super) fn validate_spec(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = new.at("spec");
    let path = Path::new("spec");
    let policy = spec.text("failurePolicy");
    errors.one_of(&path.child("failurePolicy"), policy, FAILURE_POLICIES);
    if let Some(kind) = spec.opt("paramKind") {
        validate_param_kind(kind, &path.child("paramKind"), errors);
    }
    let at = path.child("matchConstraints");
    match spec.opt("matchConstraints") {
        None => errors.required(&at, ""),
        Some(constraints) => {
            validate_match_resources(constraints, &at, errors);
            if constraints.is_empty_at("resourceRules") {
                errors.required(&at.child("resourceRules"), "");
            }
        }
    }
    let unchanged = old.is_some_and(|old| {
        ["paramKind", "matchConditions"]
            .iter()
            .all(|key| same(spec.at(key), old.at("spec").at(key)))
    });
    if !unchanged {
        let conditions = spec.list("matchConditions");
        validate_match_conditions(conditions, &path.child("matchConditions"), errors);
    }
    for (i, variable) in spec.list("variables").iter().enumerate() {
        let at = path.child("variables");
        validate_variable(variable, &at.index(i), errors);
    }
    if spec.is_empty_at("validations") && spec.is_empty_at("auditAnnotations") {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), detail);
        errors.required(&path.child("auditAnnotations"), detail);
        return;
    }
    for (i, validation) in spec.list("validations").iter().enumerate() {
        let at = path.child("validations");
        validate_validation(validation, &at.index(i), errors);
    }
    validate_annotations(new, &path.child("auditAnnotations"), errors);
}

fn validate_param_kind(param: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_api_version(param.text("apiVersion"), &path.child("apiVersion"), errors);
    let kind = param.text("kind");
    let at = path.child("kind");
    let faults = names::label_1035(&kind.to_lowercase(), false);
    if kind.is_empty() {
        errors.required(&at, "");
    } else if !faults.is_empty() {
        let faults = faults.join(",");
        let detail = format!("may have mixed case, but should otherwise match: {faults}");
        errors.invalid(&at, kind, detail);
    }
}

fn validate_api_version(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    if text.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {text}");
        errors.invalid(path, text, detail);
        return;
    }
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    let faults = names::subdomain(group, false);
    if !group.is_empty() && !faults.is_empty() {
        errors.invalid(path, group, faults.join(","));
    }
    let faults = names::label_1035(version, false);
    if version.is_empty() {
        errors.invalid(path, text, "version must be specified");
    } else if !faults.is_empty() {
        errors.invalid(path, version, faults.join(","));
    }
}

fn validate_variable(variable: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = variable.text("name");
    let at = path.child("name");
    if name.trim().is_empty() {
        errors.required(&at, "name is not specified");
    } else if !is_identifier(name) {
        errors.invalid(&at, name, "must be a valid CEL identifier");
    }
    require_expression(variable, "expression", path, errors);
}

fn is_identifier(name: &str) -> bool {
    let good = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    !digit_first && name.chars().all(good) && !RESERVED.contains(&name)
}

fn require_expression(object: &Value, key: &str, path: &Path<'_>, errors: &mut Errors) {
    if object.text(key).trim().is_empty() {
        errors.required(&path.child(key), &format!("{key} is not specified"));
    }
}

fn validate_validation(validation: &Value, path: &Path<'_>, errors: &mut Errors) {
    require_expression(validation, "expression", path, errors);
    for key in ["messageExpression", "message"] {
        let text = validation.text(key);
        let trimmed = text.trim();
        if !text.is_empty() && trimmed.is_empty() {
            errors.invalid(&path.child(key), text, "must be non-empty if specified");
        } else if key == "message" && trimmed.contains(['\n', '\r']) {
            errors.invalid(&path.child(key), text, "must not contain line breaks");
        }
    }
    if let Some(reason) = validation
        .opt_text("reason")
        .filter(|reason| !REASONS.contains(reason))
    {
        errors.not_supported(&path.child("reason"), reason, REASONS);
    }
}

fn validate_annotations(policy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = policy.at("metadata").text("name");
    let annotations = policy.at("spec").list("auditAnnotations");
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(path, policy.at("spec").at("auditAnnotations"), detail);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let at = path.index(i);
        let key = annotation.text("key");
        let key_path = at.child("key");
        if name.is_empty() {
            errors.invalid(&key_path, key, "requires metadata.name be non-empty");
        } else {
            // The key as it will stand in the audit log.
            let whole = format!("{name}/{key}");
            errors.invalid_each(&key_path, &whole, names::qualified_name(&whole));
        }
        let expression = annotation.text("valueExpression").trim();
        if expression.len() > ANNOTATION_EXPRESSION_BYTES_MAX {
            let max = ANNOTATION_EXPRESSION_BYTES_MAX;
            let detail = format!("must not exceed {max} bytes in length");
            errors.required(&at.child("valueExpression"), &detail);
        }
        require_expression(annotation, "valueExpression", &at, errors);
        if seen.contains(&key) {
            errors.duplicate(&key_path, key);
        }
        seen.push(key);
    }
}
