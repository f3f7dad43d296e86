//! Defaults, mistakes, status and the row.

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn policy() -> Value {
    json!({
        "metadata": {"name": "tea"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
            "validations": [{"expression": "true"}],
        },
    })
}

#[test]
fn defaults() {
    let mut object = policy();
    ValidatingAdmissionPolicy.default(&mut object);
    assert_eq!(object["spec"]["failurePolicy"], "Fail");
    let constraints = &object["spec"]["matchConstraints"];
    assert_eq!(constraints["matchPolicy"], "Equivalent");
    assert_eq!(constraints["objectSelector"], json!({}));
    assert_eq!(constraints["resourceRules"][0]["scope"], "*");
}

#[test]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&ValidatingAdmissionPolicy, policy()), none);
    let cases = [
        (
            "/spec/matchConstraints",
            Value::Null,
            vec!["spec.matchConstraints: Required value"],
        ),
        (
            "/spec/matchConstraints/resourceRules",
            Value::Null,
            vec!["spec.matchConstraints.resourceRules: Required value"],
        ),
        (
            "/spec/matchConstraints/resourceRules/0/resourceNames",
            json!(["a", "a"]),
            vec!["spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: \"a\""],
        ),
        (
            "/spec/validations",
            Value::Null,
            vec![
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
        (
            "/spec/validations",
            json!([{"expression": " ", "message": "a\nb", "messageExpression": " ", "reason": "Tea"}]),
            vec![
                "spec.validations[0].expression: Required value: expression is not specified",
                "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
                "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
                "spec.validations[0].reason: Unsupported value: \"Tea\": supported values: \"Forbidden\", \"Invalid\", \
                 \"RequestEntityTooLarge\"",
            ],
        ),
        (
            "/spec/variables",
            json!([{"name": "for", "expression": "1"}]),
            vec!["spec.variables[0].name: Invalid value: \"for\": must be a valid CEL identifier"],
        ),
        (
            "/spec/paramKind",
            json!({"apiVersion": "a/b/c", "kind": ""}),
            vec![
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "spec.paramKind.kind: Required value",
            ],
        ),
        (
            "/spec/auditAnnotations",
            json!([{"key": "a", "valueExpression": "'x'"}, {"key": "a"}]),
            vec![
                "spec.auditAnnotations[1].valueExpression: Required value: valueExpression is not specified",
                "spec.auditAnnotations[1].key: Duplicate value: \"a\"",
            ],
        ),
    ];
    for (pointer, value, expected) in cases {
        let object = with(policy(), pointer, value);
        assert_eq!(
            create(&ValidatingAdmissionPolicy, object),
            expected,
            "{pointer}"
        );
    }
}

#[test]
fn updates_bear_conditions_that_were_there() {
    let none: Vec<String> = vec![];
    let odd = with(policy(), "/spec/matchConditions", json!([{"name": "a"}]));
    let errors = update(&ValidatingAdmissionPolicy, odd.clone(), policy());
    assert_eq!(
        errors,
        ["spec.matchConditions[0].expression: Required value"]
    );
    assert_eq!(update(&ValidatingAdmissionPolicy, odd.clone(), odd), none);
}

#[test]
fn status_is_the_controllers_and_metadata_is_not() {
    let mut new = policy();
    new["metadata"]["labels"] = json!({"a": "b"});
    new["status"] = json!({
        "typeChecking": {"expressionWarnings": [{"warning": "w"}]},
        "conditions": [{"type": "Ready", "status": "True", "reason": "9", "lastTransitionTime": "x"}],
    });
    ValidatingAdmissionPolicy.prepare_for_status_update(&mut new, &policy());
    assert_eq!(new["metadata"].get("labels"), None);
    let errors = ValidatingAdmissionPolicy.validate_status_update(&new, &policy());
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    let expected = "status.typeChecking.expressionWarnings[0].fieldRef: Required value";
    assert_eq!(errors[0], expected);
    let expected =
        "status.conditions[0].reason: Invalid value: \"9\": a condition reason must start with";
    assert!(errors[1].starts_with(expected), "{errors:?}");
}

#[test]
fn row() {
    let row =
        |object: Value| Value::from(ValidatingAdmissionPolicy.row(&object, Timestamp::UNIX_EPOCH));
    assert_eq!(row(policy()), json!(["tea", 1, "<unset>", "<unknown>"]));
    let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let object = with(policy(), "/spec/paramKind", kind);
    assert_eq!(row(object)[2], "v1/ConfigMap");
}
