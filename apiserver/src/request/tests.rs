//! Tables of request lines and what they resolve to.

use super::*;

fn resolve(method: &str, uri: &str) -> RequestInfo {
    RequestInfo::resolve(&method.parse().expect("method"), &uri.parse().expect("uri"))
}

/// verb, group, version, namespace, resource, subresource, name
type Row = (&'static str, &'static str, [&'static str; 7]);

const RESOURCE_REQUESTS: &[Row] = &[
    (
        "GET",
        "/api/v1/namespaces",
        ["list", "", "v1", "", "namespaces", "", ""],
    ),
    (
        "GET",
        "/api/v1/namespaces/other",
        ["get", "", "v1", "other", "namespaces", "", "other"],
    ),
    (
        "PUT",
        "/api/v1/namespaces/a/finalize",
        ["update", "", "v1", "a", "namespaces", "finalize", "a"],
    ),
    (
        "PATCH",
        "/api/v1/namespaces/a/status",
        ["patch", "", "v1", "a", "namespaces", "status", "a"],
    ),
    (
        "GET",
        "/api/v1/namespaces/other/pods",
        ["list", "", "v1", "other", "pods", "", ""],
    ),
    (
        "GET",
        "/api/v1/namespaces/other/pods/foo",
        ["get", "", "v1", "other", "pods", "", "foo"],
    ),
    (
        "HEAD",
        "/api/v1/namespaces/other/pods/foo",
        ["get", "", "v1", "other", "pods", "", "foo"],
    ),
    (
        "GET",
        "/api/v1/pods",
        ["list", "", "v1", "", "pods", "", ""],
    ),
    (
        "POST",
        "/api/v1/pods",
        ["create", "", "v1", "", "pods", "", ""],
    ),
    (
        "DELETE",
        "/api/v1/namespaces/o/pods",
        ["deletecollection", "", "v1", "o", "pods", "", ""],
    ),
    (
        "DELETE",
        "/api/v1/namespaces/o/pods/f",
        ["delete", "", "v1", "o", "pods", "", "f"],
    ),
    (
        "POST",
        "/api/v1/namespaces/o/pods/f/eviction",
        ["create", "", "v1", "o", "pods", "eviction", "f"],
    ),
    (
        "GET",
        "/api/v1/watch/pods",
        ["watch", "", "v1", "", "pods", "", ""],
    ),
    (
        "GET",
        "/api/v1/watch/namespaces/o/pods",
        ["watch", "", "v1", "o", "pods", "", ""],
    ),
    (
        "GET",
        "/api/v1/watch/namespaces/o/pods/x",
        ["watch", "", "v1", "o", "pods", "", "x"],
    ),
    (
        "GET",
        "/api/v1/watch",
        ["list", "", "v1", "", "watch", "", ""],
    ),
    (
        "GET",
        "/api/v1/pods?watch=true",
        ["watch", "", "v1", "", "pods", "", ""],
    ),
    (
        "GET",
        "/api/v1/pods?watch=1",
        ["watch", "", "v1", "", "pods", "", ""],
    ),
    (
        "GET",
        "/api/v1/pods?watch=false",
        ["list", "", "v1", "", "pods", "", ""],
    ),
    (
        "GET",
        "/api/v1/namespaces/o/pods/f?watch=true",
        ["get", "", "v1", "o", "pods", "", "f"],
    ),
    (
        "GET",
        "/api/v1/namespaces/o/pods?fieldSelector=metadata.name%3Dfoo",
        ["list", "", "v1", "o", "pods", "", "foo"],
    ),
    // An escaped comma belongs to the value: this selects all but one, and pins no name.
    (
        "GET",
        "/api/v1/namespaces/o/pods?fieldSelector=metadata.namespace!%3Dx%5C,metadata.name%3Dfoo",
        ["list", "", "v1", "o", "pods", "", ""],
    ),
    (
        "GET",
        "/apis/apps/v1/namespaces/o/deployments/d/scale",
        ["get", "apps", "v1", "o", "deployments", "scale", "d"],
    ),
    (
        "GET",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
        [
            "get",
            "rbac.authorization.k8s.io",
            "v1",
            "",
            "clusterroles",
            "",
            "system:node",
        ],
    ),
    (
        "GET",
        "/api/v1/namespaces/o/pods/f/log?follow=1",
        ["get", "", "v1", "o", "pods", "log", "f"],
    ),
    (
        "GET",
        "/api/v1/nodes/n/proxy/a/b",
        ["get", "", "v1", "", "nodes", "proxy", "n"],
    ),
    (
        "GET",
        "/api/v1/proxy/nodes/n/a",
        ["proxy", "", "v1", "", "nodes", "", "n"],
    ),
];

#[test]
fn resource_requests() {
    for (method, uri, expected) in RESOURCE_REQUESTS {
        let info = resolve(method, uri);
        let got = [
            &info.verb,
            &info.api_group,
            &info.api_version,
            &info.namespace,
            &info.resource,
            &info.subresource,
            &info.name,
        ];
        assert!(info.is_resource_request, "{method} {uri}");
        assert_eq!(&got.map(String::as_str), expected, "{method} {uri}");
    }
}

#[test]
fn other_requests() {
    for uri in [
        "/",
        "/healthz",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/openapi/v3/apis/apps/v1",
        "//x",
    ] {
        let info = resolve("GET", uri);
        assert!(!info.is_resource_request, "{uri}");
        assert_eq!(info.verb, "get", "{uri}");
        assert_eq!(info.path, uri);
    }
}

#[test]
fn what_lies_behind_a_proxy_subresource() {
    assert_eq!(
        resolve("GET", "/api/v1/namespaces/n/pods/p/proxy/a/b%40c").rest(),
        "a/b@c"
    );
    assert_eq!(
        resolve("GET", "/api/v1/namespaces/n/pods/p/proxy").rest(),
        ""
    );
}

#[test]
fn long_running() {
    let rows = [
        ("GET", "/api/v1/pods?watch=1", true),
        ("GET", "/api/v1/pods", false),
        ("POST", "/api/v1/namespaces/n/pods/p/exec", true),
        ("GET", "/api/v1/namespaces/n/pods/p/log", true),
        ("GET", "/metrics", false),
    ];
    for (method, uri, expected) in rows {
        assert_eq!(resolve(method, uri).is_long_running(), expected, "{uri}");
    }
}

#[test]
fn selectors_are_kept_for_authorization() {
    let info = resolve(
        "GET",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&labelSelector=a+in+(b)",
    );
    assert_eq!(info.field_selector.as_deref(), Some("spec.nodeName=n1"));
    assert_eq!(info.label_selector.as_deref(), Some("a in (b)"));
    assert_eq!(info.name, "");
}

#[test]
fn malformed_escapes_do_no_harm() {
    assert_eq!(decode("%"), "%");
    assert_eq!(decode("%4"), "%4");
    assert_eq!(decode("%zz%41"), "%zzA");
    assert_eq!(decode("%+1"), "%+1");
    assert_eq!(decode("a%ff"), "a\u{fffd}");
}
