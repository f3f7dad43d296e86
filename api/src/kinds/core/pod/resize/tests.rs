//! What a resize may change, in upstream's words, and what becomes of everything else that an update says.

use serde_json::{Value, json};

use super::RESIZE;
use crate::kinds::Strategy;
use crate::kinds::core::pod::Pod;
use crate::kinds::errors::testing::{create, update, with};

/// A Burstable pod of a container, a sidecar and a plain init container.
fn pod() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "i:1", "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1Gi"},
            "limits": {"cpu": "200m", "memory": "128Mi"},
        }})
    };
    let mut sidecar = container("side");
    sidecar["restartPolicy"] = json!("Always");
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}, "generation": 4},
        "spec": {"initContainers": [sidecar, container("init")], "containers": [container("c"), container("d")]},
    });
    Pod.default(&mut pod);
    pod["status"] = json!({"phase": "Running", "qosClass": "Burstable"});
    pod
}

fn resized(new: &Value, old: &Value) -> (Value, Vec<String>) {
    let mut new = new.clone();
    Pod.default(&mut new);
    Pod.prepare_for_subresource_update(RESIZE, &mut new, old);
    let errors = Pod.validate_subresource_update(RESIZE, &new, old);
    (new, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn only_cpu_and_memory_change() {
    let all = json!({"requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "1Gi"}, "limits": {"cpu": "400m", "memory": "128Mi"}});
    let cases: &[(&str, Value, &[&str])] = &[
        ("/spec/containers/0/resources", all.clone(), &[]),
        ("/spec/initContainers/0/resources", all.clone(), &[]),
        (
            "/spec/initContainers/1/resources",
            all,
            &["spec: Forbidden: resources for non-sidecar init containers are immutable"],
        ),
        (
            "/spec/containers/0/resources/requests/cpu",
            json!("1"),
            &[
                "spec.containers[0].resources.requests: Invalid value: \"1\": must be less than or equal to cpu limit of 200m",
            ],
        ),
        (
            "/spec/containers/0/resources/requests/ephemeral-storage",
            json!("2Gi"),
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            "/spec/initContainers/0/resources/requests/ephemeral-storage",
            json!("2Gi"),
            &["spec: Forbidden: only cpu and memory resources for sidecar containers are mutable"],
        ),
        (
            "/spec/containers/1/resources",
            json!({"requests": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1Gi"}, "limits": {"cpu": "200m"}}),
            &["spec.containers[1].resources.limits: Forbidden: resource limits cannot be removed"],
        ),
        (
            "/spec/initContainers/0/resources",
            json!({}),
            &[
                "spec.initContainers[0].resources.requests: Forbidden: resource requests cannot be removed",
                "spec.initContainers[0].resources.limits: Forbidden: resource limits cannot be removed",
                "spec: Forbidden: only cpu and memory resources for sidecar containers are mutable",
            ],
        ),
        (
            "/spec/containers/0/resizePolicy",
            json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            "/spec/containers/0/name",
            json!("other"),
            &[
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
            ],
        ),
        (
            "/spec/initContainers",
            json!([]),
            &[
                "spec.initContainers: Forbidden: initContainers may not be added or removed on resize",
            ],
        ),
    ];
    for (pointer, value, expected) in cases {
        let (_, errors) = resized(&with(pod(), pointer, value.clone()), &pod());
        assert_eq!(errors, *expected, "{pointer} = {value}");
    }
}

/// Removed requests come back from the limits, as everywhere.
#[test]
fn requests_follow_limits() {
    let new = with(
        pod(),
        "/spec/containers/0/resources/requests",
        json!({"ephemeral-storage": "1Gi"}),
    );
    let (new, errors) = resized(&new, &pod());
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        new["spec"]["containers"][0]["resources"]["requests"],
        json!({"ephemeral-storage": "1Gi", "cpu": "200m", "memory": "128Mi"})
    );
}

#[test]
fn the_class_stays() {
    let whole =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    let some = json!({"requests": {"cpu": "1"}});
    let changes = "Pod QOS Class may not change as a result of resizing";
    for (class, before, after) in [
        ("BestEffort", json!({}), some.clone()),
        ("Burstable", some, whole),
    ] {
        let mut old = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {
            "containers": [{"name": "c", "image": "i:1", "resources": before}]}});
        Pod.default(&mut old);
        old["status"] = json!({"qosClass": class});
        let (_, errors) = resized(
            &with(old.clone(), "/spec/containers/0/resources", after),
            &old,
        );
        assert_eq!(
            errors,
            [format!("spec: Invalid value: \"{class}\": {changes}")]
        );
    }
}

#[test]
fn some_pods_are_never_resized() {
    let more = |pod: &Value| {
        with(
            pod.clone(),
            "/spec/containers/0/resources/limits/cpu",
            json!("1"),
        )
    };
    let annotations = json!({"kubernetes.io/config.mirror": "x"});
    let running = json!([{"name": "c", "state": {"running": {}}}]);
    for (pointer, value, expected) in [
        (
            "/metadata/annotations",
            annotations,
            "[]: Forbidden: static pods cannot be resized",
        ),
        (
            "/spec/os",
            json!({"name": "windows"}),
            "[]: Forbidden: windows pods cannot be resized",
        ),
        (
            "/status/containerStatuses",
            running,
            "spec: Forbidden: Pod running on node without support for resize",
        ),
        (
            "/spec/resources",
            json!({"requests": {"cpu": "2"}}),
            "[]: Forbidden: resize of pods with pod-level resources is forbidden when InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled",
        ),
    ] {
        let old = with(pod(), pointer, value);
        let (_, errors) = resized(&more(&old), &old);
        assert_eq!(
            errors.last().map(String::as_str),
            Some(expected),
            "{pointer}"
        );
    }
}

#[test]
fn everything_else_is_passed_over() {
    let old = pod();
    let mut new = with(
        old.clone(),
        "/spec/containers/0/resources/limits/cpu",
        json!("300m"),
    );
    new["metadata"]["labels"] = json!({"x": "y"});
    new["spec"]["containers"][0]["image"] = json!("other");
    new["spec"]["nodeName"] = json!("elsewhere");
    new["status"] = json!({"phase": "Failed"});
    let (new, errors) = resized(&new, &old);
    assert_eq!(errors, [""; 0]);
    let mut expected = with(
        old,
        "/spec/containers/0/resources/limits/cpu",
        json!("300m"),
    );
    expected["metadata"]["generation"] = json!(5);
    assert_eq!(new, expected);
    let (again, errors) = resized(&new, &new);
    assert_eq!(
        (again["metadata"]["generation"].as_i64(), errors.len()),
        (Some(5), 0)
    );
}

#[test]
fn plain_updates_change_no_resources() {
    let new = with(
        pod(),
        "/spec/containers/0/resources/limits/cpu",
        json!("300m"),
    );
    let errors = update(&Pod, new, pod());
    assert!(errors[0].starts_with("spec: Forbidden: pod updates may not change fields other than"));
}

#[test]
fn policies_of_resizes_are_checked() {
    let at = "spec.containers[0].resizePolicy";
    let policy =
        |resource: &str, restart: &str| json!({"resourceName": resource, "restartPolicy": restart});
    for (policies, restart, expected) in [
        (
            json!([
                policy("cpu", "NotRequired"),
                policy("memory", "RestartContainer")
            ]),
            "Always",
            vec![],
        ),
        (
            json!([policy("cpu", "NotRequired"), policy("cpu", "NotRequired")]),
            "Always",
            vec![format!("{at}[1]: Duplicate value: \"cpu\"")],
        ),
        (
            json!([policy("disk", "Sometimes")]),
            "Always",
            vec![
                format!("{at}: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\""),
                format!(
                    "{at}: Unsupported value: \"Sometimes\": supported values: \"NotRequired\", \"RestartContainer\""
                ),
            ],
        ),
        (
            json!([policy("cpu", "RestartContainer")]),
            "Never",
            vec![format!(
                "{at}: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'"
            )],
        ),
    ] {
        let mut object = with(pod(), "/spec/containers/0/resizePolicy", policies.clone());
        object["spec"]["restartPolicy"] = json!(restart);
        assert_eq!(create(&Pod, object), expected, "{policies}");
    }
}
