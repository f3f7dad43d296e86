//! ValidatingAdmissionPolicyBinding: puts a policy to use, with parameters, for some objects.

use jiff::Timestamp;
use serde_json::Value;

use super::match_resources::{default_match_resources, validate_match_resources};
use super::{CATEGORIES, GROUP};
use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, object_at};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `validatingadmissionpolicybindings` of admissionregistration.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "ValidatingAdmissionPolicyBinding",
    list_kind: "ValidatingAdmissionPolicyBindingList",
    resource: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    short_names: &[],
    categories: CATEGORIES,
    namespaced: false,
    storage_prefix: "validatingadmissionpolicybindings",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("PolicyName", "Policy that is put to use."),
        Column::text("ParamRef", "Parameters it gets."),
        Column::AGE,
    ],
    strategy: &ValidatingAdmissionPolicyBinding,
};

/// What becomes of a request that breaks the policy.
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

struct ValidatingAdmissionPolicyBinding;

static RULES: Rules = Rules {
    generation: Generation::Spec,
    unconditional_update: false,
    ..Rules::CLUSTER
};

impl Strategy for ValidatingAdmissionPolicyBinding {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = object_at(object, "spec")
            && let Some(resources) = spec.get_mut("matchResources")
        {
            default_match_resources(resources);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        let at = path.child("policyName");
        match spec.text("policyName") {
            "" => errors.required(&at, ""),
            name => errors.invalid_each(&at, name, names::subdomain(name, false)),
        }
        if let Some(param) = spec.opt("paramRef") {
            validate_param(param, &path.child("paramRef"), errors);
        }
        if let Some(resources) = spec.opt("matchResources") {
            validate_match_resources(resources, &path.child("matchResources"), errors);
        }
        validate_actions(spec, &path.child("validationActions"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        vec![
            meta.text("name").into(),
            spec.text("policyName").into(),
            param_text(spec.at("paramRef")).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn validate_param(param: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (name, selector) = (param.text("name"), param.opt("selector"));
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        let at = path.child("name");
        errors.invalid_each(&at, name, names::path_segment(name, false));
        if selector.is_some() {
            errors.forbidden(&at, exclusive);
        }
    }
    if let Some(selector) = selector {
        let at = path.child("selector");
        validate_label_selector(selector, &at, errors);
        if !name.is_empty() {
            errors.forbidden(&at, exclusive);
        }
    } else if name.is_empty() {
        errors.required(path, "one of name or selector must be specified");
    }
    let action = param.text("parameterNotFoundAction");
    let at = path.child("parameterNotFoundAction");
    errors.one_of(&at, action, &["Deny", "Allow"]);
}

fn validate_actions(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let actions = spec.list("validationActions");
    for (i, action) in actions.iter().enumerate() {
        let text = action.as_str().unwrap_or("");
        if !ACTIONS.contains(&text) {
            errors.not_supported(&path.index(i), text, ACTIONS);
        }
        if actions[..i].contains(action) {
            errors.duplicate(&path.index(i), text);
        }
    }
    let has = |name: &str| actions.iter().any(|action| action.as_str() == Some(name));
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                      API response and headers serves no purpose)";
        errors.invalid(path, spec.at("validationActions"), detail);
    }
    if actions.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
}

fn param_text(param: &Value) -> String {
    let name = param.text("name");
    match param.opt("selector") {
        _ if !name.is_empty() => match param.text("namespace") {
            // Whether the kind has namespaces is not known here.
            "" => format!("*/{name}"),
            namespace => format!("{namespace}/{name}"),
        },
        Some(selector) => selector_text(selector),
        None => "<unset>".to_owned(),
    }
}

/// A selector as Go prints the struct, which is what upstream shows.
fn selector_text(selector: &Value) -> String {
    let mut labels: Vec<String> = selector
        .entries("matchLabels")
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or("")))
        .collect();
    labels.sort_unstable();
    let expression = |expression: &Value| {
        let values = expression.list("values").iter();
        let values: Vec<&str> = values.map(|v| v.as_str().unwrap_or("")).collect();
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            expression.text("key"),
            expression.text("operator"),
            values.join(" ")
        )
    };
    let expressions = selector.list("matchExpressions").iter();
    let expressions: String = expressions.map(expression).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.concat(),
        expressions
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, with};

    fn binding() -> Value {
        json!({
            "metadata": {"name": "a"},
            "spec": {"policyName": "tea", "validationActions": ["Deny"]},
        })
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&ValidatingAdmissionPolicyBinding, binding()), none);
        let cases = [
            (
                "policyName",
                Value::Null,
                vec!["spec.policyName: Required value"],
            ),
            (
                "validationActions",
                Value::Null,
                vec![
                    "spec.validationActions: Required value: at least one validation action is required",
                ],
            ),
            (
                "validationActions",
                json!(["Audit", "Audit", "Tea"]),
                vec![
                    "spec.validationActions[1]: Duplicate value: \"Audit\"",
                    "spec.validationActions[2]: Unsupported value: \"Tea\": supported values: \"Audit\", \"Deny\", \
                     \"Warn\"",
                ],
            ),
            (
                "paramRef",
                json!({}),
                vec![
                    "spec.paramRef: Required value: one of name or selector must be specified",
                    "spec.paramRef.parameterNotFoundAction: Required value",
                ],
            ),
            (
                "paramRef",
                json!({"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}),
                vec![
                    "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                    "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                ],
            ),
            ("matchResources", json!({}), vec![]),
        ];
        for (key, value, expected) in cases {
            let object = with(binding(), &format!("/spec/{key}"), value);
            let errors = create(&ValidatingAdmissionPolicyBinding, object);
            assert_eq!(errors, expected, "{key}");
        }
        let both = with(
            binding(),
            "/spec/validationActions",
            json!(["Deny", "Warn"]),
        );
        let errors = create(&ValidatingAdmissionPolicyBinding, both);
        assert!(errors[0].contains("must not contain both Deny and Warn"));
    }

    #[test]
    fn rows() {
        let row = |param: Value| {
            let object = with(binding(), "/spec/paramRef", param);
            ValidatingAdmissionPolicyBinding.row(&object, Timestamp::UNIX_EPOCH)[2].clone()
        };
        assert_eq!(row(Value::Null), "<unset>");
        assert_eq!(row(json!({"name": "p"})), "*/p");
        assert_eq!(row(json!({"name": "p", "namespace": "n"})), "n/p");
        let selector = json!({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [
            {"key": "k", "operator": "In", "values": ["x", "y"]}]});
        assert_eq!(
            row(json!({"selector": selector})),
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:\
             []LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        );
    }
}
