//! Tests of flow schemas: defaults, checks, status and rows.

use serde_json::{Value, json};

use super::*;
use crate::kinds::errors::testing::{create, with};

fn schema() -> Value {
    json!({
        "metadata": {"name": "a"},
        "spec": {
            "priorityLevelConfiguration": {"name": "level"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [
                    {"kind": "User", "user": {"name": "u"}},
                    {"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "*"}},
                ],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["n"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/a/*"]}],
            }],
        },
    })
}

#[test]
fn precedence_has_a_default() {
    let mut object = schema();
    FlowSchema.default(&mut object);
    assert_eq!(object["spec"]["matchingPrecedence"], 1000);
    object["spec"]["matchingPrecedence"] = json!(5);
    FlowSchema.default(&mut object);
    assert_eq!(object["spec"]["matchingPrecedence"], 5);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of mistakes")]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&FlowSchema, schema()), none);
    let cases = [
        (
            "/spec/matchingPrecedence",
            json!(-1),
            "spec.matchingPrecedence: Invalid value: -1: must be a positive value",
        ),
        (
            "/spec/matchingPrecedence",
            json!(10_001),
            "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
        ),
        (
            "/spec/matchingPrecedence",
            json!(1),
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        ),
        (
            "/spec/distinguisherMethod",
            json!({"type": "ByMood"}),
            "spec.distinguisherMethod.type: Unsupported value: {\"type\":\"ByMood\"}: supported values: \
             \"ByNamespace\", \"ByUser\"",
        ),
        (
            "/spec/priorityLevelConfiguration",
            json!({}),
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ),
        (
            "/spec/rules/0/subjects",
            json!([]),
            "spec.rules[0].subjects: Required value: subjects must contain at least one value",
        ),
        (
            "/spec/rules/0/subjects/0/kind",
            json!("Robot"),
            "spec.rules[0].subjects[0].kind: Unsupported value: \"Robot\": supported values: \"Group\", \
             \"ServiceAccount\", \"User\"",
        ),
        (
            "/spec/rules/0/subjects/0/user",
            Value::Null,
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
        ),
        (
            "/spec/rules/0/subjects/0/group",
            json!({"name": "g"}),
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
        ),
        (
            "/spec/rules/0/subjects/1/serviceAccount/namespace",
            Value::Null,
            "spec.rules[0].subjects[1].serviceAccount.namespace: Required value: must specify namespace for service \
             account",
        ),
        (
            "/spec/rules/0",
            json!({"subjects": [{"kind": "Group", "group": {"name": "g"}}]}),
            "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
        ),
        (
            "/spec/rules/0/resourceRules/0/verbs",
            json!(["get", "*"]),
            "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"get\",\"*\"]: if '*' is present, must not specify \
             other verbs",
        ),
        (
            "/spec/rules/0/resourceRules/0/verbs",
            json!(["look"]),
            "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"look\"]: supported values: \"create\", \
             \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
        ),
        (
            "/spec/rules/0/resourceRules/0/apiGroups",
            json!([]),
            "spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
        ),
        (
            "/spec/rules/0/resourceRules/0/namespaces",
            json!([]),
            "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must \
             supply at least one namespace",
        ),
        (
            "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
            json!(["healthz"]),
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"healthz\": must start with slash",
        ),
        (
            "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
            json!(["/a*"]),
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix \
             matching",
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = create(&FlowSchema, with(schema(), pointer, value));
        assert_eq!(found, [expected], "{pointer}");
    }
}

#[test]
fn mandatory_schemas_are_fixed() {
    let mut object = schemas()[1].clone();
    object["spec"]["matchingPrecedence"] = json!(9000);
    let errors = create(&FlowSchema, object);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].ends_with("spec of 'catch-all' must equal the fixed value"),
        "{errors:?}"
    );
}

#[test]
fn status_is_apart() {
    let mut old = schema();
    FlowSchema.default(&mut old);
    FlowSchema.prepare_for_create(&mut old);
    assert_eq!(old["status"], json!({}));
    let mut new = with(old.clone(), "/metadata/labels", json!({"a": "b"}));
    new["status"] = json!({"conditions": [{"type": "Dangling"}, {"type": "Dangling"}, {}]});
    FlowSchema.prepare_for_status_update(&mut new, &old);
    assert_eq!(new["metadata"].get("labels"), None);
    let errors = FlowSchema.validate_status_update(&new, &old);
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "status.conditions[1].type: Duplicate value: \"Dangling\"",
            "status.conditions[2].type: Required value",
        ]
    );
}

#[test]
fn rows() {
    let mut object = schema();
    FlowSchema.default(&mut object);
    let row = FlowSchema.row(&object, Timestamp::UNIX_EPOCH);
    assert_eq!(
        Value::from(row),
        json!(["a", "level", 1000, "ByUser", "<unknown>", "?"])
    );
    object["status"] = json!({"conditions": [{"type": "Dangling", "status": "False"}]});
    object["spec"]["distinguisherMethod"] = Value::Null;
    let row = FlowSchema.row(&object, Timestamp::UNIX_EPOCH);
    assert_eq!((&row[3], &row[5]), (&json!("<none>"), &json!("False")));
}
