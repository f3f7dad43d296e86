//! Finding a node for a pod: filter until there are enough candidates, score them, take the best. Invariant: a node that
//! is returned passes every filter against the cluster as it is.

use std::borrow::Cow;
use std::sync::Arc;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::cluster::{Cluster, Reservations};
use super::context::Context;
use super::explain::{NoFit, NodeReasons, Reason};
use super::node::{NodeInfo, NodeSpec};
use super::pod::PodInfo;
use super::score;
use super::statics::Verdict;

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
    let Cluster {
        nodes,
        statics,
        reservations,
        next_start,
        ..
    } = cluster;
    let mut verdicts = statics.of(&pod.statics);
    let slots = nodes.len();
    let start = *next_start;
    let mut found = Vec::with_capacity(enough.min(slots));
    let plain = context.is_empty();
    for step in 0..slots {
        let slot = (start + step) % slots;
        let node = &nodes[slot];
        let free = verdicts.of(slot, node).allows() && has_room(node, reservations, pod);
        if free && (plain || context.check(slot).is_none()) {
            found.push(slot);
            if found.len() >= enough {
                *next_start = (slot + 1) % slots;
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
    let Cluster {
        nodes,
        statics,
        reservations,
        ..
    } = cluster;
    statics.of(&pod.statics).of(slot, &nodes[slot]).allows()
        && has_room(&nodes[slot], reservations, pod)
        && context.check(slot).is_none()
}

/// Room and ports, beside what is promised and reserved.
fn has_room(node: &NodeInfo, reservations: &Reservations, pod: &PodInfo) -> bool {
    let reserved = reservations.before(node, pod);
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
    let Cluster {
        nodes,
        statics,
        reservations,
        ..
    } = cluster;
    let mut verdicts = statics.of(&pod.statics);
    let nodes = nodes
        .iter()
        .enumerate()
        .filter_map(|(slot, node)| {
            let spec = node.spec.as_ref()?;
            let by_statics = by_statics(pod, spec, verdicts.of(slot, node));
            if let Some(first) = by_statics {
                return Some(NodeReasons {
                    slot,
                    first,
                    more: Vec::new(),
                });
            }
            let mut reasons = by_room(pod, node, spec, reservations).into_iter();
            // With room, and no rule broken, only a reserved port is left.
            let first = reasons
                .next()
                .or_else(|| context.check(slot))
                .unwrap_or(Reason::Ports);
            Some(NodeReasons {
                slot,
                first,
                more: reasons.collect(),
            })
        })
        .collect();
    NoFit { nodes }
}

/// What of labels and taints keeps the pod away.
fn by_statics(pod: &PodInfo, node: &NodeSpec, verdict: Verdict) -> Option<Reason> {
    if verdict.allows() {
        return None;
    }
    if !verdict.open {
        return Some(Reason::Unschedulable);
    }
    if let Some(taint) = pod.statics.untolerated(node) {
        return Some(Reason::Taint {
            key: taint.key.clone(),
            value: taint.value.clone(),
        });
    }
    Some(Reason::NodeAffinity)
}

/// All that lacks on the node itself.
fn by_room(
    pod: &PodInfo,
    node: &NodeInfo,
    spec: &NodeSpec,
    reservations: &Reservations,
) -> Vec<Reason> {
    if !pod.ports.is_empty() && node.port_taken(pod) {
        return vec![Reason::Ports];
    }
    let mut reasons = Vec::new();
    let reserved = reservations.before(node, pod);
    let count = node.pods.len() + reserved.as_ref().map_or(0, |extra| extra.count);
    if count + 1 > spec.pods_limit {
        reasons.push(Reason::TooManyPods);
    }
    let used = match &reserved {
        None => Cow::Borrowed(&node.requested),
        Some(extra) => {
            let mut used = node.requested.clone();
            used.add(&extra.requests, 1);
            Cow::Owned(used)
        }
    };
    reasons.extend(
        pod.requests
            .exceeding(&spec.allocatable, &used)
            .map(|short| Reason::Insufficient {
                resource: match short.name {
                    "cpu" => Cow::Borrowed("cpu"),
                    "memory" => Cow::Borrowed("memory"),
                    "ephemeral-storage" => Cow::Borrowed("ephemeral-storage"),
                    other => Cow::Owned(other.to_owned()),
                },
                wanted: short.wanted,
                free: short.total - short.used,
                total: short.total,
            }),
    );
    reasons
}
