//! Tests of decoding: upstream's answers for good, odd and bad bodies. Invariant: expectations come from upstream's decoder.

use serde_json::json;

use super::*;

const DEPLOYMENT: GroupVersionKind = GroupVersionKind::from_static("apps", "v1", "Deployment");
const POD: GroupVersionKind = GroupVersionKind::from_static("", "v1", "Pod");
const SECRET: GroupVersionKind = GroupVersionKind::from_static("", "v1", "Secret");

fn json(
    gvk: &GroupVersionKind,
    text: &str,
    validation: FieldValidation,
) -> Result<Decoded, String> {
    decode(text.as_bytes(), Encoding::Json, gvk, validation).map_err(|status| {
        assert_eq!(status.code(), 400);
        status.message
    })
}

fn object(gvk: &GroupVersionKind, text: &str) -> Value {
    json(gvk, text, FieldValidation::Strict)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .object
}

/// The words after the prefix that names the kind.
fn refused(gvk: &GroupVersionKind, text: &str) -> String {
    let error = json(gvk, text, FieldValidation::Ignore).expect_err(text);
    let prefix = format!(
        "{0} in version \"v1\" cannot be handled as a {0}: ",
        gvk.kind
    );
    error
        .strip_prefix(&prefix)
        .map(str::to_owned)
        .unwrap_or(error)
}

#[test]
fn wrong_types_read_as_gos() {
    let field = "json: cannot unmarshal";
    for (spec, want) in [
        (
            r#"{"replicas":"x"}"#,
            "string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#""x""#,
            "string into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            "[1]",
            "array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            r#"{"replicas":1.5}"#,
            "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"replicas":1.0}"#,
            "number 1.0 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"replicas":4294967296}"#,
            "number 4294967296 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"replicas":true}"#,
            "bool into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"paused":1}"#,
            "number into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            r#"{"template":{"spec":{"containers":{"a":1}}}}"#,
            "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"template":{"spec":{"containers":["a"]}}}"#,
            "string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
        ),
        (
            r#"{"template":{"spec":{"containers":[{"name":1}]}}}"#,
            "number into Go struct field Container.spec.template.spec.containers.name of type string",
        ),
        (
            r#"{"template":{"spec":{"nodeSelector":{"a":1}}}}"#,
            "number into Go struct field PodSpec.spec.template.spec.nodeSelector of type string",
        ),
        (
            r#"{"template":{"spec":{"nodeSelector":["a"]}}}"#,
            "array into Go struct field PodSpec.spec.template.spec.nodeSelector of type map[string]string",
        ),
        (
            r#"{"template":{"spec":{"volumes":[{"emptyDir":"x"}]}}}"#,
            "string into Go struct field Volume.spec.template.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource",
        ),
        (
            r#"{"template":{"spec":{"containers":[{"livenessProbe":{"httpGet":{"path":1}}}]}}}"#,
            "number into Go struct field HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.path of type string",
        ),
        (
            r#"{"strategy":{"rollingUpdate":{"maxSurge":99999999999}}}"#,
            "number 99999999999 into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
    ] {
        let body = format!(r#"{{"apiVersion":"apps/v1","kind":"Deployment","spec":{spec}}}"#);
        assert_eq!(refused(&DEPLOYMENT, &body), format!("{field} {want}"));
    }
}

#[test]
fn scalars_are_checked() {
    let quantity = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    for (gvk, body, want) in [
        (
            &POD,
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            quantity,
        ),
        (
            &POD,
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":true}}}]}}"#,
            quantity,
        ),
        (
            &POD,
            r#"{"metadata":{"creationTimestamp":"x"}}"#,
            "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
        ),
        (
            &POD,
            r#"{"metadata":{"creationTimestamp":5}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            &SECRET,
            r#"{"data":{"b":"YQ"}}"#,
            "illegal base64 data at input byte 0",
        ),
        (
            &SECRET,
            r#"{"data":{"b":"?a=="}}"#,
            "illegal base64 data at input byte 0",
        ),
        (
            &SECRET,
            r#"{"data":{"b":5}}"#,
            "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
        ),
    ] {
        assert_eq!(refused(gvk, body), want, "{body}");
    }
}

#[test]
fn values_become_canonical() {
    let pod = r#"{"metadata":{"name":"a","creationTimestamp":"2020-01-01T01:00:00.5+01:00","labels":{},"annotations":null},
        "spec":{"nodeSelector":{"a":null},"containers":[null,{"name":"b","ports":null,"args":["x",null],
        "resources":{"limits":{"cpu":0.5,"memory":1024,"x":null,"y":"1024Mi"}}}],
        "volumes":[{"name":"v","emptyDir":{}}]}}"#;
    assert_eq!(
        object(&POD, pod),
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "creationTimestamp": "2020-01-01T00:00:00Z"},
            "spec": {"nodeSelector": {"a": ""}, "containers": [{}, {"name": "b", "args": ["x", ""],
                "resources": {"limits": {"cpu": "500m", "memory": "1024", "x": "0", "y": "1Gi"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}]}})
    );
    let secret = object(
        &SECRET,
        r#"{"data":{"a":"YQ==","b":"YR==","c":"Y\nQ==","d":null,"e":""}}"#,
    );
    assert_eq!(
        secret["data"],
        json!({"a": "YQ==", "b": "YQ==", "c": "YQ==", "d": "", "e": ""})
    );
    let lease = GroupVersionKind::from_static("coordination.k8s.io", "v1", "Lease");
    let lease = object(
        &lease,
        r#"{"spec":{"renewTime":"2020-01-01T00:00:00.123456789Z"}}"#,
    );
    assert_eq!(lease["spec"]["renewTime"], "2020-01-01T00:00:00.123456Z");
    let revision = GroupVersionKind::from_static("apps", "v1", "ControllerRevision");
    let revision = object(
        &revision,
        r#"{"revision":1,"data":{"a":[1,null,{"b":1.5,"c":{}}]}}"#,
    );
    assert_eq!(
        revision["data"],
        json!({"a": [1, null, {"b": 1.5, "c": {}}]})
    );
}

#[test]
fn unknown_and_duplicate_fields() {
    let body = r#"{"spec":{"foo":1,"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"name":"a","nam":"b"},
        {"x":1,"x":2}]}}},"metadata":{"labels":{"a":"1","a":"2"},"unknownMeta":1},"zzz":{"a":1,"a":2}}"#;
    let faults = [
        "unknown field \"spec.foo\"",
        "duplicate field \"spec.replicas\"",
        "unknown field \"spec.template.spec.containers[0].nam\"",
        "unknown field \"spec.template.spec.containers[1].x\"",
        "duplicate field \"metadata.labels.a\"",
        "unknown field \"metadata.unknownMeta\"",
        "unknown field \"zzz\"",
    ];
    let warned = json(&DEPLOYMENT, body, FieldValidation::Warn).expect("warnings only");
    assert_eq!(warned.warnings, faults);
    assert_eq!(warned.object["spec"]["replicas"], 2);
    assert_eq!(warned.object["metadata"], json!({"labels": {"a": "2"}}));
    let ignored = json(&DEPLOYMENT, body, FieldValidation::Ignore).expect("nothing is said");
    assert_eq!((ignored.warnings.len(), ignored.object), (0, warned.object));
    let strict = json(&DEPLOYMENT, body, FieldValidation::Strict).expect_err("refused");
    assert!(strict.starts_with(
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
         \"spec.foo\", duplicate field \"spec.replicas\", unknown field"
    ));
}

#[test]
fn kinds_must_agree() {
    for (body, want) in [
        (
            r#"{"apiVersion":"apps/v1beta1","kind":"Deployment"}"#,
            "Deployment in version \"v1beta1\" cannot be handled as a Deployment: no kind \"Deployment\" is registered for version \"apps/v1beta1\"",
        ),
        (
            r#"{"apiVersion":"apps/v1","kind":"Foo"}"#,
            "Foo in version \"v1\" cannot be handled as a Deployment: no kind \"Foo\" is registered for version \"apps/v1\"",
        ),
        (
            r#"{"apiVersion":"v1","kind":"Pod"}"#,
            "Pod in version \"v1\" cannot be handled as a Deployment: converting (v1.Pod) to (apps.Deployment): unknown conversion",
        ),
        (
            r#"{"apiVersion":"a/b/c","kind":"Deployment"}"#,
            "unexpected GroupVersion string: a/b/c",
        ),
    ] {
        assert_eq!(
            json(&DEPLOYMENT, body, FieldValidation::Ignore).expect_err(body),
            want
        );
    }
    for body in [
        "{}",
        "null",
        r#"{"kind":"Deployment"}"#,
        r#"{"apiVersion":"apps/v1"}"#,
    ] {
        assert_eq!(
            object(&DEPLOYMENT, body),
            json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
            "{body}"
        );
    }
}

#[test]
fn broken_bodies_are_refused() {
    for (body, want) in [
        ("", "unexpected end of JSON input"),
        ("{\"a\":", "unexpected end of JSON input ({\"a\":)"),
        ("{\"kind\":\"Deployment\",}", "trailing comma"),
        ("{} x", "trailing characters"),
    ] {
        let error = json(&DEPLOYMENT, body, FieldValidation::Ignore).expect_err(body);
        assert!(error.starts_with("the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: "), "{error}");
        assert!(error.contains(want), "{error}");
    }
    for body in ["[]", "5", "\"x\""] {
        assert!(
            refused(&DEPLOYMENT, body).contains("into Go value of type struct"),
            "{body}"
        );
    }
    let deep = format!("{}1{}", "{\"not\":".repeat(1000), "}".repeat(1000));
    let deep = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{deep}}}}}]}}}}"#);
    let crd =
        GroupVersionKind::from_static("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    assert!(
        json(&crd, &deep, FieldValidation::Ignore)
            .expect_err("too deep")
            .contains("exceeded max depth")
    );
    let raw = format!(
        "{{\"data\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let revision = GroupVersionKind::from_static("apps", "v1", "ControllerRevision");
    assert!(json(&revision, &raw, FieldValidation::Ignore).is_err());
    assert!(
        json(&POD, &raw, FieldValidation::Ignore).is_ok(),
        "unknown fields are skipped, however deep"
    );
}

#[test]
fn yaml_is_json() {
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {a: \"1\"}\nspec:\n  containers:\n  - name: c\n    stdin: yes\n    resources:\n      limits: {cpu: 0.5}\n";
    let decoded = decode(
        yaml.as_bytes(),
        Encoding::Yaml,
        &POD,
        FieldValidation::Strict,
    )
    .expect("valid");
    assert_eq!(
        decoded.object["spec"],
        json!({"containers": [{"name": "c", "stdin": true, "resources": {"limits": {"cpu": "500m"}}}]})
    );
    let wrong = "kind: Pod\nmetadata:\n  name: 5\n";
    let error = decode(
        wrong.as_bytes(),
        Encoding::Yaml,
        &POD,
        FieldValidation::Strict,
    )
    .expect_err("refused");
    assert!(error.message.ends_with("json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string"), "{error}");
    let twice = "metadata:\n  name: a\n  name: b\nspec:\n  foo: 1\n";
    let error = decode(
        twice.as_bytes(),
        Encoding::Yaml,
        &POD,
        FieldValidation::Strict,
    )
    .expect_err("refused");
    assert!(
        error
            .message
            .contains("duplicate field \"metadata.name\", unknown field \"spec.foo\""),
        "{error}"
    );
    assert!(decode(b"a: [", Encoding::Yaml, &POD, FieldValidation::Ignore).is_err());
    let deep = "[".repeat(10_000);
    assert!(
        decode(
            deep.as_bytes(),
            Encoding::Yaml,
            &POD,
            FieldValidation::Ignore
        )
        .is_err()
    );
    assert_eq!(
        parse(b"a: [1, x]", Encoding::Yaml),
        Ok(json!({"a": [1, "x"]}))
    );
}

#[test]
fn patched_objects_are_checked_the_same_way() {
    let checked = check(
        json!({"spec": {"replicas": 1, "x": 1}}),
        &DEPLOYMENT,
        FieldValidation::Warn,
    )
    .expect("valid");
    assert_eq!(checked.warnings, ["unknown field \"spec.x\""]);
    assert_eq!(
        checked.object,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}})
    );
    assert!(check(json!({"spec": []}), &DEPLOYMENT, FieldValidation::Warn).is_err());
}

#[test]
fn kinds_without_schema_pass() {
    let widget = GroupVersionKind::from_static("example.com", "v1", "Widget");
    let body = r#"{"apiVersion":"example.com/v1","kind":"Widget","spec":{"a":null}}"#;
    assert_eq!(object(&widget, body)["spec"], json!({"a": null}));
}
