//! Tests of `Status`: codes, texts and the wire form. Invariant: to_json and from_json are inverse.

use super::*;
use crate::field::FieldError;
use crate::field::FieldPath;
use crate::meta::GroupKind;

fn pods() -> GroupResource {
    GroupResource::new("", "pods")
}

#[test]
fn texts_and_codes_are_upstreams() {
    let deployments = GroupResource::new("apps", "deployments");
    let cases: Vec<(Status, u16, &str, &str)> = vec![
        (
            Status::not_found(&pods(), "x"),
            404,
            "NotFound",
            "pods \"x\" not found",
        ),
        (
            Status::not_found(&deployments, "x"),
            404,
            "NotFound",
            "deployments.apps \"x\" not found",
        ),
        (
            Status::already_exists(&pods(), "x"),
            409,
            "AlreadyExists",
            "pods \"x\" already exists",
        ),
        (
            Status::modified(&pods(), "x"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes \
             to the latest version and try again",
        ),
        (
            Status::forbidden(Some(&pods()), "x", "User \"u\" cannot get"),
            403,
            "Forbidden",
            "pods \"x\" is forbidden: User \"u\" cannot get",
        ),
        (
            Status::forbidden(Some(&pods()), "", "no"),
            403,
            "Forbidden",
            "pods is forbidden: no",
        ),
        (
            Status::forbidden(None, "", "no"),
            403,
            "Forbidden",
            "forbidden: no",
        ),
        (Status::unauthorized(), 401, "Unauthorized", "Unauthorized"),
    ];
    check(cases);
}

#[test]
fn texts_and_codes_of_the_servers_own_troubles() {
    let cases: Vec<(Status, u16, &str, &str)> = vec![
        (
            Status::server_timeout(&pods(), "list", 2),
            500,
            "ServerTimeout",
            "The list operation against pods could not be completed at this time, please try again.",
        ),
        (Status::timeout("slow", 0), 504, "Timeout", "Timeout: slow"),
        (
            Status::internal("boom"),
            500,
            "InternalError",
            "Internal error occurred: boom",
        ),
        (
            Status::method_not_allowed(&pods(), "patch"),
            405,
            "MethodNotAllowed",
            "patch is not supported on resources of kind \"pods\"",
        ),
        (
            Status::request_too_large("limit is 1"),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 1",
        ),
        (
            Status::unsupported_media_type(["application/json", "application/yaml"]),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml",
        ),
        (
            Status::not_acceptable(["application/json"]),
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        ),
    ];
    check(cases);
}

fn check(cases: Vec<(Status, u16, &str, &str)>) {
    for (status, code, reason, message) in cases {
        assert_eq!(status.code(), code, "{message}");
        assert_eq!(status.reason.as_ref().map(Reason::as_str), Some(reason));
        assert_eq!(status.message, message);
        assert_eq!(Status::from_json(&status.to_json()), Some(status));
    }
}

#[test]
fn invalid_names_every_field() {
    let errors = [
        FieldError::required(&FieldPath::new("spec").child("a"), ""),
        FieldError::invalid(&FieldPath::new("spec").child("b"), 3, "must be 4"),
    ];
    let status = Status::invalid(&GroupKind::new("apps", "Deployment"), "web", &errors);
    let want = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Deployment.apps \"web\" is invalid: [spec.a: Required value, spec.b: Invalid value: 3: must be 4]",
        "reason": "Invalid",
        "details": {
            "name": "web", "group": "apps", "kind": "Deployment",
            "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                {"reason": "FieldValueInvalid", "message": "Invalid value: 3: must be 4", "field": "spec.b"},
            ],
        },
        "code": 422,
    });
    assert_eq!(status.to_json(), want);
}

#[test]
fn success_and_continue() {
    let details = Details {
        name: "x".into(),
        kind: "pods".into(),
        uid: "u".into(),
        ..Details::default()
    };
    let status = Status::success(Some(details));
    assert_eq!(
        status.to_json(),
        serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "x", "kind": "pods", "uid": "u"}})
    );
    assert_eq!(Status::from_json(&status.to_json()), Some(status));
    let expired = Status::continue_expired("tok");
    assert_eq!(
        (
            expired.code(),
            expired.to_json()["metadata"]["continue"].as_str()
        ),
        (410, Some("tok"))
    );
    assert_eq!(
        Status::too_many_requests("slow", 7).retry_after_seconds(),
        Some(7)
    );
    assert_eq!(Status::from_json(&serde_json::json!({"kind": "Pod"})), None);
}
