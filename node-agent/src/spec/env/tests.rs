//! Every source, expansion, and what is said about what is missing.

use serde_json::json;

use super::*;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app.io/x": "y"}},
        "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [
            {"name": "c", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]},
    }))
    .expect("a pod")
}

fn env_of(
    env: serde_json::Value,
    from: serde_json::Value,
) -> Result<Vec<(String, String)>, SpecError> {
    let mut container = pod().spec.expect("a spec").containers.remove(0);
    container.env = serde_json::from_value(env).expect("env");
    container.env_from = serde_json::from_value(from).expect("envFrom");
    let map: ConfigMap =
        serde_json::from_value(json!({"data": {"one": "1", "b=d": "x"}})).expect("a map");
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "my-db", "namespace": "shop"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]},
    }))
    .expect("a service");
    let sources = EnvSources {
        config_maps: [("m".to_owned(), Arc::new(map))].into(),
        secrets: BTreeMap::new(),
        services: vec![Arc::new(service)],
    };
    let facts = PodFacts {
        node_name: "n1".to_owned(),
        host_ips: vec!["192.0.2.1".parse().expect("an address")],
        pod_ips: vec!["10.1.1.1".parse().expect("an address")],
        allocatable: [("cpu".to_owned(), 2000)].into(),
    };
    resolve(&pod(), &container, &sources, &facts)
}

#[test]
fn sources_and_expansion() {
    let env = env_of(
        json!([
            {"name": "A", "value": "a"}, {"name": "B", "value": "$(A)-$(P_one)-$(MY_DB_SERVICE_HOST)-$(C)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.io/x']"}}},
            {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "C1", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
            {"name": "C2", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": true}}},
        ]),
        json!([{"prefix": "P_", "configMapRef": {"name": "m"}}]),
    )
    .expect("resolves");
    let explicit: Vec<_> = env
        .iter()
        .filter(|(name, _)| !name.starts_with("MY_DB"))
        .cloned()
        .collect();
    let wanted = [
        ("P_one", "1"),
        ("A", "a"),
        ("B", "a-1-10.0.0.1-$(C)"),
        ("IP", "10.1.1.1"),
        ("L", "y"),
        ("M", "64"),
        ("C1", "1"),
        ("C2", "2000"),
    ];
    assert_eq!(explicit, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())));
    let names: Vec<_> = env
        .iter()
        .filter(|(n, _)| n.starts_with("MY_DB"))
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(
        names,
        [
            "MY_DB_PORT=tcp://10.0.0.1:5432",
            "MY_DB_PORT_5432_TCP=tcp://10.0.0.1:5432",
            "MY_DB_PORT_5432_TCP_ADDR=10.0.0.1",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_SERVICE_HOST=10.0.0.1",
            "MY_DB_SERVICE_PORT=5432",
            "MY_DB_SERVICE_PORT_SQL=5432",
        ]
    );
}

#[test]
fn missing_objects_and_keys() {
    let of = |reference| {
        env_of(
            json!([{"name": "X", "valueFrom": {"configMapKeyRef": reference}}]),
            json!([]),
        )
        .expect_err("must fail")
        .to_string()
    };
    assert_eq!(
        of(json!({"name": "no", "key": "k"})),
        "configmap \"no\" not found"
    );
    assert_eq!(
        of(json!({"name": "m", "key": "k"})),
        "couldn't find key k in ConfigMap shop/m"
    );
}
