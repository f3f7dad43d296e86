//! Both kinds of configurations.

use super::super::{mutating_webhook_configuration, validating_webhook_configuration};
use super::*;
use crate::kinds::Strategy;
use crate::kinds::errors::testing::{create, update, with};

const MUTATING: &dyn Strategy = mutating_webhook_configuration::DESCRIPTOR.strategy;
const VALIDATING: &dyn Strategy = validating_webhook_configuration::DESCRIPTOR.strategy;

fn configuration() -> Value {
    json!({
        "metadata": {"name": "a"},
        "webhooks": [{
            "name": "tea.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"service": {"name": "n", "namespace": "s"}},
            "rules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }],
    })
}

#[test]
fn defaults() {
    let mut object = configuration();
    MUTATING.default(&mut object);
    let hook = &object["webhooks"][0];
    let expected = [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
        ("timeoutSeconds", json!(10)),
        ("reinvocationPolicy", json!("Never")),
    ];
    for (key, value) in expected {
        assert_eq!(hook[key], value, "{key}");
    }
    assert_eq!(hook["clientConfig"]["service"]["port"], 443);
    assert_eq!(hook["rules"][0]["scope"], "*");
    let mut object = configuration();
    VALIDATING.default(&mut object);
    assert_eq!(object["webhooks"][0].get("reinvocationPolicy"), None);
}

#[test]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(MUTATING, configuration()), none);
    assert_eq!(create(VALIDATING, configuration()), none);
    let cases = [
        (
            "name",
            json!("tea"),
            "webhooks[0].name: Invalid value: \"tea\": should be a domain with at least three segments separated by dots",
        ),
        (
            "sideEffects",
            Value::Null,
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            "sideEffects",
            json!("Some"),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            "timeoutSeconds",
            json!(31),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            "failurePolicy",
            json!("Shrug"),
            "webhooks[0].failurePolicy: Unsupported value: \"Shrug\": supported values: \"Fail\", \"Ignore\"",
        ),
        (
            "reinvocationPolicy",
            json!("Always"),
            "webhooks[0].reinvocationPolicy: Unsupported value: \"Always\": supported values: \"IfNeeded\", \"Never\"",
        ),
        (
            "admissionReviewVersions",
            Value::Null,
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            "admissionReviewVersions",
            json!(["v2"]),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]),
            "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": " "}]),
            "webhooks[0].matchConditions[0].expression: Required value",
        ),
    ];
    for (key, value, expected) in cases {
        let object = with(configuration(), &format!("/webhooks/0/{key}"), value);
        assert_eq!(create(MUTATING, object), [expected], "{key}");
    }
    let mut twice = configuration();
    twice["webhooks"] = json!([twice["webhooks"][0], twice["webhooks"][0]]);
    let expected = "webhooks[1].name: Duplicate value: \"tea.example.com\"";
    assert_eq!(create(VALIDATING, twice.clone()), [expected]);
    twice["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(update(VALIDATING, twice.clone(), twice), none);
}

#[test]
fn updates_bear_what_was_there() {
    let none: Vec<String> = vec![];
    let mut old = configuration();
    old["webhooks"][0]["sideEffects"] = json!("Some");
    old["webhooks"][0]["admissionReviewVersions"] = json!(["v2"]);
    old["webhooks"][0]["matchConditions"] = json!([{}]);
    assert_eq!(update(VALIDATING, old.clone(), old.clone()), none);
    assert_eq!(update(VALIDATING, old, configuration()).len(), 4);
}

#[test]
fn generation_follows_the_webhooks() {
    let mut old = configuration();
    VALIDATING.prepare_for_create(&mut old);
    assert_eq!(old["metadata"]["generation"], 1);
    let mut new = with(old.clone(), "/metadata/labels", json!({"a": "b"}));
    VALIDATING.prepare_for_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 1);
    let mut new = with(old.clone(), "/webhooks", json!([]));
    VALIDATING.prepare_for_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn rows() {
    let cells = MUTATING.row(&configuration(), Timestamp::UNIX_EPOCH);
    assert_eq!(Value::from(cells), json!(["a", 1, "<unknown>"]));
}
