//! Plans of Endpoints.

use corten_client::cache::CacheOptions;
use serde_json::{Value, json};

use super::*;

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "s1"},
        "spec": {"clusterIP": "10.96.0.5", "selector": {"app": "web"},
                 "ports": [{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 443, "targetPort": 8443}]},
    }))
    .expect("service")
}

fn pod(name: &str, port: i32, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"podIP": format!("10.0.0.{}", name.len()), "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
    .expect("pod")
}

fn plan(services: Vec<Service>, pods: Vec<Pod>, endpoints: Vec<Endpoints>) -> Plan {
    let controller = EndpointsController {
        services: Cache::fixed(services, CacheOptions::all()),
        pods: Cache::fixed(pods, CacheOptions::all()),
        endpoints: Cache::fixed(endpoints, CacheOptions::all()),
    };
    controller.plan(
        &controller.view(&ObjectName::new("d", "web")),
        Timestamp::UNIX_EPOCH,
    )
}

fn created(plan: &Plan) -> Value {
    match &plan.actions[..] {
        [Action::Create { object, .. } | Action::Update { object, .. }] => object.clone(),
        other => panic!("{other:?}"),
    }
}

/// Subsets as text: ready addresses, unready addresses, ports.
fn subsets(object: &Value) -> Vec<String> {
    let list = |value: &Value, field: &str| -> String {
        let items = value.as_array().into_iter().flatten();
        items
            .map(|item| item[field].to_string().trim_matches('"').to_owned())
            .collect::<Vec<_>>()
            .join(",")
    };
    let subsets = object["subsets"].as_array().into_iter().flatten();
    subsets
        .map(|s| {
            format!(
                "{} | {} | {}",
                list(&s["addresses"], "ip"),
                list(&s["notReadyAddresses"], "ip"),
                list(&s["ports"], "port")
            )
        })
        .collect()
}

#[test]
fn ready_and_unready_addresses_share_a_subset() {
    let object = created(&plan(
        vec![service()],
        vec![pod("a", 80, true), pod("bb", 80, false)],
        vec![],
    ));
    assert_eq!(subsets(&object), ["10.0.0.1 | 10.0.0.2 | 80,8443"]);
    assert_eq!(object["metadata"]["labels"][MANAGED_BY_LABEL], MANAGED_BY);
}

#[test]
fn ports_that_differ_per_pod_get_subsets_of_their_own() {
    let object = created(&plan(
        vec![service()],
        vec![pod("a", 80, true), pod("bb", 81, true)],
        vec![],
    ));
    assert_eq!(
        subsets(&object),
        [
            "10.0.0.1 |  | 80",
            "10.0.0.1,10.0.0.2 |  | 8443",
            "10.0.0.2 |  | 81"
        ]
    );
}

#[test]
fn a_settled_object_is_not_written_and_goes_with_its_service() {
    let object = created(&plan(vec![service()], vec![pod("a", 80, true)], vec![]));
    let endpoints: Endpoints = serde_json::from_value(object).expect("endpoints");
    assert_eq!(
        plan(
            vec![service()],
            vec![pod("a", 80, true)],
            vec![endpoints.clone()]
        ),
        Plan::nothing()
    );
    assert!(matches!(
        plan(vec![], vec![], vec![endpoints.clone()]).actions[..],
        [Action::Delete { .. }]
    ));
    let mut users = endpoints;
    users.metadata.labels = None;
    assert_eq!(plan(vec![], vec![], vec![users]), Plan::nothing());
}

#[test]
fn more_than_a_thousand_are_cut_and_marked() {
    let service = service();
    let pods = (0..1_100).map(|index| {
        let mut pod = pod("a", 80, index % 2 == 0);
        pod.metadata.name = Some(format!("p{index}"));
        pod
    });
    let object = created(&plan(vec![service], pods.collect(), vec![]));
    assert_eq!(
        object["metadata"]["annotations"][OVER_CAPACITY],
        "truncated"
    );
    let (ready, unready) = (
        &object["subsets"][0]["addresses"],
        &object["subsets"][0]["notReadyAddresses"],
    );
    assert_eq!(
        [ready, unready].map(|list| list.as_array().map_or(0, Vec::len)),
        [550, 450]
    );
}
