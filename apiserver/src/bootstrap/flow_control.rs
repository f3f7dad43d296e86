//! The default FlowSchemas and PriorityLevelConfigurations, as data.
//!
//! The mandatory ones come from the kinds themselves; the suggested ones share the server out between nodes, leaders, the
//! control plane, service accounts and everybody else, by the names and numbers that people expect. Reconciling them is the
//! parent's job. Invariant: every schema leads to a level of this file or to a mandatory one, which a test shows.

use corten_api::kinds::flowcontrol::mandatory;
use serde_json::{Value, json};

/// A level that queues: name, shares of the server, percent that others may borrow, queues, queues of one flow.
struct Level {
    name: &'static str,
    shares: u32,
    lendable: u32,
    queues: u32,
    hand: u32,
}

/// Requests that may wait in each queue.
const QUEUE_LENGTH: u32 = 50;

const fn level(name: &'static str, shares: u32, lendable: u32, queues: u32, hand: u32) -> Level {
    Level {
        name,
        shares,
        lendable,
        queues,
        hand,
    }
}

const LEVELS: &[Level] = &[
    level("system", 30, 33, 64, 6),
    level("node-high", 40, 25, 64, 6),
    level("leader-election", 10, 0, 16, 4),
    level("workload-high", 40, 50, 128, 6),
    level("workload-low", 100, 90, 128, 6),
    level("global-default", 20, 50, 128, 6),
];

/// A schema: precedence, name and level, what tells its flows apart, whom it is for (`User x`, `Group x` or
/// `ServiceAccount namespace/name`), and which of their requests.
struct Schema {
    precedence: u32,
    name: &'static str,
    level: &'static str,
    flows: Option<&'static str>,
    subjects: &'static [&'static str],
    requests: &'static [Requests],
}

enum Requests {
    /// Verbs, group, resources, and whether those outside of namespaces too.
    Resources(
        &'static [&'static str],
        &'static str,
        &'static [&'static str],
        bool,
    ),
    /// Verbs and paths.
    Paths(&'static [&'static str], &'static [&'static str]),
}

use Requests::{Paths, Resources};

const ANY: &[&str] = &["*"];
const ALL: &[Requests] = &[Resources(ANY, "*", ANY, true), Paths(ANY, ANY)];
const EVERYBODY: &[&str] = &["Group system:unauthenticated", "Group system:authenticated"];
const BY_USER: Option<&str> = Some("ByUser");
const BY_NAMESPACE: Option<&str> = Some("ByNamespace");
const CONTROLLERS: &str = "User system:kube-controller-manager";
const SCHEDULER: &str = "User system:kube-scheduler";
const SYSTEM_ACCOUNTS: &str = "ServiceAccount kube-system/*";
const NODES: &[&str] = &["Group system:nodes"];
const LEASES: (&str, &[&str]) = ("coordination.k8s.io", &["leases"]);

const fn schema(
    precedence: u32,
    name: &'static str,
    level: &'static str,
    flows: Option<&'static str>,
    subjects: &'static [&'static str],
    requests: &'static [Requests],
) -> Schema {
    Schema {
        precedence,
        name,
        level,
        flows,
        subjects,
        requests,
    }
}

const SCHEMAS: &[Schema] = &[
    schema(
        2,
        "probes",
        mandatory::EXEMPT,
        None,
        EVERYBODY,
        &[Paths(&["get"], &["/healthz", "/readyz", "/livez"])],
    ),
    schema(
        100,
        "system-leader-election",
        "leader-election",
        BY_USER,
        &[CONTROLLERS, SCHEDULER, SYSTEM_ACCOUNTS],
        &[Resources(
            &["get", "create", "update"],
            LEASES.0,
            LEASES.1,
            false,
        )],
    ),
    schema(
        400,
        "system-node-high",
        "node-high",
        BY_USER,
        NODES,
        &[
            Resources(ANY, "", &["nodes", "nodes/status"], true),
            Resources(ANY, LEASES.0, LEASES.1, false),
        ],
    ),
    schema(500, "system-nodes", "system", BY_USER, NODES, ALL),
    schema(
        800,
        "kube-controller-manager",
        "workload-high",
        BY_NAMESPACE,
        &[CONTROLLERS],
        ALL,
    ),
    schema(
        800,
        "kube-scheduler",
        "workload-high",
        BY_NAMESPACE,
        &[SCHEDULER],
        ALL,
    ),
    schema(
        900,
        "kube-system-service-accounts",
        "workload-high",
        BY_NAMESPACE,
        &[SYSTEM_ACCOUNTS],
        ALL,
    ),
    schema(
        9000,
        "service-accounts",
        "workload-low",
        BY_USER,
        &["Group system:serviceaccounts"],
        ALL,
    ),
    schema(
        9900,
        "global-default",
        "global-default",
        BY_USER,
        EVERYBODY,
        ALL,
    ),
];

/// Every default level.
pub(super) fn levels() -> impl Iterator<Item = Value> {
    let suggested = LEVELS.iter().map(level_object);
    mandatory::levels().iter().cloned().chain(suggested)
}

/// Every default schema.
pub(super) fn schemas() -> impl Iterator<Item = Value> {
    let suggested = SCHEMAS.iter().map(schema_object);
    mandatory::schemas().iter().cloned().chain(suggested)
}

fn level_object(level: &Level) -> Value {
    let queuing = json!({
        "queues": level.queues, "handSize": level.hand, "queueLengthLimit": QUEUE_LENGTH,
    });
    let spec = json!({
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": level.shares,
            "limitResponse": {"type": "Queue", "queuing": queuing},
            "lendablePercent": level.lendable,
        },
    });
    mandatory::level_object(level.name, spec)
}

fn schema_object(schema: &Schema) -> Value {
    let subjects: Vec<Value> = schema.subjects.iter().map(|text| subject(text)).collect();
    let mut rule = json!({"subjects": subjects});
    for requests in schema.requests {
        let (field, value) = match requests {
            Resources(verbs, group, resources, cluster) => {
                let mut value =
                    json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
                if *cluster {
                    value["clusterScope"] = true.into();
                }
                value["namespaces"] = json!(ANY);
                ("resourceRules", value)
            }
            Paths(verbs, paths) => (
                "nonResourceRules",
                json!({"verbs": verbs, "nonResourceURLs": paths}),
            ),
        };
        match rule[field].as_array_mut() {
            Some(rules) => rules.push(value),
            None => rule[field] = json!([value]),
        }
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": schema.level},
        "matchingPrecedence": schema.precedence,
    });
    if let Some(method) = schema.flows {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    spec["rules"] = json!([rule]);
    mandatory::schema_object(schema.name, spec)
}

fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(' ').unwrap_or(("User", text));
    match (kind, name.split_once('/')) {
        ("ServiceAccount", Some((namespace, name))) => {
            json!({"kind": kind, "serviceAccount": {"namespace": namespace, "name": name}})
        }
        ("Group", _) => json!({"kind": kind, "group": {"name": name}}),
        _ => json!({"kind": "User", "user": {"name": name}}),
    }
}

#[cfg(test)]
mod tests {
    use corten_api::kinds::registry;

    use super::*;

    #[test]
    fn every_object_is_good_and_whole() {
        for object in levels().chain(schemas()) {
            let name = object["metadata"]["name"].clone();
            let version = object["apiVersion"].as_str().expect("a version");
            let kind = object["kind"].as_str().expect("a kind");
            let descriptor = registry().type_meta(version, kind).expect("registered");
            let mut made = object.clone();
            descriptor.strategy.default(&mut made);
            descriptor.strategy.prepare_for_create(&mut made);
            assert_eq!(descriptor.strategy.validate_create(&made), [], "{name}");
            assert_eq!(made["spec"], object["spec"], "{name}: defaults change it");
        }
    }

    #[test]
    fn every_schema_has_its_level() {
        let names: Vec<Value> = levels()
            .map(|level| level["metadata"]["name"].clone())
            .collect();
        for schema in schemas() {
            let level = &schema["spec"]["priorityLevelConfiguration"]["name"];
            assert!(names.contains(level), "{schema}");
        }
    }
}
