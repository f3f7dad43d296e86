//! How good candidates are, from 0 to 100 per aspect, times the aspect's weight. Upstream's aspects, formulas and weights:
//! people know what to expect of them. Whole numbers throughout, so that the order is the same on every machine.

use std::collections::HashMap;

use super::cluster::Cluster;
use super::context::{Domains, count, eligible};
use super::groups::Kind;
use super::node::NodeInfo;
use super::pod::{PodInfo, Siblings, Spread};

const SCORE_MAX: i64 = 100;
const WEIGHT_TAINTS: i64 = 3;
const WEIGHT_NODE_AFFINITY: i64 = 2;
const WEIGHT_POD_AFFINITY: i64 = 2;
const WEIGHT_SPREAD: i64 = 2;
const WEIGHT_LEAST_ALLOCATED: i64 = 1;
const WEIGHT_BALANCED: i64 = 1;
const WEIGHT_IMAGES: i64 = 1;

/// Images below the first size are not worth a thought; above the second (per container) they all count the same.
const IMAGE_MIN: i64 = 23 << 20;
const IMAGE_MAX: i64 = 1_000 << 20;

/// The total score of each candidate.
pub(super) fn totals(cluster: &mut Cluster, pod: &PodInfo, candidates: &[usize]) -> Vec<i64> {
    let mut totals: Vec<i64> = candidates
        .iter()
        .map(|slot| {
            let node = &cluster.nodes[*slot];
            WEIGHT_LEAST_ALLOCATED * least_allocated(node, pod)
                + WEIGHT_BALANCED * balanced(node, pod)
        })
        .collect();
    let mut add = |weight: i64, scores: Option<Vec<i64>>| {
        for (total, score) in totals.iter_mut().zip(scores.into_iter().flatten()) {
            *total += weight * score;
        }
    };
    let (taints, wishes) = by_statics(cluster, pod, candidates);
    add(WEIGHT_TAINTS, taints);
    add(WEIGHT_NODE_AFFINITY, wishes);
    add(WEIGHT_POD_AFFINITY, pod_affinity(cluster, pod, candidates));
    add(WEIGHT_SPREAD, spread(cluster, pod, candidates));
    add(WEIGHT_IMAGES, images(cluster, pod, candidates));
    totals
}

/// The free share after placing, the mean of cpu and memory.
fn least_allocated(node: &NodeInfo, pod: &PodInfo) -> i64 {
    let Some(spec) = &node.spec else { return 0 };
    let free = |total: i64, used: i64| {
        if total <= 0 || used > total {
            0
        } else {
            (total - used) * SCORE_MAX / total
        }
    };
    let cpu = free(
        spec.allocatable.cpu_milli,
        node.score_requested.0 + pod.score_requests.0,
    );
    let memory = free(
        spec.allocatable.memory,
        node.score_requested.1 + pod.score_requests.1,
    );
    (cpu + memory) / 2
}

/// How alike the used shares of cpu and memory are after placing.
fn balanced(node: &NodeInfo, pod: &PodInfo) -> i64 {
    let Some(spec) = &node.spec else { return 0 };
    if pod.requests.cpu_milli == 0 && pod.requests.memory == 0 {
        return 0;
    }
    // Shares in millionths: their halved difference is the standard deviation of two values. Memory in KiB, so that
    // the product stays far below 2^63.
    let share = |total: i64, used: i64| (used.max(0) * 1_000_000 / total.max(1)).min(1_000_000);
    let cpu = share(
        spec.allocatable.cpu_milli,
        node.requested.cpu_milli + pod.requests.cpu_milli,
    );
    let memory = node.requested.memory + pod.requests.memory;
    let memory = share(spec.allocatable.memory >> 10, memory >> 10);
    (1_000_000 - (cpu - memory).abs() / 2) * SCORE_MAX / 1_000_000
}

/// Soft taints (fewer is better) and preferred node affinity; `None` where all candidates are alike.
fn by_statics(
    cluster: &mut Cluster,
    pod: &PodInfo,
    candidates: &[usize],
) -> (Option<Vec<i64>>, Option<Vec<i64>>) {
    let Cluster { nodes, statics, .. } = cluster;
    let mut verdicts = statics.of(&pod.statics);
    let verdicts: Vec<_> = candidates
        .iter()
        .map(|slot| verdicts.of(*slot, &nodes[*slot]))
        .collect();
    let taints_max = verdicts
        .iter()
        .map(|verdict| i64::from(verdict.soft_taints))
        .max()
        .unwrap_or(0);
    let wishes_max = verdicts
        .iter()
        .map(|verdict| i64::from(verdict.preference))
        .max()
        .unwrap_or(0);
    let taints = (taints_max > 0).then(|| {
        verdicts
            .iter()
            .map(|verdict| SCORE_MAX - i64::from(verdict.soft_taints) * SCORE_MAX / taints_max)
            .collect()
    });
    let wishes = (wishes_max > 0).then(|| {
        verdicts
            .iter()
            .map(|verdict| i64::from(verdict.preference) * SCORE_MAX / wishes_max)
            .collect()
    });
    (taints, wishes)
}

/// Wishes of the pod about pods there, and of pods there about the pod.
fn pod_affinity(cluster: &mut Cluster, pod: &PodInfo, candidates: &[usize]) -> Option<Vec<i64>> {
    let mut weighted: Vec<(i64, Domains)> = Vec::new();
    for (weight, term) in &pod.preferred {
        let kind = Kind::Selected(vec![term.pods.clone()]);
        weighted.push((
            i64::from(*weight),
            count(cluster, &kind, &term.topology_key).0,
        ));
    }
    {
        let Cluster {
            nodes,
            groups,
            topologies,
            namespaces,
            ..
        } = cluster;
        for (kind, per_node) in groups.held() {
            let Kind::Wishing(weight, term) = kind else {
                continue;
            };
            if term.pods.selects(pod, namespaces) {
                let topology = topologies.of(&term.topology_key, nodes);
                let ids = std::sync::Arc::clone(&topology.ids);
                let domains = Domains {
                    ids,
                    counts: topology.sum(per_node),
                };
                weighted.push((i64::from(*weight), domains));
            }
        }
    }
    if weighted.is_empty() {
        return None;
    }
    let raw: Vec<i64> = candidates
        .iter()
        .map(|slot| {
            weighted
                .iter()
                .filter_map(|(weight, domains)| {
                    domains.id(*slot).map(|id| weight * domains.counts[id])
                })
                .sum()
        })
        .collect();
    let (low, high) = (raw.iter().copied().min()?, raw.iter().copied().max()?);
    (high > low).then(|| {
        raw.iter()
            .map(|score| (score - low) * SCORE_MAX / (high - low))
            .collect()
    })
}

/// Soft spread constraints: the pod's own, or the default ones (hosts, then zones).
fn spread(cluster: &mut Cluster, pod: &PodInfo, candidates: &[usize]) -> Option<Vec<i64>> {
    let own = !pod.spread_soft.is_empty();
    let defaults;
    let constraints: &[Spread] = if own {
        &pod.spread_soft
    } else if pod.spread_hard.is_empty() {
        defaults = default_spread(pod)?;
        &defaults
    } else {
        return None;
    };
    // In thousandths, as the logarithm is the only fraction.
    let mut raw = vec![Some(0_i64); candidates.len()];
    for constraint in constraints {
        let domains = sibling_counts(cluster, pod, constraint, constraints);
        let weight = log_weight(different(&domains, candidates));
        for (score, slot) in raw.iter_mut().zip(candidates) {
            match (domains.id(*slot), score.as_mut()) {
                (Some(id), Some(score)) => {
                    *score += domains.counts[id] * weight + (constraint.max_skew - 1) * 1_000;
                }
                // Outside of an own constraint's topology is the worst place; the default ones do not mind.
                (None, _) if own => *score = None,
                _ => {}
            }
        }
    }
    let (low, high) = (
        raw.iter().flatten().copied().min()?,
        raw.iter().flatten().copied().max()?,
    );
    if low == high && raw.iter().all(Option::is_some) {
        return None;
    }
    let scale = |score: i64| {
        if high == 0 {
            SCORE_MAX
        } else {
            SCORE_MAX * (high + low - score) / high
        }
    };
    Some(
        raw.into_iter()
            .map(|score| score.map_or(0, scale))
            .collect(),
    )
}

/// How many domains the candidates lie in.
fn different(domains: &Domains, candidates: &[usize]) -> usize {
    let mut seen = vec![false; domains.counts.len()];
    candidates
        .iter()
        .filter_map(|slot| domains.id(*slot))
        .for_each(|id| seen[id] = true);
    seen.into_iter().filter(|seen| *seen).count()
}

/// `ln(size + 2)` in thousandths: larger topologies say more.
fn log_weight(size: usize) -> i64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a few thousand at most"
    )]
    let weight = ((size as f64 + 2.0).ln() * 1_000.0) as i64;
    weight
}

fn sibling_counts(
    cluster: &mut Cluster,
    pod: &PodInfo,
    constraint: &Spread,
    all: &[Spread],
) -> Domains {
    let kind = Kind::Siblings(constraint.siblings.clone());
    let everywhere = pod.statics.node_affinity.is_none() && pod.statics.node_selector.is_empty();
    if (everywhere || !constraint.honor_affinity) && !constraint.honor_taints {
        return count(cluster, &kind, &constraint.topology_key).0;
    }
    let eligible = eligible(cluster, pod, constraint, all);
    let Cluster {
        nodes,
        groups,
        topologies,
        namespaces,
        ..
    } = cluster;
    let topology = topologies.of(&constraint.topology_key, nodes);
    let (per_node, _) = groups.count(&kind, nodes, namespaces);
    let counted: Vec<u32> = per_node
        .iter()
        .zip(&eligible)
        .map(|(count, eligible)| if *eligible { *count } else { 0 })
        .collect();
    Domains {
        ids: std::sync::Arc::clone(&topology.ids),
        counts: topology.sum(&counted),
    }
}

/// Pods of one controller are spread over hosts and zones even if nobody asks.
fn default_spread(pod: &PodInfo) -> Option<Vec<Spread>> {
    let siblings = pod.default_siblings.clone().or_else(|| {
        pod.owner
            .as_ref()
            .map(|uid| Siblings::Owned { uid: uid.clone() })
    })?;
    let constraint = |key: &str, max_skew: i64| Spread {
        topology_key: key.to_owned(),
        siblings: siblings.clone(),
        max_skew,
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    };
    Some(vec![
        constraint("kubernetes.io/hostname", 3),
        constraint("topology.kubernetes.io/zone", 5),
    ])
}

/// Images that are there already, worth less the fewer nodes have them (so that pods do not heap up on one).
fn images(cluster: &Cluster, pod: &PodInfo, candidates: &[usize]) -> Option<Vec<i64>> {
    let known: HashMap<String, usize> = pod
        .images
        .iter()
        .map(|image| normal_image(image))
        .filter_map(|image| cluster.images.get(&image).map(|count| (image, *count)))
        .collect();
    if known.is_empty() {
        return None;
    }
    let nodes = i64::try_from(cluster.len()).unwrap_or(i64::MAX).max(1);
    let high = IMAGE_MAX * i64::try_from(pod.images.len()).unwrap_or(1).max(1);
    let score = |slot: &usize| {
        let spec = cluster.nodes[*slot].spec.as_ref();
        let there = known.iter().filter_map(|(image, count)| {
            let size = spec?.images.get(image)?;
            Some(size / nodes * i64::try_from(*count).unwrap_or(nodes))
        });
        let sum: i64 = there.sum();
        SCORE_MAX * (sum.clamp(IMAGE_MIN, high) - IMAGE_MIN) / (high - IMAGE_MIN)
    };
    Some(candidates.iter().map(score).collect())
}

/// A name without a tag means `latest`.
fn normal_image(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}
