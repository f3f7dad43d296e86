//! Scenarios as text (`tests/scenarios`), one test per file, and properties over random clusters.
//!
//! A scenario is a list of lines:
//! `node NAME cpu=4 memory=8Gi pods=10 label=k=v taint=k=v:Effect cordoned foo.io/gpu=2`
//! `pod NAME cpu=1 memory=1Gi priority=5 label=k=v owner=uid host-port=80 on=NODE spec={json}`
//! `namespace NAME label=k=v`, `budget NAME allowed=0 label=k=v`, `delete POD`, `remove NODE`
//! `place POD -> NODE|NODE`, `place POD -> none: TEXT...`, `preempt POD -> NODE: VICTIM VICTIM`, `preempt POD -> none: TEXT...`

mod nomination;
mod properties;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::disruption::Budget;
use super::node::NodeSpec;
use super::place::{Options, place};
use super::pod::PodInfo;
use super::preempt::preempt;

/// A line's words behind the verb and the name: `key=value`, where a JSON value may hold spaces and ends the line.
fn fields(rest: &str) -> Vec<(&str, &str)> {
    let (plain, json) = match rest.split_once("spec={") {
        Some((plain, _)) => (plain, Some(&rest[plain.len() + "spec=".len()..])),
        None => (rest, None),
    };
    let mut fields: Vec<_> = plain
        .split_whitespace()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .collect();
    fields.extend(json.map(|json| ("spec", json)));
    fields
}

pub(super) fn node(name: &str, fields: &[(&str, &str)]) -> NodeSpec {
    let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"taints": []},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
    for (key, value) in fields {
        match *key {
            "label" => {
                let (key, value) = value.split_once('=').expect("k=v");
                node["metadata"]["labels"][key] = json!(value);
            }
            "taint" => {
                let (taint, effect) = value.rsplit_once(':').expect("k=v:Effect");
                let (key, value) = taint.split_once('=').unwrap_or((taint, ""));
                let taint = json!({"key": key, "value": value, "effect": effect});
                node["spec"]["taints"]
                    .as_array_mut()
                    .expect("array")
                    .push(taint);
            }
            "cordoned" => node["spec"]["unschedulable"] = json!(true),
            "image" => {
                let (name, size) = value.rsplit_once('@').expect("name@size");
                let size: i64 = size.parse().expect("bytes");
                node["status"]["images"] = json!([{"names": [name], "sizeBytes": size}]);
            }
            resource => node["status"]["allocatable"][resource] = json!(value),
        }
    }
    NodeSpec::read(&serde_json::from_value::<Node>(node).expect("node"))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// A pod, and the node that it is on already.
pub(super) fn pod(name: &str, fields: &[(&str, &str)]) -> (Arc<PodInfo>, Option<String>) {
    let mut pod = json!({"metadata": {"namespace": "default", "name": name, "uid": name, "labels": {}},
        "spec": {"containers": [{"name": "main", "image": "img", "resources": {"requests": {}}, "ports": []}]}});
    let mut on = None;
    for (key, value) in fields {
        match *key {
            "label" => {
                let (key, value) = value.split_once('=').expect("k=v");
                pod["metadata"]["labels"][key] = json!(value);
            }
            "namespace" => pod["metadata"]["namespace"] = json!(value),
            "priority" => pod["spec"]["priority"] = json!(value.parse::<i32>().expect("number")),
            "image" => pod["spec"]["containers"][0]["image"] = json!(value),
            "owner" => {
                let owner = json!({"apiVersion": "v1", "kind": "ReplicaSet", "name": value, "uid": value, "controller": true});
                pod["metadata"]["ownerReferences"] = json!([owner]);
            }
            "host-port" => {
                let port =
                    json!({"containerPort": 1, "hostPort": value.parse::<i32>().expect("port")});
                pod["spec"]["containers"][0]["ports"] = json!([port]);
            }
            "spec" => merge(&mut pod["spec"], serde_json::from_str(value).expect("JSON")),
            "on" => on = Some((*value).to_owned()),
            "terminating" => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            "nominated" => pod["status"]["nominatedNodeName"] = json!(value),
            "started" => pod["status"]["startTime"] = json!(format!("2026-01-01T00:00:{value}Z")),
            resource => {
                pod["spec"]["containers"][0]["resources"]["requests"][resource] = json!(value)
            }
        }
    }
    (
        Arc::new(PodInfo::read(
            &serde_json::from_value::<Pod>(pod).expect("pod"),
        )),
        on,
    )
}

fn budget(name: &str, fields: &[(&str, &str)]) -> Budget {
    let mut budget = json!({"metadata": {"namespace": "default", "name": name},
        "spec": {"selector": {"matchLabels": {}}}, "status": {"disruptionsAllowed": 0}});
    for (key, value) in fields {
        match *key {
            "allowed" => {
                budget["status"]["disruptionsAllowed"] =
                    json!(value.parse::<i32>().expect("number"))
            }
            "label" => {
                let (key, value) = value.split_once('=').expect("k=v");
                budget["spec"]["selector"]["matchLabels"][key] = json!(value);
            }
            other => panic!("budget has no {other}"),
        }
    }
    for field in ["currentHealthy", "desiredHealthy", "expectedPods"] {
        budget["status"][field] = json!(0);
    }
    Budget::read(&serde_json::from_value::<PodDisruptionBudget>(budget).expect("budget"))
}

struct Scenario {
    cluster: Cluster,
    pods: HashMap<String, Arc<PodInfo>>,
    budgets: Vec<Budget>,
    rng: StdRng,
}

impl Scenario {
    fn line(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (verb, name, rest) = (
            words.next().unwrap_or(""),
            words.next().unwrap_or(""),
            words.next().unwrap_or(""),
        );
        match verb {
            "node" => {
                self.cluster.set_node(name, node(name, &fields(rest)));
            }
            "pod" => {
                let (pod, on) = pod(name, &fields(rest));
                if let Some(on) = on {
                    self.cluster.add_pod(&pod, &on);
                } else if let Some(node) = &pod.nominated {
                    self.cluster.nominate(&pod, node);
                }
                self.pods.insert(name.to_owned(), pod);
            }
            "namespace" => {
                let labels = fields(rest).into_iter().map(|(_, label)| {
                    let (key, value) = label.split_once('=').expect("k=v");
                    (key.to_owned(), value.to_owned())
                });
                self.cluster.set_namespace(name, Some(labels.collect()));
            }
            "budget" => self.budgets.push(budget(name, &fields(rest))),
            "delete" => drop(self.cluster.remove_pod(name)),
            "remove" => self.cluster.remove_node(name),
            "place" => self.place(name, rest.trim_start_matches("-> ")),
            "preempt" => self.preempt(name, rest.trim_start_matches("-> ")),
            other => panic!("unknown verb {other}"),
        }
    }

    fn place(&mut self, name: &str, expected: &str) {
        let pod = Arc::clone(&self.pods[name]);
        match place(&mut self.cluster, &pod, &Options::default(), &mut self.rng) {
            Ok(slot) => {
                let node = self.cluster.node(slot).name.clone();
                assert!(
                    expected.split('|').any(|allowed| allowed == node),
                    "{name} went to {node}, not {expected}"
                );
                self.cluster.add_pod(&pod, &node);
            }
            Err(no_fit) => {
                let message = format!("none: {}", no_fit.message(&self.cluster, None));
                assert!(
                    message.starts_with(expected),
                    "{name}: {message}\nexpected {expected}"
                );
            }
        }
    }

    fn preempt(&mut self, name: &str, expected: &str) {
        let pod = Arc::clone(&self.pods[name]);
        let no_fit = place(&mut self.cluster, &pod, &Options::default(), &mut self.rng)
            .expect_err("it fits");
        let budgets: Vec<&Budget> = self.budgets.iter().collect();
        let outcome = match preempt(&mut self.cluster, &pod, &no_fit, &budgets, 0) {
            Ok(preemption) => {
                let victims: Vec<&str> = preemption
                    .victims
                    .iter()
                    .map(|victim| victim.name.as_str())
                    .collect();
                format!("{}: {}", preemption.node, victims.join(" "))
            }
            Err(why) => format!("none: {why}"),
        };
        assert_eq!(outcome, expected, "{name}");
    }
}

fn run(text: &str) {
    let mut scenario = Scenario {
        cluster: Cluster::new(),
        pods: HashMap::new(),
        budgets: Vec::new(),
        rng: StdRng::seed_from_u64(7),
    };
    for line in text.lines().map(str::trim) {
        if line == "reset" {
            return run(text.split_once("\nreset\n").map_or("", |(_, rest)| rest));
        }
        if !line.is_empty() && !line.starts_with('#') {
            scenario.line(line);
        }
    }
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            run(include_str!(concat!("../../tests/scenarios/", stringify!($name), ".txt")));
        }
    )*};
}

scenarios!(
    resources,
    node_rules,
    ports,
    pod_affinity,
    spread,
    scores,
    preemption,
    nominated
);
