//! Tests of network policies: defaults, checks, warnings and rows.

use serde_json::{Value, json};

use super::*;
use crate::kinds::errors::testing::{create, with};

fn policy(spec: Value) -> Value {
    json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
}

fn full() -> Value {
    policy(json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{
            "ports": [{"port": 80, "endPort": 90}, {"port": "http", "protocol": "UDP"}],
            "from": [{"podSelector": {}, "namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
        }],
        "egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}]}],
    }))
}

#[test]
fn defaults() {
    let mut object = json!({"metadata": {"name": "a"}});
    NetworkPolicy.default(&mut object);
    assert_eq!(
        object["spec"],
        json!({"podSelector": {}, "policyTypes": ["Ingress"]})
    );
    let mut object = full();
    NetworkPolicy.default(&mut object);
    let spec = &object["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec["ingress"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(spec["ingress"][0]["ports"][1]["protocol"], "UDP");
}

#[test]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&NetworkPolicy, full()), none);
    let cases = [
        (
            "/spec/policyTypes",
            json!(["Ingress", "Odd"]),
            "spec.policyTypes[1]: Unsupported value: \"Odd\": supported values: \"Ingress\", \"Egress\"",
        ),
        (
            "/spec/policyTypes",
            json!(["Ingress", "Ingress", "Egress"]),
            "spec.policyTypes: Invalid value: [\"Ingress\",\"Ingress\",\"Egress\"]: may not specify more than two \
             policyTypes",
        ),
        (
            "/spec/ingress/0/ports/0",
            json!({"port": 90, "endPort": 80}),
            "spec.ingress[0].ports[0].endPort: Invalid value: 90: must be greater than or equal to `port`",
        ),
        (
            "/spec/ingress/0/ports/0",
            json!({"port": "http", "endPort": 80}),
            "spec.ingress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is non-numeric",
        ),
        (
            "/spec/ingress/0/ports/0",
            json!({"endPort": 80}),
            "spec.ingress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is not specified",
        ),
        (
            "/spec/ingress/0/ports/0/protocol",
            json!("ICMP"),
            "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
        ),
        (
            "/spec/ingress/0/from/0",
            json!({}),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            "/spec/ingress/0/from/1/podSelector",
            json!({}),
            "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (
            "/spec/egress/0/to/0/ipBlock/cidr",
            json!("fd00::1"),
            "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"fd00::1\": must be a valid CIDR value, (e.g. \
             10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            "/spec/ingress/0/from/1/ipBlock/except",
            json!(["11.0.0.0/16"]),
            "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
        ),
        (
            "/spec/ingress/0/from/1/ipBlock/except",
            json!(["10.0.0.0/8"]),
            "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = create(&NetworkPolicy, with(full(), pointer, value));
        assert_eq!(found, [expected], "{pointer}");
    }
}

#[test]
fn ambiguous_ranges_warn() {
    let object = with(
        full(),
        "/spec/ingress/0/from/1/ipBlock/except",
        json!(["10.1.2.3/16"]),
    );
    assert_eq!(
        NetworkPolicy.warnings(&object),
        [
            "spec.ingress[0].from[1].ipBlock.except[0]: CIDR value \"10.1.2.3/16\" is ambiguous in this context (should \
             be \"10.1.0.0/16\" or \"10.1.2.3/32\"?)"
        ]
    );
    assert!(NetworkPolicy.warnings(&full()).is_empty());
}

#[test]
fn rows() {
    let row = NetworkPolicy.row(&full(), Timestamp::UNIX_EPOCH);
    assert_eq!(row, ["a", "app=web", "<unknown>"].map(Value::from));
    let row = NetworkPolicy.row(&policy(json!({"podSelector": {}})), Timestamp::UNIX_EPOCH);
    assert_eq!(row[1], "<none>");
}
