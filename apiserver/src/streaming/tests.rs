//! Tables of pods and queries, and where they lead on the node agent.

mod agent;

use corten_api::status::Status;
use serde_json::{Value, json};

use crate::streaming::agent::endpoint;
use crate::streaming::location::Location;

fn pod(containers: &[&str]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    json!({
        "metadata": {"namespace": "ns", "name": "p"},
        "spec": {"containers": containers, "initContainers": [{"name": "setup"}]},
        "status": {"phase": "Running"},
    })
}

fn uri(subresource: &str, pod: &Value, query: &str) -> Result<String, Status> {
    Location::resolve(subresource, pod, query)
        .map(|location| location.uri().expect("a uri").to_string())
}

#[test]
fn paths_and_parameters() {
    let one = pod(&["main"]);
    let rows = [
        ("log", "", "/containerLogs/ns/p/main"),
        (
            "log",
            "follow=true&tailLines=5&timestamps=true&previous=false",
            "/containerLogs/ns/p/main?follow=true&timestamps=true&tailLines=5",
        ),
        (
            "log",
            "container=setup&limitBytes=10&sinceSeconds=3",
            "/containerLogs/ns/p/setup?limitBytes=10&sinceSeconds=3",
        ),
        (
            "exec",
            "command=sh&command=-c&command=echo+a%26b&stdin=true&stdout=true&stderr=true",
            "/exec/ns/p/main?input=1&output=1&error=1&command=sh&command=-c&command=echo%20a%26b",
        ),
        (
            "exec",
            "command=sh&stdin=1&stdout=1&stderr=1&tty=1",
            "/exec/ns/p/main?input=1&output=1&tty=1&command=sh",
        ),
        (
            "attach",
            "container=main&stdout=true",
            "/attach/ns/p/main?output=1",
        ),
        (
            "portforward",
            "ports=80,81&ports=90",
            "/portForward/ns/p?port=80&port=81&port=90",
        ),
        ("portforward", "", "/portForward/ns/p"),
    ];
    for (subresource, query, expected) in rows {
        assert_eq!(uri(subresource, &one, query).expect(query), expected);
    }
}

#[test]
fn refusals() {
    let two = pod(&["a", "b"]);
    let one = pod(&["a"]);
    let mut done = pod(&["a"]);
    done["status"]["phase"] = "Succeeded".into();
    let rows = [
        (
            "log",
            &two,
            "",
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [setup]",
        ),
        (
            "log",
            &two,
            "container=x",
            "container x is not valid for pod p",
        ),
        (
            "exec",
            &one,
            "stdout=1",
            "you must specify a command for the container",
        ),
        (
            "exec",
            &one,
            "command=sh&tty=1",
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            "exec",
            &done,
            "command=sh&stdout=1",
            "cannot exec into a container in a completed pod; current phase is Succeeded",
        ),
        (
            "portforward",
            &one,
            "ports=0",
            "unable to parse \"0\" as a port",
        ),
    ];
    for (subresource, pod, query, expected) in rows {
        let status = uri(subresource, pod, query).expect_err(query);
        assert_eq!(
            (status.message.as_str(), status.code()),
            (expected, 400),
            "{query}"
        );
    }
    for query in [
        "tailLines=-1",
        "limitBytes=0",
        "sinceSeconds=0",
        "sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z",
    ] {
        assert_eq!(
            uri("log", &one, query).expect_err(query).code(),
            422,
            "{query}"
        );
    }
}

#[test]
fn where_an_agent_listens() {
    let node = |addresses: Value, port: Value| json!({"status": {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let both = json!([{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}]);
    assert_eq!(
        endpoint(&node(both, json!(1234))),
        Some(("10.0.0.1".to_owned(), 1234))
    );
    let name_only = json!([{"type": "Hostname", "address": "n1"}]);
    assert_eq!(
        endpoint(&node(name_only, Value::Null)),
        Some(("n1".to_owned(), 10250))
    );
    assert_eq!(endpoint(&json!({})), None);
}
