//! How many pods a second the pure core places: `cargo run --release -p corten-scheduler --example place [nodes] [pods]`.
//! No API server, no queue: only filter, score and account. The cases are those of upstream's scheduler_perf.

use std::sync::Arc;
use std::time::Instant;

use corten_scheduler::core::cluster::Cluster;
use corten_scheduler::core::node::NodeSpec;
use corten_scheduler::core::place::{Options, place};
use corten_scheduler::core::pod::PodInfo;
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new();
    for n in 0..nodes {
        let name = format!("node-{n}");
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("z{}", n % 10)}},
            "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}},
        }))
        .expect("a node");
        cluster.set_node(&name, NodeSpec::read(&node));
    }
    cluster
}

fn pod(n: usize, spec: &Value) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": {"namespace": format!("ns{}", n % 5), "name": format!("pod-{n}"), "uid": format!("uid-{n}"),
            "labels": {"color": "green"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": format!("rs{}", n % 50), "controller": true}]},
        "spec": {"containers": [{"name": "c", "image": "pause", "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    Arc::new(PodInfo::read(
        &serde_json::from_value::<Pod>(pod).expect("a pod"),
    ))
}

fn term(key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"color": "green"}}, "topologyKey": key,
        "namespaceSelector": {}})
}

fn cases() -> Vec<(&'static str, Value)> {
    let zone = "topology.kubernetes.io/zone";
    let host = "kubernetes.io/hostname";
    let spread = |action: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": zone, "whenUnsatisfiable": action,
            "labelSelector": {"matchLabels": {"color": "green"}}}]})
    };
    let in_zones = json!({"matchExpressions": [{"key": zone, "operator": "In", "values": ["z1", "z2", "z3"]}]});
    vec![
        ("basic", json!({})),
        (
            "node affinity",
            json!({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [in_zones]}}}}),
        ),
        (
            "pod affinity",
            json!({"affinity": {"podAffinity": {REQUIRED: [term(zone)]}}}),
        ),
        (
            "pod anti-affinity",
            json!({"affinity": {"podAntiAffinity": {REQUIRED: [term(host)]}}}),
        ),
        (
            "preferred pod affinity",
            json!({"affinity": {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": term(host)}]}}}),
        ),
        ("hard topology spread", spread("DoNotSchedule")),
        ("soft topology spread", spread("ScheduleAnyway")),
    ]
}

#[expect(clippy::print_stdout, reason = "a benchmark's output")]
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn main() {
    let number = |at: usize, default: usize| {
        std::env::args()
            .nth(at)
            .and_then(|arg| arg.parse().ok())
            .unwrap_or(default)
    };
    let (nodes, pods) = (number(1, 5_000), number(2, 10_000));
    for (name, spec) in cases() {
        let mut cluster = cluster(nodes);
        let mut rng = StdRng::seed_from_u64(1);
        let pods: Vec<_> = (0..pods).map(|n| pod(n, &spec)).collect();
        let begin = Instant::now();
        let mut placed = 0;
        for pod in &pods {
            if let Ok(slot) = place(&mut cluster, pod, &Options::default(), &mut rng) {
                let node = cluster.node(slot).name.clone();
                cluster.add_pod(pod, &node);
                placed += 1;
            }
        }
        let took = begin.elapsed();
        let rate = pods.len() as f64 / took.as_secs_f64();
        println!(
            "{name}: {placed} of {} pods placed on {nodes} nodes in {took:.2?}: {rate:.0} pods/s",
            pods.len()
        );
    }
}
