//! Defaults, mistakes, rows, and the way between the two versions.

use super::*;
use crate::kinds::errors::testing::{create, update, with};

const V1: &dyn Strategy = v1::DESCRIPTOR.strategy;

fn autoscaler() -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
            "maxReplicas": 5,
        },
    })
}

fn with_metric(metric: Value) -> Value {
    with(autoscaler(), "/spec/metrics", json!([metric]))
}

fn pods_metric() -> Value {
    json!({"type": "Pods", "pods": {
        "metric": {"name": "rps", "selector": {"matchLabels": {"a": "b"}}},
        "target": {"type": "AverageValue", "averageValue": "10"}}})
}

/// A stored object that uses all that the older version has no fields for.
fn stored() -> Value {
    let mut object = autoscaler();
    object["spec"]["minReplicas"] = json!(2);
    object["spec"]["metrics"] = json!([pods_metric(), cpu_utilization(60.into())]);
    object["spec"]["behavior"] = json!({"scaleDown": {
        "stabilizationWindowSeconds": 60, "tolerance": "50m",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]}});
    object["status"] = json!({
        "observedGeneration": 1, "lastScaleTime": "2024-01-01T00:00:00Z",
        "currentReplicas": 3, "desiredReplicas": 4,
        "currentMetrics": [
            {"type": "Pods", "pods": {"metric": {"name": "rps"}, "current": {"averageValue": "7"}}},
            {"type": "Resource", "resource": {
                "name": "cpu", "current": {"averageUtilization": 40, "averageValue": "400m"}}},
        ],
        "conditions": [{
            "type": "AbleToScale", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z",
            "reason": "Ready", "message": "a <b>"}],
    });
    object
}

#[test]
fn defaults() {
    let mut object = autoscaler();
    object["metadata"]["annotations"] =
        json!({"autoscaling.alpha.kubernetes.io/metrics": "[]", "mine": "x"});
    object["spec"]["behavior"] = json!({"scaleUp": {"selectPolicy": "Min"}});
    HorizontalPodAutoscaler.default(&mut object);
    assert_eq!(object["metadata"]["annotations"], json!({"mine": "x"}));
    let spec = &object["spec"];
    assert_eq!(spec["minReplicas"], 1);
    assert_eq!(
        spec["metrics"],
        json!([{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    );
    assert_eq!(
        spec["behavior"],
        json!({
            "scaleUp": {
                "selectPolicy": "Min",
                "stabilizationWindowSeconds": 0,
                "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                    {"type": "Percent", "value": 100, "periodSeconds": 15},
                ],
            },
            "scaleDown": {
                "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            },
        })
    );
}

#[test]
fn mistakes_in_the_spec_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&HorizontalPodAutoscaler, autoscaler()), none);
    assert_eq!(create(&HorizontalPodAutoscaler, stored()), none);
    let rules = |rules: Value| json!({ "scaleUp": rules });
    let cases = [
        (
            "/spec/minReplicas",
            json!(0),
            vec![
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to \
                 zero replicas",
            ],
        ),
        (
            "/spec/minReplicas",
            json!(6),
            vec![
                "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            "/spec/scaleTargetRef",
            json!({"name": "a/b", "apiVersion": "v1"}),
            vec![
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            ],
        ),
        (
            "/spec/scaleTargetRef",
            json!({"kind": "ReplicationController", "name": "a", "apiVersion": "v1"}),
            vec![],
        ),
        (
            "/spec/behavior",
            rules(json!({"stabilizationWindowSeconds": 3601, "selectPolicy": "Most"})),
            vec![
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to \
                 3600",
                "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Most\": supported values: \"Disabled\", \
                 \"Max\", \"Min\"",
            ],
        ),
        (
            "/spec/behavior",
            rules(json!({"policies": [{"type": "Pod", "value": 0, "periodSeconds": 1801}]})),
            vec![
                "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Pod\": supported values: \"Percent\", \
                 \"Pods\"",
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to \
                 1800",
            ],
        ),
    ];
    for (pointer, value, expected) in cases {
        let object = with(autoscaler(), pointer, value);
        assert_eq!(
            create(&HorizontalPodAutoscaler, object),
            expected,
            "{pointer}"
        );
    }
}

#[test]
fn mistakes_in_metrics_are_named() {
    let cases = [
        (
            json!({"type": "Gauge"}),
            vec![
                "spec.metrics[0].type: Unsupported value: \"Gauge\": supported values: \"ContainerResource\", \
                 \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            json!({"type": "Pods"}),
            vec![
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ],
        ),
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}},
                   "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}),
            vec!["spec.metrics[0].external: Forbidden: must populate the given metric source only"],
        ),
        (
            json!({"type": "Resource", "resource": {"target": {"type": "Half", "averageUtilization": 0}}}),
            vec![
                "spec.metrics[0].resource.name: Required value: must specify a resource name",
                "spec.metrics[0].resource.target.type: Invalid value: \"Half\": must be either Utilization, Value, or \
                 AverageValue",
                "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            ],
        ),
        (
            json!({"type": "External", "external": {
                "metric": {}, "target": {"type": "Value", "value": "0", "averageValue": "1"}}}),
            vec![
                "spec.metrics[0].external.metric.name: Required value: must specify a metric name",
                "spec.metrics[0].external.target.value: Invalid value: \"0\": must be positive",
                "spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a \
                 per-pod target",
            ],
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {
                "name": "tea", "target": {"type": "Utilization", "averageUtilization": 5}}}),
            vec![
                "spec.metrics[0].containerResource.name: Invalid value: \"tea\": must be a standard resource for \
                 containers",
                "spec.metrics[0].containerResource.container: Required value: must specify a container",
            ],
        ),
        (
            json!({"type": "Object", "object": {
                "describedObject": {"kind": "Ingress", "name": "i", "apiVersion": "a/b/c"},
                "metric": {"name": "rps"}, "target": {"type": "Value"}}}),
            vec![
                "spec.metrics[0].object.describedObject.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion \
                 string: a/b/c",
                "spec.metrics[0].object.target.averageValue: Required value: must set either a target value or \
                 averageValue",
            ],
        ),
    ];
    for (metric, expected) in cases {
        let object = with_metric(metric.clone());
        assert_eq!(
            create(&HorizontalPodAutoscaler, object),
            expected,
            "{metric}"
        );
    }
}

#[test]
fn updates_bear_what_was_there() {
    let none: Vec<String> = vec![];
    let odd = with(
        with(autoscaler(), "/spec/scaleTargetRef/apiVersion", json!("v1")),
        "/spec/minReplicas",
        json!(0),
    );
    let external = json!([{"type": "External", "external": {
        "metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}]);
    let odd = with(odd, "/spec/metrics", external);
    assert_eq!(
        update(&HorizontalPodAutoscaler, odd.clone(), odd.clone()),
        none
    );
    assert_eq!(
        update(&HorizontalPodAutoscaler, odd, autoscaler()),
        [
            "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
            "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
        ]
    );
    let mut status = stored();
    status["status"]["desiredReplicas"] = json!(-1);
    let errors = HorizontalPodAutoscaler.validate_status_update(&status, &stored());
    let expected = "status.desiredReplicas: Invalid value: -1: must be greater than or equal to 0";
    assert_eq!(errors[0].to_string(), expected);
}

#[test]
fn rows_show_two_metrics() {
    let headings: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    assert_eq!(
        headings.join(" "),
        "Name Reference Targets MinPods MaxPods Replicas Age"
    );
    let row = |object: &Value| HorizontalPodAutoscaler.row(object, Timestamp::UNIX_EPOCH);
    let cells = json!([
        "a",
        "Deployment/web",
        "7/10, cpu: 40%/60%",
        "2",
        5,
        3,
        "<unknown>"
    ]);
    assert_eq!(Value::from(row(&stored())), cells);
    let mut object = stored();
    let more = [
        json!({"type": "External", "external": {"target": {"averageValue": "4"}}}),
        json!({"type": "Resource", "resource": {"name": "memory", "target": {"averageValue": "1Gi"}}}),
        json!({"type": "Object", "object": {"target": {"value": "9"}}}),
    ];
    object["spec"]["metrics"] = more.to_vec().into();
    object["status"] = json!({});
    let text = "<unknown>/4 (avg), memory: <unknown>/1Gi + 1 more...";
    assert_eq!(row(&object)[2], text);
    let mut older = stored();
    V1.decode_from_storage(&mut older);
    assert_eq!(
        Value::from(V1.row(&older, Timestamp::UNIX_EPOCH)),
        Value::from(row(&stored()))
    );
}

#[test]
fn the_older_version_writes_the_annotations_of_upstream() {
    let mut object = stored();
    V1.decode_from_storage(&mut object);
    assert_eq!(object["apiVersion"], "autoscaling/v1");
    assert_eq!(
        object["spec"],
        json!({
            "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
            "minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 60,
        })
    );
    assert_eq!(
        object["status"],
        json!({
            "observedGeneration": 1, "lastScaleTime": "2024-01-01T00:00:00Z",
            "currentReplicas": 3, "desiredReplicas": 4, "currentCPUUtilizationPercentage": 40,
        })
    );
    let annotation = |name: &str| {
        let key = format!("autoscaling.alpha.kubernetes.io/{name}");
        object["metadata"]["annotations"][key].clone()
    };
    let expected = [
        (
            "metrics",
            r#"[{"type":"Pods","pods":{"metricName":"rps","targetAverageValue":"10","selector":{"matchLabels":{"a":"b"}}}}]"#,
        ),
        (
            "current-metrics",
            r#"[{"type":"Pods","pods":{"metricName":"rps","currentAverageValue":"7"}},{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":40,"currentAverageValue":"400m"}}]"#,
        ),
        (
            "behavior",
            r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":60,"SelectPolicy":null,"Policies":[{"Type":"Pods","Value":1,"PeriodSeconds":30}],"Tolerance":"50m"}}"#,
        ),
        (
            "conditions",
            r#"[{"type":"AbleToScale","status":"True","lastTransitionTime":"2024-01-01T00:00:00Z","reason":"Ready","message":"a \u003cb\u003e"}]"#,
        ),
    ];
    for (name, text) in expected {
        assert_eq!(annotation(name), text, "{name}");
    }
    V1.encode_for_storage(&mut object);
    assert_eq!(object, stored());
}

#[test]
fn every_metric_survives_the_older_version() {
    let described = json!({"kind": "Ingress", "name": "i", "apiVersion": "networking.k8s.io/v1"});
    let metrics = json!([
        {"type": "Object", "object": {"describedObject": described, "metric": {"name": "rps"},
                                      "target": {"type": "Value", "value": "2k"}}},
        {"type": "Object", "object": {"describedObject": described, "metric": {"name": "rps"},
                                      "target": {"type": "AverageValue", "averageValue": "3"}}},
        {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}},
        {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
                                          "target": {"type": "AverageValue", "averageValue": "1"}}},
        {"type": "Resource", "resource": {"name": "memory",
                                          "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
        {"type": "ContainerResource", "containerResource": {
            "name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 5}}},
    ]);
    let mut object = with(autoscaler(), "/spec/metrics", metrics);
    object["spec"]["minReplicas"] = json!(1);
    object["status"] = json!({"desiredReplicas": 0, "currentMetrics": [
        {"type": "Object", "object": {"describedObject": described, "metric": {"name": "rps"},
                                      "current": {"averageValue": "3"}}},
        {"type": "External", "external": {"metric": {"name": "q"}, "current": {"value": "0"}}},
        {"type": "ContainerResource", "containerResource": {
            "name": "cpu", "container": "c", "current": {"averageUtilization": 0, "averageValue": "0"}}},
    ]});
    let before = object.clone();
    V1.decode_from_storage(&mut object);
    let none: Vec<String> = vec![];
    assert_eq!(update(V1, object.clone(), object.clone()), none);
    V1.encode_for_storage(&mut object);
    assert_eq!(object, before);
}

#[test]
fn creating_in_the_older_version() {
    let mut object = autoscaler();
    object["apiVersion"] = json!("autoscaling/v1");
    V1.default(&mut object);
    V1.prepare_for_create(&mut object);
    assert_eq!(object["apiVersion"], "autoscaling/v1");
    assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(
        object["status"],
        json!({"currentReplicas": 0, "desiredReplicas": 0})
    );
    let annotations = |name: &str, text: &str| {
        let key = format!("autoscaling.alpha.kubernetes.io/{name}");
        with(
            autoscaler(),
            "/metadata/annotations",
            json!({ (key): text }),
        )
    };
    let errors = create(
        V1,
        annotations(
            "metrics",
            r#"[{"type": "Pods", "pods": {"metricName": "x"}}]"#,
        ),
    );
    assert_eq!(
        errors,
        ["spec.metrics[0].pods.target.averageValue: Invalid value: \"0\": must be positive",]
    );
    let errors = create(V1, annotations("behavior", r#"{"scaleup": {}}"#));
    let expected =
        "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy";
    assert_eq!(errors, [expected]);
    // What cannot be read is as good as nothing.
    for broken in ["", "{", "7", "[7]", r#"[{"type": 7}]"#, r#"[{"pods": 1}]"#] {
        let mut object = annotations("metrics", broken);
        V1.prepare_for_create(&mut object);
        assert_eq!(
            object["spec"]["targetCPUUtilizationPercentage"], 80,
            "{broken}"
        );
        assert!(object["metadata"].get("annotations").is_none(), "{broken}");
    }
}

#[test]
fn the_older_version_keeps_spec_and_status_apart() {
    let mut old = stored();
    V1.decode_from_storage(&mut old);
    let mut new = old.clone();
    new["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/conditions"] = json!("[]");
    new["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"] = json!("[]");
    new["spec"]["maxReplicas"] = json!(9);
    let mut main = new.clone();
    V1.prepare_for_update(&mut main, &old);
    V1.encode_for_storage(&mut main);
    assert_eq!(main["status"], stored()["status"]);
    assert_eq!(main["spec"]["metrics"], json!([cpu_utilization(60.into())]));
    V1.prepare_for_status_update(&mut new, &old);
    V1.encode_for_storage(&mut new);
    assert_eq!(new["spec"], stored()["spec"]);
    assert_eq!(new["status"].get("conditions"), None);
}
