//! Tests of ingresses: checks, updates, status, warnings and rows.

use serde_json::{Value, json};

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn ingress() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {
            "ingressClassName": "nginx",
            "rules": [{
                "host": "a.example.com",
                "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                }]},
            }],
        },
    })
}

const PATH: &str = "spec.rules[0].http.paths[0]";

#[test]
#[expect(clippy::too_many_lines, reason = "one table of mistakes")]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&Ingress, ingress()), none);
    let path = "/spec/rules/0/http/paths/0";
    let cases = [
        (
            "/spec/rules".to_owned(),
            Value::Null,
            "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".to_owned(),
        ),
        (
            "/spec/rules/0/host".to_owned(),
            json!("*.*.com"),
            "spec.rules[0].host: Invalid value: \"*.*.com\": a wildcard DNS-1123 subdomain must start with '*.', \
             followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and \
             end with an alphanumeric character (e.g. '*.example.com', regex used for validation is \
             '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        ),
        (
            "/spec/rules/0/host".to_owned(),
            json!("10.0.0.1"),
            "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address".to_owned(),
        ),
        (
            "/spec/rules/0/http/paths".to_owned(),
            json!([]),
            "spec.rules[0].http.paths: Required value".to_owned(),
        ),
        (
            format!("{path}/pathType"),
            Value::Null,
            format!("{PATH}.pathType: Required value: pathType must be specified"),
        ),
        (
            format!("{path}/pathType"),
            json!("Odd"),
            format!(
                "{PATH}.pathType: Unsupported value: \"Odd\": supported values: \"Exact\", \
                 \"ImplementationSpecific\", \"Prefix\""
            ),
        ),
        (
            format!("{path}/path"),
            json!("x"),
            format!("{PATH}.path: Invalid value: \"x\": must be an absolute path"),
        ),
        (
            format!("{path}/path"),
            json!("/a//b"),
            format!("{PATH}.path: Invalid value: \"/a//b\": must not contain '//'"),
        ),
        (
            format!("{path}/path"),
            json!("/a/.."),
            format!("{PATH}.path: Invalid value: \"/a/..\": cannot end with '/..'"),
        ),
        (
            format!("{path}/backend"),
            json!({}),
            format!("{PATH}.backend: Invalid value: \"\": resource or service backend is required"),
        ),
        (
            format!("{path}/backend/service/port"),
            json!({}),
            format!("{PATH}.backend: Required value: port name or number is required"),
        ),
        (
            format!("{path}/backend/service/port"),
            json!({"name": "http", "number": 80}),
            format!("{PATH}.backend: Invalid value: \"\": cannot set both port name & port number"),
        ),
        (
            format!("{path}/backend/resource"),
            json!({"kind": "Bucket", "name": "x"}),
            format!("{PATH}.backend: Invalid value: \"\": cannot set both resource and service backends"),
        ),
        (
            "/spec/tls".to_owned(),
            json!([{"secretName": "A"}]),
            "spec.tls[0].secretName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
             alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        ),
        (
            "/metadata/annotations".to_owned(),
            json!({CLASS_ANNOTATION: "other"}),
            "annotations.kubernetes.io/ingress.class: Invalid value: \"other\": must match `ingressClassName` when both \
             are specified"
                .to_owned(),
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = create(&Ingress, with(ingress(), &pointer, value));
        assert_eq!(found, [expected], "{pointer}");
    }
}

#[test]
fn backends_may_be_objects() {
    let none: Vec<String> = vec![];
    let backend = |resource: Value| json!({"defaultBackend": {"resource": resource}});
    let good = backend(json!({"apiGroup": "s.example.com", "kind": "Bucket", "name": "x"}));
    assert_eq!(create(&Ingress, with(ingress(), "/spec", good)), none);
    let bad = backend(json!({"kind": "a/b"}));
    assert_eq!(
        create(&Ingress, with(ingress(), "/spec", bad)),
        [
            "spec.defaultBackend.resource.kind: Invalid value: \"a/b\": may not contain '/'",
            "spec.defaultBackend.resource.name: Required value",
        ]
    );
}

#[test]
fn names_that_were_taken_may_stay() {
    let name = "/spec/rules/0/http/paths/0/backend/service/name";
    let digit = || with(ingress(), name, json!("1web"));
    let none: Vec<String> = vec![];
    assert_eq!(create(&Ingress, digit()).len(), 1);
    assert_eq!(update(&Ingress, digit(), ingress()).len(), 1);
    assert_eq!(update(&Ingress, digit(), digit()), none);
}

#[test]
fn status_is_the_controllers() {
    let mut object = with(
        ingress(),
        "/status",
        json!({"loadBalancer": {"ingress": [{}]}}),
    );
    Ingress.prepare_for_create(&mut object);
    assert_eq!(object["status"], json!({"loadBalancer": {}}));
    assert_eq!(object["metadata"]["generation"], 1);
    let status = |ingress: Value| {
        let status = json!({"loadBalancer": {"ingress": [ingress]}});
        let new = with(object.clone(), "/status", status);
        let errors = Ingress.validate_status_update(&new, &object);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(status(json!({"ip": "10.0.0.1"})), Vec::<String>::new());
    assert_eq!(
        status(json!({"ip": "x"})),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
             2001:db8::ffff)"
        ]
    );
    assert_eq!(
        status(json!({"hostname": "10.0.0.1"})),
        [
            "status.loadBalancer.ingress[0].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"
        ]
    );
}

#[test]
fn the_old_annotation_warns() {
    let annotated = with(
        ingress(),
        "/metadata/annotations",
        json!({CLASS_ANNOTATION: "nginx"}),
    );
    assert!(Ingress.warnings_of_new(&annotated).is_empty());
    let alone = with(annotated, "/spec/ingressClassName", Value::Null);
    assert_eq!(
        Ingress.warnings_of_new(&alone),
        [
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
        ]
    );
    assert!(Ingress.warnings(&alone).is_empty());
}

#[test]
fn rows() {
    let row = Ingress.row(&ingress(), Timestamp::UNIX_EPOCH);
    let expected = ["a", "nginx", "a.example.com", "", "80", "<unknown>"];
    assert_eq!(row, expected.map(Value::from));
    let rules: Vec<Value> = ["a", "b", "", "c", "d"]
        .map(|host| json!({"host": host}))
        .into();
    let mut object = with(ingress(), "/spec", json!({"rules": rules, "tls": [{}]}));
    object["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "10.0.0.2"}, {"hostname": "lb.example.com"}, {"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}});
    let row = Ingress.row(&object, Timestamp::UNIX_EPOCH);
    let expected = [
        "a",
        "<none>",
        "a,b,c + 2 more...",
        "10.0.0.1,10.0.0.2,lb.example.com",
        "80, 443",
        "<unknown>",
    ];
    assert_eq!(row, expected.map(Value::from));
    assert_eq!(hosts(&[]), "*");
}
