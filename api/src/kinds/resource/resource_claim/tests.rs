//! Defaults, mistakes, updates and rows, as tables.

use serde_json::json;

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn claim(devices: Value) -> Value {
    json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"devices": devices}})
}

fn one() -> Value {
    claim(json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}))
}

fn allocated() -> Value {
    let result =
        json!({"request": "gpu", "driver": "gpu.example.com", "pool": "n", "device": "gpu-0"});
    let allocation = json!({"devices": {"results": [result]}});
    with(one(), "/status", json!({"allocation": allocation}))
}

fn status_update(new: &Value, old: &Value) -> (Value, Vec<String>) {
    let mut new = new.clone();
    ResourceClaim.prepare_for_status_update(&mut new, old);
    let errors = ResourceClaim.validate_status_update(&new, old);
    (new, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn defaults_and_disabled_fields() {
    let mut object = claim(json!({
        "requests": [
            {"name": "a", "exactly": {"deviceClassName": "c", "tolerations": [{}], "capacity": {}}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c", "allocationMode": "All"}]},
        ],
        "constraints": [{"distinctAttribute": "d/a"}],
    }));
    ResourceClaim.default(&mut object);
    ResourceClaim.prepare_for_create(&mut object);
    assert_eq!(
        object["spec"]["devices"],
        json!({
            "requests": [
                {"name": "a", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}},
                {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c", "allocationMode": "All"}]},
            ],
            "constraints": [{}],
        })
    );
    assert_eq!(object["status"], json!({}));
    assert_eq!(object["metadata"].get("generation"), None);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of mistakes")]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&ResourceClaim, one()), none);
    let path = "spec.devices.requests[0]";
    let either = "exactly one of `exactly` or `firstAvailable` is required";
    let reference = "must be the name of a request in the claim or the name of a request and a subrequest separated \
                     by '/'";
    let requests = |request: Value| json!({"requests": [request]});
    let exactly = |more: Value| {
        let mut exactly = json!({"deviceClassName": "c"});
        for (key, value) in more.as_object().expect("an object") {
            exactly[key] = value.clone();
        }
        requests(json!({"name": "a", "exactly": exactly}))
    };
    let beside = |key: &str, value: Value| {
        let mut devices = exactly(json!({}));
        devices[key] = json!([value]);
        devices
    };
    let cases = [
        (
            requests(json!({"name": "a"})),
            format!("{path}: Required value: {either}"),
        ),
        (
            requests(json!({"name": "a", "exactly": {}, "firstAvailable": [{}]})),
            format!("{path}: Invalid value: null: {either}, but multiple fields are set"),
        ),
        (
            exactly(json!({"deviceClassName": ""})),
            format!("{path}.exactly.deviceClassName: Required value"),
        ),
        (
            exactly(json!({"allocationMode": "All", "count": 2})),
            format!(
                "{path}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"
            ),
        ),
        (
            exactly(json!({"allocationMode": "Some"})),
            format!(
                "{path}.exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\""
            ),
        ),
        (
            exactly(json!({"adminAccess": true})),
            format!(
                "{path}.adminAccess: Forbidden: admin access to devices requires the \
                 `resource.kubernetes.io/admin-access: true` label on the containing namespace"
            ),
        ),
        (
            beside("constraints", json!({})),
            "spec.devices.constraints[0].matchAttribute: Required value".to_owned(),
        ),
        (
            beside(
                "constraints",
                json!({"requests": ["b"], "matchAttribute": "d/a"}),
            ),
            format!("spec.devices.constraints[0].requests[0]: Invalid value: \"b\": {reference}"),
        ),
        (
            beside("config", json!({"requests": ["a"]})),
            "spec.devices.config[0].opaque: Required value".to_owned(),
        ),
    ];
    for (devices, expected) in cases {
        assert_eq!(create(&ResourceClaim, claim(devices)), [expected]);
    }
    let twice = json!({"name": "a", "exactly": {"deviceClassName": "c"}});
    assert_eq!(
        create(&ResourceClaim, claim(json!({"requests": [twice, twice]}))),
        ["spec.devices.requests[1]: Duplicate value: \"a\""]
    );
}

#[test]
fn what_is_asked_for_stays() {
    let new = with(one(), "/spec/devices/requests/0/name", json!("tpu"));
    let found = update(&ResourceClaim, new, one());
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("spec: Invalid value: "), "{found:?}");
}

#[test]
fn what_was_given_stays() {
    let none: Vec<String> = vec![];
    assert_eq!(status_update(&allocated(), &one()).1, none);
    let pointer = "/status/allocation/devices/results/0/device";
    let other = with(allocated(), pointer, json!("gpu-1"));
    assert_eq!(status_update(&other, &allocated()).1.len(), 1);
    let wild = with(
        allocated(),
        "/status/allocation/devices/results/0/request",
        json!("tea"),
    );
    assert_eq!(status_update(&wild, &one()).1.len(), 1);
    let user = json!({"resource": "pods", "name": "p", "uid": "u"});
    let users = with(allocated(), "/status/reservedFor", json!([user]));
    assert_eq!(status_update(&users, &allocated()).1, none);
    let users = with(one(), "/status", json!({"reservedFor": [user]}));
    assert_eq!(
        status_update(&users, &one()).1,
        ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
    );
}

#[test]
fn devices_of_a_claim_have_a_status_while_it_has_them() {
    let none: Vec<String> = vec![];
    let device = json!({"driver": "gpu.example.com", "pool": "n", "device": "gpu-0",
                        "networkData": {"ips": ["10.0.0.1/24"]}});
    let told = with(allocated(), "/status/devices", json!([device]));
    let (told, errors) = status_update(&told, &allocated());
    assert_eq!(errors, none);
    let foreign = with(told.clone(), "/status/devices/0/device", json!("gpu-9"));
    assert_eq!(
        status_update(&foreign, &allocated()).1,
        [
            "status.devices[0]: Invalid value: \"gpu.example.com/n/gpu-9\": must be an allocated device in the claim"
        ]
    );
    let crooked = with(
        told.clone(),
        "/status/devices/0/networkData/ips",
        json!(["10.0.0.1"]),
    );
    assert_eq!(status_update(&crooked, &allocated()).1.len(), 1);
    let freed = with(told.clone(), "/status/allocation", Value::Null);
    let (freed, errors) = status_update(&freed, &told);
    assert_eq!(errors, none);
    assert_eq!(freed["status"], json!({}));
}

#[test]
fn rows() {
    let row = |object: &Value| Value::Array(ResourceClaim.row(object, Timestamp::UNIX_EPOCH));
    assert_eq!(row(&one()), json!(["a", "pending", "<unknown>"]));
    let mut used = with(allocated(), "/status/reservedFor", json!([{}]));
    assert_eq!(row(&used)[1], "allocated,reserved");
    used["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    assert_eq!(row(&used)[1], "deleted,allocated,reserved");
}
