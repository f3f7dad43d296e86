//! Tests of services: defaults, checks, updates and rows.

use serde_json::{Value, json};

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn service() -> Value {
    json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"ports": [{"port": 80}], "selector": {"x": "y"}}})
}

fn allocated() -> Value {
    let mut object = service();
    Service.default(&mut object);
    let object = with(object, "/spec/clusterIP", json!("10.96.0.5"));
    with(object, "/spec/clusterIPs", json!(["10.96.0.5"]))
}

#[test]
fn defaults_of_an_ordinary_service() {
    let mut object = service();
    Service.default(&mut object);
    assert_eq!(
        object["spec"],
        json!({
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "selector": {"x": "y"},
            "sessionAffinity": "None",
            "type": "ClusterIP",
            "internalTrafficPolicy": "Cluster",
        })
    );
}

#[test]
fn defaults_by_type() {
    let mut object = with(service(), "/spec/type", json!("LoadBalancer"));
    object["spec"]["sessionAffinity"] = json!("ClientIP");
    Service.default(&mut object);
    let spec = &object["spec"];
    assert_eq!(spec["externalTrafficPolicy"], "Cluster");
    assert_eq!(spec["allocateLoadBalancerNodePorts"], true);
    assert_eq!(
        spec["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("/spec/ports", Value::Null, "spec.ports: Required value"),
        (
            "/spec/ports/0/port",
            json!(0),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "/spec/ports/0/protocol",
            json!("X"),
            "spec.ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            "/spec/ports/0/nodePort",
            json!(30000),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            "/spec/type",
            json!("Odd"),
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \
             \"LoadBalancer\", \"NodePort\"",
        ),
        (
            "/spec/clusterIP",
            json!("x"),
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ];
    for (pointer, value, expected) in cases {
        let errors = create(&Service, with(service(), pointer, value));
        assert!(
            errors.contains(&expected.to_owned()),
            "{pointer}: {errors:?}"
        );
    }
    let none: Vec<String> = vec![];
    assert_eq!(create(&Service, service()), none);
}

#[test]
fn several_ports_need_names_and_differ() {
    let ports = json!([{"port": 80}, {"port": 80, "name": "x"}]);
    assert_eq!(
        create(&Service, with(service(), "/spec/ports", ports)),
        [
            "spec.ports[0].name: Required value",
            "spec.ports[1]: Duplicate value: {\"protocol\":\"TCP\",\"port\":80}",
        ]
    );
}

#[test]
fn external_names_have_no_address() {
    let spec = json!({"type": "ExternalName", "externalName": "example.com."});
    let none: Vec<String> = vec![];
    assert_eq!(create(&Service, with(service(), "/spec", spec)), none);
    let spec = json!({"type": "ExternalName", "clusterIP": "10.96.0.9"});
    assert_eq!(
        create(&Service, with(service(), "/spec", spec)),
        [
            "spec.clusterIP: Forbidden: may not be set for ExternalName services",
            "spec.externalName: Required value",
        ]
    );
}

#[test]
fn addresses_stay() {
    let errors = update(
        &Service,
        with(allocated(), "/spec/clusterIPs", json!(["10.96.0.6"])),
        allocated(),
    );
    assert!(
        errors.contains(
            &"spec.clusterIPs[0]: Invalid value: \"10.96.0.6\": may not change once set".to_owned()
        ),
        "{errors:?}"
    );
    let mut new = service();
    Service.default(&mut new);
    Service.prepare_for_update(&mut new, &allocated());
    assert_eq!(new["spec"]["clusterIP"], "10.96.0.5");
}

#[test]
fn node_ports_stay_and_go_with_the_type() {
    let mut old = with(allocated(), "/spec/type", json!("NodePort"));
    old["spec"]["ports"][0]["nodePort"] = json!(30080);
    old["spec"]["externalTrafficPolicy"] = json!("Cluster");
    let mut new = with(allocated(), "/spec/type", json!("NodePort"));
    Service.prepare_for_update(&mut new, &old);
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
    let back = with(old.clone(), "/spec/type", json!("ClusterIP"));
    let none: Vec<String> = vec![];
    assert_eq!(update(&Service, back, old), none);
}

#[test]
fn rows() {
    let object = with(allocated(), "/spec/ports/0/nodePort", json!(30080));
    let row = Service.row(&object, Timestamp::UNIX_EPOCH);
    let expected = [
        "a",
        "ClusterIP",
        "10.96.0.5",
        "<none>",
        "80:30080/TCP",
        "<unknown>",
        "x=y",
    ];
    assert_eq!(row, expected.map(Value::from));
    let object = with(allocated(), "/spec/type", json!("LoadBalancer"));
    assert_eq!(Service.row(&object, Timestamp::UNIX_EPOCH)[3], "<pending>");
    let object = with(
        object,
        "/status",
        json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
    );
    assert_eq!(Service.row(&object, Timestamp::UNIX_EPOCH)[3], "1.2.3.4");
}
