//! The pods of a DaemonSet: how they are made for a node, which node one is for, of which template it is. Pure.

use corten_client::object::controller_reference;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use super::placement::NAME_FIELD;
use crate::pods;

/// Holds the hash of the template, on pods and on revisions.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";
/// Holds the generation of the template, for what was written before there were revisions.
const GENERATION_LABEL: &str = "pod-template-generation";
/// The generation of the template, which the API server counts.
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// Taints that every daemon tolerates, with their effects: it is part of what makes a node well again.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// Tolerated by daemons on the node's own network, which need no other.
const TOLERATED_ON_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The template's tolerations and those of every daemon.
pub(super) fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let on_host = spec.host_network == Some(true);
    let added = TOLERATED
        .iter()
        .chain(on_host.then_some(&TOLERATED_ON_HOST));
    for (key, effect) in added {
        let wanted = Toleration {
            key: Some((*key).to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some((*effect).to_owned()),
            ..Toleration::default()
        };
        // One that says the same for a while only becomes endless.
        let same = |other: &&mut Toleration| {
            (&other.key, &other.operator, &other.effect)
                == (&wanted.key, &wanted.operator, &wanted.effect)
                && other.value.as_deref().unwrap_or_default().is_empty()
        };
        match all.iter_mut().find(same) {
            Some(present) => *present = wanted,
            None => all.push(wanted),
        }
    }
    all
}

/// The generation of the set's template, where it is known.
fn generation(set: &DaemonSet) -> Option<i64> {
    let annotations = set.metadata.annotations.as_ref()?;
    annotations.get(GENERATION_ANNOTATION)?.parse().ok()
}

/// The pod for a node.
pub(super) fn new_pod(set: &DaemonSet, hash: &str, node: &str, name: String) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone());
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let owner = controller_reference(set);
    let template = template.unwrap_or_default();
    let mut pod = pods::from_template(&template, namespace, name, owner);
    let base = set.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.generate_name = Some(format!("{base}-"));
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_string());
    }
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    pin(spec, node);
    pod
}

/// Leaves the scheduler one node to choose. What the template requires was asked already, and would only say it twice.
fn pin(spec: &mut PodSpec, node: &str) {
    let by_name = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![by_name]),
    };
    let affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![term],
    });
}

/// The node that a pod is on, or is meant for.
pub(super) fn target_node(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let by_name = fields.find(|field| field.key == NAME_FIELD && field.operator == "In")?;
    match by_name.values.as_deref() {
        Some([node]) => Some(node),
        _ => None,
    }
}

/// The hash that a pod carries, or "".
pub(super) fn hash(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(HASH_LABEL))
        .map_or("", String::as_str)
}

/// Whether a pod is of the set's current template.
pub(super) fn is_updated(pod: &Pod, set: &DaemonSet, hash: &str) -> bool {
    if !hash.is_empty() && self::hash(pod) == hash {
        return true;
    }
    let labels = pod.metadata.labels.as_ref();
    let told = labels.and_then(|labels| labels.get(GENERATION_LABEL));
    generation(set).is_some_and(|wanted| told == Some(&wanted.to_string()))
}
