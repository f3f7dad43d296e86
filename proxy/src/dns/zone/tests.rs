//! The names of the DNS specification, each kind of Service, over fixed caches.

use corten_client::cache::CacheOptions;
use serde_json::json;

use super::*;
use crate::sync::service_of;

fn zone() -> Zone {
    let service = |name: &str, spec: serde_json::Value| -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}),
        )
        .expect("service")
    };
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let services = [
        service("web", json!({"clusterIP": "10.96.0.7", "ports": ports})),
        service(
            "db",
            json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}),
        ),
        service(
            "out",
            json!({"type": "ExternalName", "externalName": "example.org"}),
        ),
        service("idle", json!({"clusterIP": "None"})),
    ];
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 15432}],
        "endpoints": [
            {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.1.6"], "conditions": {"ready": true}},
            {"addresses": ["10.244.1.7"], "conditions": {"ready": false}},
        ],
    }))
    .expect("slice");
    Zone {
        domain: Name::from_ascii("cluster.local.").expect("domain"),
        services: Cache::fixed(
            services,
            CacheOptions::all().index(BY_CLUSTER_IP, cluster_ip_of),
        ),
        slices: Cache::fixed(
            [slice],
            CacheOptions::all()
                .index(BY_SERVICE, service_of)
                .index(BY_ADDRESS, addresses_of),
        ),
        reverse: vec![
            "10.96.0.0/16".parse().expect("net"),
            "10.244.0.0/16".parse().expect("net"),
        ],
    }
}

/// The answer as text, so that tables stay readable.
fn ask(name: &str, kind: RecordType) -> String {
    ask_of(&zone(), name, kind)
}

fn ask_of(zone: &Zone, name: &str, kind: RecordType) -> String {
    match zone.lookup(&Name::from_ascii(name).expect("name"), kind) {
        Answer::NotReady => "not ready".to_owned(),
        Answer::Alias { record, .. } => record.data.to_string(),
        Answer::NxDomain => "nxdomain".to_owned(),
        Answer::NotOurs => "not ours".to_owned(),
        Answer::Records(records) => records
            .iter()
            .map(|r| r.data.to_string())
            .collect::<Vec<_>>()
            .join(" | "),
    }
}

#[test]
fn names_of_the_specification() {
    use RecordType::{A, AAAA, PTR, SRV};
    for (name, kind, expected) in [
        ("web.default.svc.cluster.local.", A, "10.96.0.7"),
        ("WEB.Default.svc.cluster.local.", A, "10.96.0.7"),
        ("web.default.svc.cluster.local.", AAAA, ""),
        ("nope.default.svc.cluster.local.", A, "nxdomain"),
        ("web.other.svc.cluster.local.", A, "nxdomain"),
        (
            "db.default.svc.cluster.local.",
            A,
            "10.244.0.5 | 10.244.1.6",
        ),
        ("db-0.db.default.svc.cluster.local.", A, "10.244.0.5"),
        ("10-244-1-6.db.default.svc.cluster.local.", A, "10.244.1.6"),
        ("idle.default.svc.cluster.local.", A, "nxdomain"),
        ("out.default.svc.cluster.local.", A, "example.org."),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            SRV,
            "0 100 80 web.default.svc.cluster.local.",
        ),
        (
            "_sql._tcp.db.default.svc.cluster.local.",
            SRV,
            "0 100 15432 db-0.db.default.svc.cluster.local. | 0 100 15432 10-244-1-6.db.default.svc.cluster.local.",
        ),
        ("_http._udp.web.default.svc.cluster.local.", SRV, "nxdomain"),
        ("10-244-3-4.default.pod.cluster.local.", A, "10.244.3.4"),
        ("x.default.pod.cluster.local.", A, "nxdomain"),
        (
            "7.0.96.10.in-addr.arpa.",
            PTR,
            "web.default.svc.cluster.local.",
        ),
        (
            "5.0.244.10.in-addr.arpa.",
            PTR,
            "db-0.db.default.svc.cluster.local.",
        ),
        ("1.1.168.192.in-addr.arpa.", PTR, "not ours"),
        ("example.org.", A, "not ours"),
        ("svc.cluster.local.", A, ""),
        ("default.svc.cluster.local.", A, ""),
    ] {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
}

/// A client of an API server that is not there.
fn client(dir: &std::path::Path) -> corten_client::Client {
    use corten_base::pki::{Authority, CertRequest};
    let file = |name: &str| Some(dir.join(name));
    let authority = Authority::create("test").expect("authority");
    authority.write(dir, "ca").expect("files");
    authority
        .issue_to_files(
            &CertRequest::default(),
            &dir.join("c.crt"),
            &dir.join("c.key"),
        )
        .expect("certificate");
    let config = corten_client::ClientConfig {
        servers: vec!["https://127.0.0.1:1".to_owned()],
        ca: file("ca.crt"),
        cert: file("c.crt"),
        key: file("c.key"),
    };
    corten_client::Client::connect(&config).expect("a client")
}

#[tokio::test]
async fn nothing_is_denied_before_the_caches_are_filled() {
    let dir = tempfile::tempdir().expect("temp dir");
    let client = client(dir.path());
    let shutdown = corten_base::shutdown::Shutdown::new();
    let mut waiting = zone();
    waiting.slices = Cache::start(
        &client,
        CacheOptions::all()
            .index(BY_SERVICE, service_of)
            .index(BY_ADDRESS, addresses_of),
        &shutdown,
    );
    for (name, kind, expected) in [
        (
            "nope.default.svc.cluster.local.",
            RecordType::A,
            "not ready",
        ),
        ("default.svc.cluster.local.", RecordType::A, "not ready"),
        ("9.0.244.10.in-addr.arpa.", RecordType::PTR, "not ready"),
        ("1.1.168.192.in-addr.arpa.", RecordType::PTR, "not ours"),
        ("svc.cluster.local.", RecordType::A, ""),
        ("example.org.", RecordType::A, "not ours"),
    ] {
        assert_eq!(ask_of(&waiting, name, kind), expected, "{name}");
    }
    shutdown.trigger();
}
