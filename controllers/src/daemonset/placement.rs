//! Which nodes a DaemonSet's pods belong on: node name, node selector, required node affinity, taints. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Toleration,
};

use super::pod;
use crate::node::eviction::tolerate::tolerates;
use crate::node::taints;

/// The only field that terms may ask for.
pub(super) const NAME_FIELD: &str = "metadata.name";

/// What a node is to the pods of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There ought to be a pod.
    Runs,
    /// There ought to be none, but one that is there stays: it does not tolerate a taint that only keeps pods away.
    Stays,
    /// A pod that is there goes.
    Goes,
}

/// Where the pods of one set belong.
pub(super) struct Placement<'a> {
    spec: Option<&'a PodSpec>,
    tolerations: Vec<Toleration>,
}

/// The name of a node.
pub(super) fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

impl<'a> Placement<'a> {
    pub(super) fn of(set: &'a DaemonSet) -> Self {
        let template = set.spec.as_ref().map(|spec| &spec.template);
        let spec = template.and_then(|template| template.spec.as_ref());
        Self {
            spec,
            tolerations: spec.map(pod::tolerations).unwrap_or_default(),
        }
    }

    pub(super) fn judge(&self, node: &Node) -> Verdict {
        let Some(spec) = self.spec else {
            return Verdict::Goes;
        };
        if !is_named(spec, node) || !is_selected(spec, node) {
            return Verdict::Goes;
        }
        let borne = |effects: &[&str]| {
            taints(node)
                .filter(|taint| effects.contains(&taint.effect.as_str()))
                .all(|taint| self.tolerations.iter().any(|by| tolerates(by, taint)))
        };
        if borne(&["NoSchedule", "NoExecute"]) {
            Verdict::Runs
        } else if borne(&["NoExecute"]) {
            Verdict::Stays
        } else {
            Verdict::Goes
        }
    }
}

fn is_named(spec: &PodSpec, node: &Node) -> bool {
    let wanted = spec.node_name.as_deref().unwrap_or_default();
    wanted.is_empty() || wanted == name(node)
}

/// Whether the node selector and one of the affinity's required terms take the node.
fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let mut wanted = spec.node_selector.iter().flatten();
    if !wanted.all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter();
        terms.any(|term| takes(term, name(node), labels))
    })
}

/// An empty term takes nothing.
fn takes(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |wanted: &NodeSelectorRequirement| {
        meets(wanted, labels.get(&wanted.key).map(String::as_str))
    };
    // A field has one value, so more than one, or another operator, is a term that takes nothing.
    let field = |wanted: &NodeSelectorRequirement| {
        let values = wanted.values.as_deref().unwrap_or_default();
        let value = (wanted.key == NAME_FIELD).then_some(name);
        values.len() == 1
            && matches!(wanted.operator.as_str(), "In" | "NotIn")
            && meets(wanted, value)
    };
    expressions.iter().all(label) && fields.iter().all(field)
}

fn meets(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|listed| listed == value);
    let compared = || {
        let (left, right) = (value?.parse::<i64>().ok()?, values.first()?.parse().ok()?);
        Some(left.cmp(&right))
    };
    match wanted.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => false, // validation lets no other in
    }
}
