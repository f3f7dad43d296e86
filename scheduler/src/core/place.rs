//! Finding a node for a pod: filter until there are enough candidates, score them, take the best. Invariant: a node that
//! is returned passes every filter against the cluster as it is.

use std::sync::Arc;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::cluster::Cluster;
use super::context::Context;
use super::explain::{NoFit, Reason};
use super::pod::PodInfo;
use super::score;

/// Clusters up to this size are searched whole; upstream's number.
const SEARCH_WHOLE: usize = 100;
/// Never fewer candidates than this share, in percent.
const SHARE_MIN: usize = 5;

/// How to place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The share of nodes, in percent, after which the search for candidates ends; 0 adapts to the size.
    pub percentage_of_nodes_to_score: u8,
}

impl Options {
    /// How many candidates are enough.
    fn enough(&self, nodes: usize) -> usize {
        if nodes <= SEARCH_WHOLE {
            return nodes;
        }
        let share = match usize::from(self.percentage_of_nodes_to_score) {
            0 => (50_usize.saturating_sub(nodes / 125)).max(SHARE_MIN),
            share => share.min(100),
        };
        (nodes * share / 100).max(SEARCH_WHOLE)
    }
}

/// The best node for a pod, as its slot; or why there is none.
pub fn place(
    cluster: &mut Cluster,
    pod: &Arc<PodInfo>,
    options: &Options,
    rng: &mut impl Rng,
) -> Result<usize, NoFit> {
    let context = Context::build(cluster, pod);
    if let Some(slot) = nominated(cluster, pod, &context) {
        return Ok(slot);
    }
    let candidates = candidates(cluster, pod, &context, options.enough(cluster.len()));
    match candidates.as_slice() {
        [] => Err(explain(cluster, pod, &context)),
        [only] => Ok(*only),
        _ => {
            let totals = score::totals(cluster, pod, &candidates);
            let best = totals.iter().copied().max().unwrap_or(0);
            let best: Vec<usize> = candidates
                .iter()
                .zip(&totals)
                .filter(|(_, total)| **total == best)
                .map(|(slot, _)| *slot)
                .collect();
            Ok(*best.choose(rng).expect("the maximum is among the totals"))
        }
    }
}

/// The node that the pod has waited for, if it is free by now.
fn nominated(cluster: &mut Cluster, pod: &Arc<PodInfo>, context: &Context) -> Option<usize> {
    let slot = cluster.slot(pod.nominated.as_deref()?)?;
    fits(cluster, pod, context, slot).then_some(slot)
}

/// Nodes that pass all filters, at most `enough`; the search goes on where the last one ended.
fn candidates(
    cluster: &mut Cluster,
    pod: &Arc<PodInfo>,
    context: &Context,
    enough: usize,
) -> Vec<usize> {
    let slots = cluster.nodes.len();
    let start = cluster.next_start;
    let mut found = Vec::with_capacity(enough.min(slots));
    let plain = context.is_empty();
    for step in 0..slots {
        let slot = (start + step) % slots;
        if !allows(cluster, pod, slot) || !has_room(cluster, pod, slot) {
            continue;
        }
        if plain || context.check(slot).is_none() {
            found.push(slot);
            if found.len() >= enough {
                cluster.next_start = (slot + 1) % slots;
                break;
            }
        }
    }
    found
}

/// Whether a node passes all filters.
pub(super) fn fits(
    cluster: &mut Cluster,
    pod: &Arc<PodInfo>,
    context: &Context,
    slot: usize,
) -> bool {
    allows(cluster, pod, slot) && has_room(cluster, pod, slot) && context.check(slot).is_none()
}

fn allows(cluster: &mut Cluster, pod: &PodInfo, slot: usize) -> bool {
    let Cluster { nodes, statics, .. } = cluster;
    statics.of(&pod.statics).of(slot, &nodes[slot]).allows()
}

/// Room and ports, beside what is promised and reserved.
pub(super) fn has_room(cluster: &Cluster, pod: &PodInfo, slot: usize) -> bool {
    let node = &cluster.nodes[slot];
    let reserved = cluster.reserved(slot, pod);
    let port_reserved = || {
        reserved.as_ref().is_some_and(|extra| {
            pod.ports
                .iter()
                .any(|port| extra.ports.iter().any(|other| other.conflicts(port)))
        })
    };
    node.fits(pod, reserved.as_ref())
        && (pod.ports.is_empty() || !(node.port_taken(pod) || port_reserved()))
}

/// Why each node is out.
fn explain(cluster: &mut Cluster, pod: &Arc<PodInfo>, context: &Context) -> NoFit {
    let mut no_fit = NoFit::default();
    for slot in cluster.slots().collect::<Vec<_>>() {
        let reasons = reasons(cluster, pod, context, slot);
        no_fit
            .nodes
            .insert(cluster.nodes[slot].name.clone(), reasons);
    }
    no_fit
}

/// The reasons of one node: the first filter that refuses it, with all shortages where it is room that lacks.
fn reasons(cluster: &Cluster, pod: &PodInfo, context: &Context, slot: usize) -> Vec<Reason> {
    let node = &cluster.nodes[slot];
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    let verdict = pod.statics.judge(&node.name, spec);
    if !verdict.open {
        return vec![Reason::Unschedulable];
    }
    if let Some(taint) = pod.statics.untolerated(spec) {
        return vec![Reason::Taint {
            key: taint.key.clone(),
            value: taint.value.clone(),
        }];
    }
    if !verdict.selected {
        return vec![Reason::NodeAffinity];
    }
    if !pod.ports.is_empty() && node.port_taken(pod) {
        return vec![Reason::Ports];
    }
    let reserved = cluster.reserved(slot, pod).unwrap_or_default();
    let mut reasons = Vec::new();
    if node.pods.len() + reserved.count + 1 > spec.pods_limit {
        reasons.push(Reason::TooManyPods);
    }
    let mut used = node.requested.clone();
    used.add(&reserved.requests, 1);
    reasons.extend(
        pod.requests
            .exceeding(&spec.allocatable, &used)
            .map(|short| Reason::Insufficient {
                resource: short.name.to_owned(),
                wanted: short.wanted,
                free: short.total - short.used,
                total: short.total,
            }),
    );
    if reasons.is_empty() {
        reasons.extend(context.check(slot));
    }
    if reasons.is_empty() {
        // Only a reserved port is left.
        reasons.push(Reason::Ports);
    }
    reasons
}
