//! Addresses and ports of Services: unique, kept, given back.

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::allocators::Known;

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

fn target(name: &str) -> Target {
    Target::of("", "services", "default", name).unwrap()
}

#[tokio::test]
async fn addresses_and_ports_are_unique_even_in_a_rush() {
    let api = TestApi::start().await;
    let creations = (0..40).map(|number| {
        let api = &api;
        async move {
            let object = service(&format!("s{number}"), json!({"type": "NodePort"}));
            api.create("", "services", "default", object).await
        }
    });
    let created = futures::future::join_all(creations).await;
    let ips: HashSet<&str> = created
        .iter()
        .map(|service| service["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let ports: HashSet<u64> = created
        .iter()
        .map(|service| service["spec"]["ports"][0]["nodePort"].as_u64().unwrap())
        .collect();
    assert_eq!((ips.len(), ports.len()), (40, 40));
    assert_eq!(
        created[0]["spec"]["clusterIPs"][0],
        created[0]["spec"]["clusterIP"]
    );
}

#[tokio::test]
async fn what_is_asked_for_is_given_once_and_again_after_release() {
    let api = TestApi::start().await;
    let wanted = json!({"clusterIP": "10.96.0.77"});
    api.create("", "services", "default", service("a", wanted.clone()))
        .await;
    let context = Context::internal();
    let taken = api
        .registry
        .create(&context, &target(""), service("b", wanted.clone()))
        .await
        .unwrap_err();
    assert_eq!(taken.code(), 422);
    assert!(taken.message.contains("already allocated"), "{taken}");
    let outside = api
        .registry
        .create(
            &context,
            &target(""),
            service("b", json!({"clusterIP": "10.1.0.1"})),
        )
        .await;
    assert_eq!(outside.unwrap_err().code(), 422);
    api.registry
        .delete(&context, &target("a"), &DeleteOptions::default())
        .await
        .unwrap();
    api.create("", "services", "default", service("b", wanted))
        .await;
}

#[tokio::test]
async fn a_change_of_type_takes_and_gives_back() {
    let api = TestApi::start().await;
    let created = api
        .create("", "services", "default", service("a", json!({})))
        .await;
    let context = Context::internal();
    let mut exposed = created.clone();
    exposed["spec"]["type"] = "NodePort".into();
    let exposed = api
        .registry
        .update(&context, &target("a"), exposed)
        .await
        .unwrap()
        .into_value();
    let port = exposed["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert_eq!(exposed["spec"]["clusterIP"], created["spec"]["clusterIP"]);
    let key = format!("{}{port}", crate::allocators::PORT_PREFIX);
    assert!(api.store.get(&key).await.unwrap().is_some());
    api.registry
        .delete(&context, &target("a"), &DeleteOptions::default())
        .await
        .unwrap();
    assert!(api.store.get(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn headless_services_get_no_address() {
    let api = TestApi::start().await;
    let created = api
        .create(
            "",
            "services",
            "default",
            service("a", json!({"clusterIP": "None"})),
        )
        .await;
    assert_eq!(created["spec"]["clusterIP"], "None");
    assert_eq!(created["spec"]["clusterIPs"], json!(["None"]));
}

fn range(name: &str, cidr: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"cidrs": [cidr]},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    })
}

#[tokio::test]
async fn an_address_is_an_object_that_names_its_service() {
    let api = TestApi::start().await;
    let wanted = json!({"clusterIP": "10.96.0.77"});
    api.create("", "services", "default", service("a", wanted.clone()))
        .await;
    let address = Target::of("networking.k8s.io", "ipaddresses", "", "10.96.0.77").unwrap();
    let context = Context::internal();
    let held = api.registry.get(&address, None).await.unwrap();
    let held = held.into_value();
    assert_eq!(
        held["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "a"})
    );
    assert_eq!(
        held["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    let options = DeleteOptions::default();
    api.registry
        .delete(&context, &target("a"), &options)
        .await
        .unwrap();
    let gone = api.registry.get(&address, None).await;
    assert_eq!(gone.unwrap_err().code(), 404);
    // Somebody else's claim of an address holds too.
    let theirs = json!({
        "metadata": {"name": "10.96.0.77"},
        "spec": {"parentRef": {"group": "example.org", "resource": "things", "name": "t"}},
    });
    api.create("networking.k8s.io", "ipaddresses", "", theirs)
        .await;
    let taken = api
        .registry
        .create(&context, &target(""), service("b", wanted))
        .await;
    assert_eq!(taken.unwrap_err().code(), 422);
}

#[tokio::test]
async fn ranges_that_are_ready_give_addresses_and_keep_those_that_are_held() {
    let api = TestApi::start().await;
    let wanted = || service("a", json!({"clusterIP": "203.0.113.10"}));
    let context = Context::internal();
    let outside = api.registry.create(&context, &target(""), wanted()).await;
    assert!(
        outside
            .unwrap_err()
            .message
            .contains("the provided network does not match the current range")
    );
    let made = range("more", "203.0.113.0/24");
    api.create("networking.k8s.io", "servicecidrs", "", made)
        .await;
    let ranges = Target::of("networking.k8s.io", "servicecidrs", "", "more").unwrap();
    let known = || Known::of(api.registry.caches(), "10.96.0.0/24".parse().unwrap()).unwrap();
    while !known().contains("203.0.113.10".parse().unwrap()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut held = api.create("", "services", "default", wanted()).await;
    api.registry
        .delete(&context, &ranges, &DeleteOptions::default())
        .await
        .unwrap();
    while known().contains("203.0.113.10".parse().unwrap()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    held["metadata"]["labels"] = json!({"a": "b"});
    let kept = api.registry.update(&context, &target("a"), held).await;
    assert_eq!(
        kept.unwrap().into_value()["spec"]["clusterIP"],
        "203.0.113.10"
    );
}
