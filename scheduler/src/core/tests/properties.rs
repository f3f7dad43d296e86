//! Properties over random clusters: never overcommitted, rules kept, counts true, and preemption does what it says.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::core::context::Context;
use crate::core::groups::{Kind, held_kinds};
use crate::core::place::fits;

#[derive(Clone, Debug)]
enum Step {
    Place {
        cpu: u32,
        memory: u32,
        app: u8,
        rule: u8,
        port: Option<u16>,
        priority: i32,
    },
    Delete(usize),
    Cordon(u8),
    Relabel(u8, u8),
    RemoveNode(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u32..1_500, 0_u32..2_000, 0_u8..3, 0_u8..6, prop::option::of(80_u16..82), 0..3_i32).prop_map(
            |(cpu, memory, app, rule, port, priority)| Step::Place { cpu, memory, app, rule, port, priority }
        ),
        3 => any::<usize>().prop_map(Step::Delete),
        1 => (0_u8..5).prop_map(Step::Cordon),
        1 => (0_u8..5, 0_u8..3).prop_map(|(node, zone)| Step::Relabel(node, zone)),
        1 => (0_u8..5).prop_map(Step::RemoveNode),
    ]
}

fn rules(rule: u8, app: u8) -> String {
    let term = |key: &str| {
        format!(
            r#"{{"labelSelector": {{"matchLabels": {{"app": "{app}"}}}}, "topologyKey": "{key}"}}"#
        )
    };
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    match rule {
        1 => format!(
            r#"{{"affinity": {{"podAntiAffinity": {{"{required}": [{}]}}}}}}"#,
            term("kubernetes.io/hostname")
        ),
        2 => format!(
            r#"{{"affinity": {{"podAffinity": {{"{required}": [{}]}}}}}}"#,
            term("zone")
        ),
        3 => format!(
            r#"{{"topologySpreadConstraints": [{{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {{"matchLabels": {{"app": "{app}"}}}}}}]}}"#
        ),
        _ => "{}".to_owned(),
    }
}

fn node_fields(zone: u8) -> NodeSpec {
    node(
        "",
        &[
            ("cpu", "4"),
            ("memory", "4Gi"),
            ("pods", "6"),
            ("label", &format!("zone={zone}")),
        ],
    )
}

fn check_sums(cluster: &Cluster) {
    for slot in cluster.slots() {
        let node = cluster.node(slot);
        let spec = node.spec.as_ref().expect("it exists");
        let (mut cpu, mut memory, mut ports) = (0, 0, Vec::new());
        for pod in node.pods.values() {
            cpu += pod.requests.cpu_milli;
            memory += pod.requests.memory;
            ports.extend(pod.ports.iter().map(|port| port.port));
        }
        assert_eq!(
            (cpu, memory),
            (node.requested.cpu_milli, node.requested.memory),
            "sums are true"
        );
        assert!(
            cpu <= spec.allocatable.cpu_milli && memory <= spec.allocatable.memory,
            "{} is overcommitted",
            node.name
        );
        assert!(
            node.pods.len() <= spec.pods_limit,
            "{} has too many pods",
            node.name
        );
        let all = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(all, ports.len(), "{} gives a port twice", node.name);
    }
}

/// No two pods on one host where one of them wants to be alone.
fn check_anti_affinity(cluster: &Cluster) {
    for slot in cluster.slots() {
        let pods: Vec<_> = cluster.node(slot).pods.values().collect();
        for pod in &pods {
            for term in &pod.anti_affinity {
                let near = pods.iter().filter(|other| other.uid != pod.uid);
                let hit = near
                    .filter(|other| term.pods.selects(other, &HashMap::new()))
                    .count();
                assert_eq!(hit, 0, "{} is not alone", pod.name);
            }
        }
    }
}

/// Counts kept as pods come and go are those of a scan.
fn check_groups(cluster: &mut Cluster, kinds: &[Kind]) {
    for kind in kinds {
        let Cluster {
            nodes,
            groups,
            namespaces,
            ..
        } = cluster;
        let kept = groups.count(kind, nodes, namespaces).0.to_vec();
        let fresh = super::super::groups::Groups::default()
            .count(kind, nodes, namespaces)
            .0
            .to_vec();
        assert_eq!(kept, fresh, "{kind:?}");
    }
    let mut expected: HashMap<Kind, u32> = HashMap::new();
    for pod in cluster.nodes.iter().flat_map(|node| node.pods.values()) {
        for kind in held_kinds(pod) {
            *expected.entry(kind).or_default() += 1;
        }
    }
    let held: HashMap<Kind, u32> = cluster
        .groups
        .held()
        .map(|(kind, per_node)| (kind.clone(), per_node.iter().sum()))
        .collect();
    assert_eq!(held, expected);
}

fn kinds_of(pod: &PodInfo) -> Vec<Kind> {
    let terms = pod.affinity.iter().chain(&pod.anti_affinity);
    let selected = terms.map(|term| Kind::Selected(vec![term.pods.clone()]));
    let siblings = pod
        .spread_hard
        .iter()
        .map(|spread| Kind::Siblings(spread.siblings.clone()));
    selected.chain(siblings).collect()
}

fn play(steps: Vec<Step>, seed: u64) {
    let mut cluster = Cluster::new();
    for n in 0..5 {
        cluster.set_node(&format!("n{n}"), node_fields(n % 3));
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut placed, mut kinds) = (Vec::new(), Vec::new());
    for (turn, step) in steps.into_iter().enumerate() {
        match step {
            Step::Place {
                cpu,
                memory,
                app,
                rule,
                port,
                priority,
            } => {
                let (cpu, memory) = (format!("{cpu}m"), format!("{memory}Mi"));
                let (label, port) = (format!("app={app}"), port.map(|port| port.to_string()));
                let (rules, priority) = (rules(rule, app), priority.to_string());
                let mut fields = vec![
                    ("cpu", cpu.as_str()),
                    ("memory", &memory),
                    ("label", &label),
                ];
                fields.extend(port.as_deref().map(|port| ("host-port", port)));
                fields.extend([("priority", priority.as_str()), ("spec", rules.as_str())]);
                let (pod, _) = pod(&format!("p{turn}"), &fields);
                kinds.extend(kinds_of(&pod));
                attempt(&mut cluster, &pod, &mut rng, &mut placed);
            }
            Step::Delete(at) if !placed.is_empty() => {
                let uid: String = placed.swap_remove(at % placed.len());
                assert!(cluster.remove_pod(&uid).is_some());
            }
            Step::Delete(_) => {}
            Step::Cordon(n) => {
                let mut spec = node_fields(n % 3);
                spec.unschedulable = true;
                cluster.set_node(&format!("n{n}"), spec);
            }
            Step::Relabel(n, zone) => {
                cluster.set_node(&format!("n{n}"), node_fields(zone));
            }
            Step::RemoveNode(n) => cluster.remove_node(&format!("n{n}")),
        }
        check_sums(&cluster);
        check_anti_affinity(&cluster);
    }
    check_groups(&mut cluster, &kinds);
}

fn attempt(cluster: &mut Cluster, pod: &Arc<PodInfo>, rng: &mut StdRng, placed: &mut Vec<String>) {
    match place(cluster, pod, &Options::default(), rng) {
        Ok(slot) => {
            let node = cluster.node(slot).name.clone();
            cluster.add_pod(pod, &node);
            placed.push(pod.uid.clone());
        }
        Err(no_fit) => {
            let Ok(preemption) = preempt(cluster, pod, &no_fit, &[], 0) else {
                return;
            };
            assert!(
                preemption
                    .victims
                    .iter()
                    .all(|victim| victim.priority < pod.priority)
            );
            for victim in &preemption.victims {
                assert!(
                    cluster.remove_pod(&victim.uid).is_some(),
                    "victims are there"
                );
                placed.retain(|uid| *uid != victim.uid);
            }
            let context = Context::build(cluster, pod);
            let slot = cluster.slot(&preemption.node).expect("it exists");
            assert!(
                fits(cluster, pod, &context, slot),
                "with the victims gone it fits"
            );
            // Each victim was needed.
            for victim in &preemption.victims {
                cluster.add_pod(victim, &preemption.node);
                let context = Context::build(cluster, pod);
                assert!(
                    !fits(cluster, pod, &context, slot),
                    "{} need not have gone",
                    victim.name
                );
                cluster.remove_pod(&victim.uid);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn never_overcommits_and_keeps_rules(steps in prop::collection::vec(step(), 1..60), seed in any::<u64>()) {
        play(steps, seed);
    }
}
