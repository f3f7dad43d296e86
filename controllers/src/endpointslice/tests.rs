//! Plans of EndpointSlices: what an endpoint says, how many slices, and that nothing is written without need.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::*;

fn service(extra: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "s1", "labels": {"team": "a"}},
        "spec": {"clusterIP": "10.96.0.5", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        service["spec"][key] = value.clone();
    }
    serde_json::from_value(service).expect("service")
}

fn pod(name: &str, ip: &str, port: i32, ready: bool, deleting: bool) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "hostname": name, "subdomain": "web",
                 "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                   "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    if deleting {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    serde_json::from_value(pod).expect("pod")
}

fn plan(service: Service, pods: Vec<Pod>, slices: Vec<EndpointSlice>) -> Plan {
    let node = serde_json::from_value(
        json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}}}),
    );
    let controller = EndpointSlices {
        services: Cache::fixed([service], CacheOptions::all()),
        pods: Cache::fixed(pods, CacheOptions::all()),
        nodes: Cache::fixed([node.expect("node")], CacheOptions::all()),
        slices: Cache::fixed(slices, CacheOptions::all().index(BY_SERVICE, service_of)),
    };
    let view = controller.view(&ObjectName::new("d", "web"));
    controller.plan(&view, Timestamp::UNIX_EPOCH)
}

/// The slices as the plan leaves them, applied to nothing.
fn written(plan: &Plan) -> Vec<EndpointSlice> {
    let objects = plan.actions.iter().filter_map(|action| match action {
        Action::Create { object, .. } | Action::Update { object, .. } => Some(object.clone()),
        _ => None,
    });
    objects
        .map(|object| serde_json::from_value(object).expect("slice"))
        .collect()
}

#[test]
fn an_endpoint_tells_what_the_pod_is() {
    let slice = written(&plan(
        service(json!({})),
        vec![pod("a", "10.0.0.1", 8080, true, false)],
        vec![],
    ))
    .remove(0);
    let labels = slice.metadata.labels.clone().unwrap_or_default();
    assert_eq!(
        (
            labels[SERVICE_LABEL].as_str(),
            labels[MANAGED_BY_LABEL].as_str(),
            labels["team"].as_str()
        ),
        ("web", MANAGED_BY, "a")
    );
    assert_eq!(
        slice.metadata.owner_references.as_ref().expect("owner")[0].uid,
        "s1"
    );
    let endpoint = serde_json::to_value(&slice.endpoints[0]).expect("json");
    let expected = json!({
        "addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false}, "hostname": "a",
        "nodeName": "n1", "zone": "z", "targetRef": {"kind": "Pod", "namespace": "d", "name": "a", "uid": "a"},
    });
    assert_eq!(endpoint, expected);
    assert_eq!(slice.ports.as_ref().expect("ports")[0].port, Some(8080));
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    for (ready, deleting, publish, expected) in [
        (true, false, false, [true, true, false]),
        (false, false, false, [false, false, false]),
        (true, true, false, [false, true, true]),
        (false, false, true, [true, false, false]),
        (true, true, true, [true, true, true]),
    ] {
        let service = service(json!({"publishNotReadyAddresses": publish}));
        let slice = written(&plan(
            service,
            vec![pod("a", "10.0.0.1", 80, ready, deleting)],
            vec![],
        ))
        .remove(0);
        let found = slice.endpoints[0].conditions.clone().expect("conditions");
        assert_eq!(
            [found.ready, found.serving, found.terminating],
            expected.map(Some),
            "{ready} {deleting} {publish}"
        );
    }
}

#[test]
fn named_ports_may_differ_per_pod() {
    let pods = vec![
        pod("a", "10.0.0.1", 80, true, false),
        pod("b", "10.0.0.2", 81, true, false),
    ];
    let slices = written(&plan(service(json!({})), pods, vec![]));
    let ports: Vec<_> = slices
        .iter()
        .map(|slice| slice.ports.as_ref().expect("ports")[0].port)
        .collect();
    assert_eq!(ports, [Some(80), Some(81)]);
}

#[test]
fn no_pods_make_one_empty_slice_and_a_headless_service_needs_no_ports() {
    let empty = written(&plan(service(json!({})), vec![], vec![]));
    assert_eq!((empty.len(), empty[0].endpoints.len()), (1, 0));
    let headless = service(json!({"clusterIP": "None", "ports": []}));
    let slice = written(&plan(
        headless,
        vec![pod("a", "10.0.0.1", 80, true, false)],
        vec![],
    ))
    .remove(0);
    assert_eq!(
        (slice.endpoints.len(), slice.ports.as_ref().map(Vec::len)),
        (1, Some(0))
    );
    assert!(
        slice
            .metadata
            .labels
            .expect("labels")
            .contains_key(HEADLESS_LABEL)
    );
}

#[test]
fn slices_hold_a_hundred_and_settle() {
    let pods: Vec<Pod> = (0..250)
        .map(|i| pod(&format!("p{i}"), &format!("10.0.1.{i}"), 80, true, false))
        .collect();
    let slices = written(&plan(service(json!({})), pods.clone(), vec![]));
    assert_eq!(
        slices
            .iter()
            .map(|slice| slice.endpoints.len())
            .collect::<Vec<_>>(),
        [100, 100, 50]
    );
    assert_eq!(
        plan(service(json!({})), pods.clone(), slices.clone()),
        Plan::nothing()
    );

    // One pod more goes into the slice with room, one less touches its slice only.
    let mut more = pods.clone();
    more.push(pod("x", "10.0.2.1", 80, true, false));
    assert_eq!(
        plan(service(json!({})), more, slices.clone()).actions.len(),
        1
    );
    assert_eq!(
        plan(service(json!({})), pods[1..].to_vec(), slices)
            .actions
            .len(),
        1
    );
}

#[test]
fn services_without_selector_are_left_alone_and_external_names_cleaned() {
    let slices = written(&plan(service(json!({})), vec![], vec![]));
    assert_eq!(
        plan(service(json!({"selector": {}})), vec![], slices.clone()),
        Plan::nothing()
    );
    let external = plan(service(json!({"type": "ExternalName"})), vec![], slices);
    assert!(
        matches!(external.actions[..], [Action::Delete { .. }]),
        "{external:?}"
    );
}
