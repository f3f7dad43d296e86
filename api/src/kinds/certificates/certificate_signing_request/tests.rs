//! Who may write what, mistakes, and the row.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::kinds::errors::testing::{create, update, with};

/// A request of CN=somebody, signed with its own P-256 key.
const REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHNMHUCAQAwEzERMA8GA1UEAwwIc29tZWJvZHkwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQ2Qj13ata8KtuRW9a8rspNVsgSPV1xGgvNSH8Aw6J5GNQs3Lcv22/n
TnfPe59UynJBoudzxRJrnkPqAx4rGXQGoAAwCgYIKoZIzj0EAwIDSAAwRQIgQyW2
a7WoHbE6/VP7Lbcq5EfRkCFZVY3uqUHRyV/PqOACIQCsD5kKMD9ikLLJiZZ2AYr8
xt5YsgPoDGyrusT5jI5gQQ==
-----END CERTIFICATE REQUEST-----
";
/// A certificate that the same key signed for itself.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfDCCASOgAwIBAgIUNMKLP8ysoVKp3YzQgX7qgJLf9e0wCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIc29tZWJvZHkwIBcNMjYxMTIzMTYxNDQyWhgPMjEyNjEwMzAx
NjE0NDJaMBMxETAPBgNVBAMMCHNvbWVib2R5MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAENkI9d2rWvCrbkVvWvK7KTVbIEj1dcRoLzUh/AMOieRjULNy3L9tv5053
z3ufVMpyQaLnc8USa55D6gMeKxl0BqNTMFEwHQYDVR0OBBYEFL5niXwr/sBsozVu
6LgAveHosWhfMB8GA1UdIwQYMBaAFL5niXwr/sBsozVu6LgAveHosWhfMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgBWFS3jq3vsErLW0rtxXktcP/
3yA0r8k0nt/rzLOiEFICIGQ2y0599AyXKqOFDpsQLlHJfA9Z+3U0Pat7QpT7oi5s
-----END CERTIFICATE-----
";

fn encoded(text: &str) -> Value {
    STANDARD.encode(text).into()
}

fn request() -> Value {
    json!({
        "metadata": {"name": "Anything:goes", "creationTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {
            "request": encoded(REQUEST),
            "signerName": "example.com/tea",
            "usages": ["client auth", "digital signature"],
            "username": "somebody",
        },
        "status": {},
    })
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "R"})
}

fn decided(kinds: &[&str]) -> Value {
    let conditions: Vec<Value> = kinds.iter().map(|kind| condition(kind)).collect();
    with(request(), "/status/conditions", conditions.into())
}

fn write(through: &str, new: &Value, old: &Value) -> (Value, Vec<String>) {
    let mut new = new.clone();
    let strategy = CertificateSigningRequest;
    let errors = match through {
        "status" => {
            strategy.prepare_for_status_update(&mut new, old);
            strategy.validate_status_update(&new, old)
        }
        sub => {
            strategy.prepare_for_subresource_update(sub, &mut new, old);
            strategy.validate_subresource_update(sub, &new, old)
        }
    };
    (new, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn the_server_says_who_asks() {
    let mut object = decided(&["Approved"]);
    object["spec"]["groups"] = json!(["system:masters"]);
    CertificateSigningRequest.prepare_for_create(&mut object);
    assert_eq!(object["status"], json!({}));
    for key in REQUESTER {
        assert_eq!(object["spec"].get(key), None);
    }
    let sender = Request {
        now: Timestamp::UNIX_EPOCH,
        username: "eve",
        uid: "7",
        groups: &["system:authenticated".to_owned()],
        extra: &[("k".to_owned(), vec!["v".to_owned()])].into(),
    };
    CertificateSigningRequest.note_request(&mut object, None, &sender);
    let spec = &object["spec"];
    assert_eq!(
        (&spec["username"], &spec["uid"]),
        (&json!("eve"), &json!("7"))
    );
    assert_eq!(spec["groups"], json!(["system:authenticated"]));
    assert_eq!(spec["extra"], json!({"k": ["v"]}));
}

#[test]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&CertificateSigningRequest, request()), none);
    let cases = [
        (
            "/spec/request",
            encoded(CERTIFICATE),
            "PEM block type must be CERTIFICATE REQUEST",
        ),
        (
            "/spec/request",
            encoded("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----"),
            "asn1: structure error",
        ),
        // Another name than the one that was signed.
        (
            "/spec/request",
            encoded(&REQUEST.replace("c29tZWJvZHkw", "c29tZWJhZHkw")),
            "x509: ECDSA verification failure",
        ),
        ("/spec/usages", Value::Null, "spec.usages: Required value"),
        (
            "/spec/usages",
            json!(["signing", "signing"]),
            "spec.usages[1]: Duplicate value: \"signing\"",
        ),
        (
            "/spec/usages",
            json!(["tea"]),
            "spec.usages[0]: Unsupported value: \"tea\": supported values: \"any\", \"cert sign\", ",
        ),
        (
            "/spec/signerName",
            json!("kubernetes.io/legacy-unknown"),
            "the legacy signerName is not allowed via this API version",
        ),
        (
            "/spec/signerName",
            json!("tea"),
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            "/spec/signerName",
            json!("com/tea"),
            "spec.signerName: Invalid value: \"com\": should be a domain with at least two segments separated by dots",
        ),
        (
            "/spec/signerName",
            json!("a_b.com/tea"),
            "spec.signerName: Invalid value: \"a_b.com\": validating label \"a_b\": a lowercase RFC 1123 label",
        ),
        (
            "/spec/expirationSeconds",
            json!(599),
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ),
    ];
    for (pointer, value, expected) in cases {
        let errors = create(
            &CertificateSigningRequest,
            with(request(), pointer, value.clone()),
        );
        assert!(
            errors.len() == 1 && errors[0].contains(expected),
            "{pointer} {value}: {errors:?}"
        );
    }
}

#[test]
fn the_main_resource_changes_metadata_only() {
    let mut new = decided(&["Approved"]);
    new["spec"]["signerName"] = json!("example.com/other");
    new["metadata"]["labels"] = json!({"a": "b"});
    let none: Vec<String> = vec![];
    let errors = update(&CertificateSigningRequest, new.clone(), request());
    assert_eq!(errors, none);
    CertificateSigningRequest.prepare_for_update(&mut new, &request());
    assert_eq!(new["spec"], request()["spec"]);
    assert_eq!(new["status"], json!({}));
    assert_eq!(new["metadata"]["labels"]["a"], "b");
}

#[test]
fn approval_decides_and_never_takes_back() {
    let none: Vec<String> = vec![];
    let mut new = decided(&["Approved"]);
    new["spec"]["signerName"] = json!("example.com/other");
    new["status"]["certificate"] = encoded(CERTIFICATE);
    let (approved, errors) = write(APPROVAL, &new, &request());
    assert_eq!(errors, none);
    assert_eq!(approved["spec"], request()["spec"]);
    assert_eq!(approved["status"].get("certificate"), None);
    assert_eq!(
        write(APPROVAL, &request(), &approved).1,
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    assert_eq!(
        write(APPROVAL, &decided(&["Approved", "Denied"]), &approved).1,
        [
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
        ]
    );
    let mut doubtful = decided(&["Approved", "Approved", ""]);
    doubtful["status"]["conditions"][0]["status"] = json!("False");
    assert_eq!(
        write(APPROVAL, &doubtful, &request()).1,
        [
            "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
            "status.conditions[1].type: Duplicate value: \"Approved\"",
            "status.conditions[2].type: Required value",
        ]
    );
}

#[test]
fn status_issues_and_never_decides() {
    let none: Vec<String> = vec![];
    let approved = decided(&["Approved"]);
    assert_eq!(
        write("status", &approved, &request()).1,
        ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
    );
    let mut new = approved.clone();
    new["status"]["conditions"][0]["reason"] = json!("Rewritten");
    new["status"]["certificate"] = encoded(CERTIFICATE);
    let (issued, errors) = write("status", &new, &approved);
    assert_eq!(errors, none);
    assert_eq!(issued["status"]["conditions"][0]["reason"], "R");
    let other = format!("{CERTIFICATE}{CERTIFICATE}");
    let again = with(issued.clone(), "/status/certificate", encoded(&other));
    assert_eq!(
        write("status", &again, &issued).1,
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
    let faulty = [
        (
            REQUEST,
            "only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\"",
        ),
        ("tea", "must contain at least one CERTIFICATE PEM block"),
        (
            "-----BEGIN CERTIFICATE-----\nAQI=\n-----END CERTIFICATE-----",
            "x509: malformed certificate",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nA: b\n\nAQI=\n-----END CERTIFICATE-----",
            "no PEM block headers are permitted",
        ),
    ];
    for (certificate, fault) in faulty {
        let new = with(
            approved.clone(),
            "/status/certificate",
            encoded(certificate),
        );
        let expected =
            format!("status.certificate: Invalid value: \"<certificate data>\": {fault}");
        assert_eq!(write("status", &new, &approved).1, [expected]);
    }
}

#[test]
fn conditions_get_times() {
    let mut old = decided(&["Approved"]);
    old["status"]["conditions"][0]["lastTransitionTime"] = json!("2024-01-01T00:00:00Z");
    let mut new = decided(&["Approved", "Failed"]);
    let sender = Request {
        now: "2024-02-02T00:00:00Z".parse().expect("a timestamp"),
        username: "",
        uid: "",
        groups: &[],
        extra: &std::collections::BTreeMap::new(),
    };
    CertificateSigningRequest.note_request(&mut new, Some(&old), &sender);
    let conditions = &new["status"]["conditions"];
    assert_eq!(conditions[0]["lastUpdateTime"], "2024-02-02T00:00:00Z");
    assert_eq!(conditions[0]["lastTransitionTime"], "2024-01-01T00:00:00Z");
    assert_eq!(conditions[1]["lastTransitionTime"], "2024-02-02T00:00:00Z");
}

#[test]
fn rows_and_fields() {
    let headings: Vec<&str> = DESCRIPTOR.columns.iter().map(|c| c.name).collect();
    assert_eq!(
        headings.join(" "),
        "Name Age SignerName Requestor RequestedDuration Condition"
    );
    let now: Timestamp = "2024-01-01T00:05:00Z".parse().expect("a timestamp");
    let row = |object: &Value| Value::from(CertificateSigningRequest.row(object, now));
    let cells = json!([
        "Anything:goes",
        "5m",
        "example.com/tea",
        "somebody",
        "<none>",
        "Pending"
    ]);
    assert_eq!(row(&request()), cells);
    let mut object = decided(&["Approved", "Failed"]);
    object["spec"]["expirationSeconds"] = json!(86_400);
    object["status"]["certificate"] = encoded(CERTIFICATE);
    assert_eq!(row(&object)[4], "24h");
    assert_eq!(row(&object)[5], "Approved,Failed,Issued");
    let object = request();
    let fields = CertificateSigningRequest.selectable_fields(&object);
    assert_eq!(fields.get("spec.signerName"), Some("example.com/tea"));
}
