//! What pods and other objects use of quotas, and which of them scopes take in.

use serde_json::json;

use super::*;

fn said(group: &str, resource: &str, object: &Value) -> String {
    words(&usage(group, resource, object))
}

fn pod(requests: Value, limits: Value) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests, "limits": limits}}]}})
}

#[test]
fn pods_use_what_they_ask_for() {
    let object = pod(
        json!({"cpu": "500m", "memory": "1Gi", "example.com/dongle": "2"}),
        json!({"cpu": "1", "example.com/dongle": "2"}),
    );
    assert_eq!(
        said("", "pods", &object),
        "count/pods=1,cpu=500m,limits.cpu=1,memory=1Gi,pods=1,requests.cpu=500m,requests.example.com/dongle=2,requests.memory=1Gi"
    );
    let mut ended = object;
    ended["status"] = json!({"phase": "Succeeded"});
    assert_eq!(said("", "pods", &ended), "count/pods=1");
}

/// A node that has not let go yet, one that has not given yet, and one that never will.
#[test]
fn a_pod_that_changes_its_size_uses_the_larger_one() {
    let resized = |has: &str, promised: &str, reason: &str| {
        let mut object = pod(json!({"cpu": "500m"}), json!({"cpu": "1"}));
        object["status"] = json!({
            "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
            "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": promised},
                "resources": {"requests": {"cpu": has}, "limits": {"cpu": "700m"}}}],
        });
        let used = usage("", "pods", &object);
        ["cpu", "limits.cpu"].map(|name| used[name].to_string())
    };
    assert_eq!(resized("500m", "500m", ""), ["500m", "1"]);
    assert_eq!(resized("800m", "500m", ""), ["800m", "1"]);
    assert_eq!(resized("100m", "900m", ""), ["900m", "1"]);
    assert_eq!(resized("100m", "100m", "Deferred"), ["500m", "1"]);
    assert_eq!(resized("100m", "200m", "Infeasible"), ["200m", "700m"]);
}

#[test]
fn the_hungriest_moment_of_a_start_counts() {
    let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    let mut sidecar = container("100m");
    sidecar["restartPolicy"] = json!("Always");
    let of = |init: Value| {
        let object = json!({"spec": {"containers": [container("200m")], "initContainers": init, "overhead": {"cpu": "10m"}}});
        usage("", "pods", &object)["cpu"].to_string()
    };
    assert_eq!(of(json!([])), "210m");
    assert_eq!(of(json!([container("50m")])), "210m");
    assert_eq!(of(json!([container("900m")])), "910m");
    assert_eq!(of(json!([sidecar.clone(), container("900m")])), "1010m");
    assert_eq!(of(json!([container("150m"), sidecar])), "310m");
}

#[test]
fn other_kinds_are_counted() {
    assert_eq!(
        said("apps", "replicasets", &json!({})),
        "count/replicasets.apps=1"
    );
    assert_eq!(said("", "secrets", &json!({})), "count/secrets=1,secrets=1");
    let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{}, {}]}});
    assert_eq!(
        said("", "services", &service("LoadBalancer")),
        "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2"
    );
    assert_eq!(
        said("", "services", &service("ClusterIP")),
        "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0"
    );
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        said("", "persistentvolumeclaims", &claim),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
    );
}

#[test]
fn scopes_choose_pods() {
    let best_effort = pod(json!({}), json!({}));
    let burstable = pod(json!({"cpu": "1"}), json!({}));
    let mut ending = burstable.clone();
    ending["spec"]["activeDeadlineSeconds"] = json!(60);
    ending["spec"]["priorityClassName"] = json!("high");
    let scopes = |scope: &str| json!({"scopes": [scope]});
    let class = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    for (spec, expected) in [
        (json!({}), [true, true, true]),
        (scopes("BestEffort"), [true, false, false]),
        (scopes("NotBestEffort"), [false, true, true]),
        (scopes("Terminating"), [false, false, true]),
        (scopes("NotTerminating"), [true, true, false]),
        (class("In", json!(["high"])), [false, false, true]),
        (class("NotIn", json!(["high"])), [true, true, false]),
        (class("Exists", json!([])), [false, false, true]),
        (class("DoesNotExist", json!([])), [true, true, false]),
    ] {
        let found = [&best_effort, &burstable, &ending].map(|pod| takes_in(&spec, "", "pods", pod));
        assert_eq!(found, expected, "{spec}");
    }
    assert!(!takes_in(&scopes("BestEffort"), "", "secrets", &json!({})));
}

#[test]
fn a_quota_of_cpu_needs_containers_to_say_theirs() {
    let names = ["cpu", "limits.memory", "pods", "services.nodeports"].map(str::to_owned);
    let missing = |pod: &Value| missing_in_pod(pod, names.iter());
    assert_eq!(
        missing(&pod(json!({"cpu": "1"}), json!({"memory": "1Mi"}))),
        ""
    );
    assert_eq!(
        missing(&pod(json!({}), json!({}))),
        "cpu for: c; limits.memory for: c"
    );
}

#[test]
fn claims_that_grow_use_what_is_allocated() {
    let mut claim = json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}},
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "2Gi"}}},
        "status": {"allocatedResources": {"storage": "3Gi"}}});
    let used = usage("", "persistentvolumeclaims", &claim);
    assert_eq!(used["requests.storage"].to_string(), "3Gi");
    assert_eq!(
        used["old.storageclass.storage.k8s.io/requests.storage"].to_string(),
        "3Gi"
    );
    claim["spec"]["resources"]["requests"]["storage"] = json!("1500m");
    claim["status"] = json!({});
    let used = usage("", "persistentvolumeclaims", &claim);
    assert_eq!(used["requests.storage"].to_string(), "2");
}

#[test]
fn a_scope_chooses_claims_by_the_class_of_their_attributes() {
    let plain = json!({"spec": {}});
    let fast = json!({"spec": {"volumeAttributesClassName": "fast"}});
    let changing = json!({"spec": {"volumeAttributesClassName": "slow"},
        "status": {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "fast"}}});
    let scope = |operator: &str, values: Value| {
        json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "VolumeAttributesClass", "operator": operator, "values": values}]}})
    };
    for (spec, expected) in [
        (scope("Exists", json!([])), [false, true, true]),
        (scope("DoesNotExist", json!([])), [true, false, false]),
        (scope("In", json!(["fast"])), [false, true, true]),
        (scope("NotIn", json!(["fast"])), [true, false, true]),
        (json!({"scopes": ["BestEffort"]}), [false, false, false]),
    ] {
        let found =
            [&plain, &fast, &changing].map(|c| takes_in(&spec, "", "persistentvolumeclaims", c));
        assert_eq!(found, expected, "{spec}");
    }
}
