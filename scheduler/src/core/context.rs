//! What the rest of the cluster means for one pod: where required affinity, anti-affinity (its own and that of pods already
//! placed) and hard spread constraints let it go. Built once per attempt from counts per node; asked once per node.
//! Preemption asks "what if this pod were gone" by `adjust`. Invariant: `adjust` there and back leaves it unchanged.

use std::sync::Arc;

use super::cluster::Cluster;
use super::explain::Reason;
use super::groups::{Kind, Namespaces};
use super::pod::{PodInfo, PodSelector, Spread, Term};
use super::topology::NONE;

/// Counts per domain of one topology key.
#[derive(Clone, Debug)]
pub(super) struct Domains {
    pub(super) ids: Arc<Vec<u32>>,
    pub(super) counts: Vec<i64>,
}

impl Domains {
    /// The domain of a node, if it is in any.
    pub(super) fn id(&self, slot: usize) -> Option<usize> {
        self.ids
            .get(slot)
            .copied()
            .filter(|id| *id != NONE)
            .map(|id| id as usize)
    }

    fn count(&self, slot: usize) -> Option<i64> {
        self.id(slot).map(|id| self.counts[id])
    }

    fn change(&mut self, slot: usize, by: i64) {
        if let Some(id) = self.id(slot) {
            self.counts[id] += by;
        }
    }
}

/// Required affinity: all terms at once.
#[derive(Clone, Debug)]
struct Affinity {
    selectors: Vec<PodSelector>,
    domains: Vec<Domains>,
    /// Pods that match, anywhere.
    total: i64,
    /// The pod matches its own terms: it may be the first.
    matches_itself: bool,
}

/// Hard spread over one key.
#[derive(Clone, Debug)]
struct HardSpread {
    constraint: Spread,
    domains: Domains,
    /// Domains with a node that counts.
    present: Vec<bool>,
    /// Nodes that count.
    eligible: Vec<bool>,
    counts_itself: bool,
    minimum: i64,
}

impl HardSpread {
    fn find_minimum(&mut self) {
        let present = || {
            self.domains
                .counts
                .iter()
                .zip(&self.present)
                .filter(|(_, present)| **present)
        };
        let domains = i64::try_from(present().count()).unwrap_or(i64::MAX);
        self.minimum = if domains < self.constraint.min_domains {
            0
        } else {
            present().map(|(count, _)| *count).min().unwrap_or(0)
        };
    }

    fn check(&self, slot: usize) -> Option<Reason> {
        let Some(count) = self.domains.count(slot) else {
            return Some(Reason::SpreadLabel);
        };
        let skew = count + i64::from(self.counts_itself) - self.minimum;
        (skew > self.constraint.max_skew).then_some(Reason::Spread)
    }
}

/// What the cluster means for one pod.
#[derive(Clone, Debug, Default)]
pub struct Context {
    affinity: Option<Affinity>,
    /// Own anti-affinity: domains with such pods are out.
    avoid: Vec<(Term, Domains)>,
    /// Placed pods that want to be far from this one.
    avoided: Vec<(Term, Domains)>,
    spread: Vec<HardSpread>,
}

impl Context {
    /// Looks at the cluster for `pod`.
    pub fn build(cluster: &mut Cluster, pod: &PodInfo) -> Self {
        Self {
            affinity: affinity(cluster, pod),
            avoid: pod
                .anti_affinity
                .iter()
                .map(|term| {
                    let kind = Kind::Selected(vec![term.pods.clone()]);
                    (term.clone(), count(cluster, &kind, &term.topology_key).0)
                })
                .collect(),
            avoided: avoided(cluster, pod),
            spread: pod
                .spread_hard
                .iter()
                .map(|spread| hard_spread(cluster, pod, spread))
                .collect(),
        }
    }

    /// Whether nothing but the node itself decides.
    pub fn is_empty(&self) -> bool {
        self.affinity.is_none()
            && self.avoid.is_empty()
            && self.avoided.is_empty()
            && self.spread.is_empty()
    }

    /// Why the pod cannot go to a node, if so.
    pub fn check(&self, slot: usize) -> Option<Reason> {
        if let Some(reason) = self.spread.iter().find_map(|spread| spread.check(slot)) {
            return Some(reason);
        }
        if self
            .affinity
            .as_ref()
            .is_some_and(|affinity| !affinity.holds(slot))
        {
            return Some(Reason::Affinity);
        }
        let taken =
            |(_, domains): &(Term, Domains)| domains.count(slot).is_some_and(|count| count > 0);
        if self.avoid.iter().any(taken) {
            return Some(Reason::AntiAffinity);
        }
        self.avoided
            .iter()
            .any(taken)
            .then_some(Reason::ExistingAntiAffinity)
    }

    /// As if `other`, on that node, came (1) or were gone (-1). `pod` is whom the context is for.
    pub fn adjust(
        &mut self,
        pod: &PodInfo,
        other: &PodInfo,
        slot: usize,
        by: i64,
        namespaces: &Namespaces,
    ) {
        if let Some(affinity) = &mut self.affinity
            && affinity
                .selectors
                .iter()
                .all(|selector| selector.selects(other, namespaces))
        {
            affinity.total += by;
            affinity
                .domains
                .iter_mut()
                .for_each(|domains| domains.change(slot, by));
        }
        for (term, domains) in &mut self.avoid {
            if term.pods.selects(other, namespaces) {
                domains.change(slot, by);
            }
        }
        for (term, domains) in &mut self.avoided {
            if other.anti_affinity.contains(term) && term.pods.selects(pod, namespaces) {
                domains.change(slot, by);
            }
        }
        for spread in &mut self.spread {
            let eligible = spread.eligible.get(slot).copied().unwrap_or(false);
            if eligible && !other.terminating && spread.constraint.siblings.include(other) {
                spread.domains.change(slot, by);
                spread.find_minimum();
            }
        }
    }
}

impl Affinity {
    fn holds(&self, slot: usize) -> bool {
        let mut all_near = true;
        for domains in &self.domains {
            match domains.count(slot) {
                // A node outside of the topology is never near.
                None => return false,
                Some(count) => all_near &= count > 0,
            }
        }
        // The first of a group that wants to be together may go anywhere.
        all_near || (self.total == 0 && self.matches_itself)
    }
}

/// Counts of a group per domain of a key, and in all.
pub(super) fn count(cluster: &mut Cluster, kind: &Kind, key: &str) -> (Domains, i64) {
    let Cluster {
        nodes,
        groups,
        topologies,
        namespaces,
        ..
    } = cluster;
    let topology = topologies.of(key, nodes);
    let (per_node, total) = groups.count(kind, nodes, namespaces);
    let domains = Domains {
        ids: Arc::clone(&topology.ids),
        counts: topology.sum(per_node),
    };
    (domains, i64::try_from(total).unwrap_or(i64::MAX))
}

fn affinity(cluster: &mut Cluster, pod: &PodInfo) -> Option<Affinity> {
    if pod.affinity.is_empty() {
        return None;
    }
    // A pod is near only if it matches all terms: one group for all, looked at per topology key.
    let selectors: Vec<PodSelector> = pod.affinity.iter().map(|term| term.pods.clone()).collect();
    let kind = Kind::Selected(selectors.clone());
    let mut total = 0;
    let domains = pod
        .affinity
        .iter()
        .map(|term| {
            let (domains, all) = count(cluster, &kind, &term.topology_key);
            total = all;
            domains
        })
        .collect();
    let matches_itself = selectors
        .iter()
        .all(|selector| selector.selects(pod, &cluster.namespaces));
    Some(Affinity {
        selectors,
        domains,
        total,
        matches_itself,
    })
}

fn avoided(cluster: &mut Cluster, pod: &PodInfo) -> Vec<(Term, Domains)> {
    let Cluster {
        nodes,
        groups,
        topologies,
        namespaces,
        ..
    } = cluster;
    groups
        .held()
        .filter_map(|(kind, per_node)| match kind {
            Kind::Avoiding(term) if term.pods.selects(pod, namespaces) => {
                let topology = topologies.of(&term.topology_key, nodes);
                let domains = Domains {
                    ids: Arc::clone(&topology.ids),
                    counts: topology.sum(per_node),
                };
                Some((term.clone(), domains))
            }
            _ => None,
        })
        .collect()
}

fn hard_spread(cluster: &mut Cluster, pod: &PodInfo, spread: &Spread) -> HardSpread {
    let eligible = eligible(cluster, pod, spread, &pod.spread_hard);
    let Cluster {
        nodes,
        groups,
        topologies,
        namespaces,
        ..
    } = cluster;
    let topology = topologies.of(&spread.topology_key, nodes);
    let (per_node, _) = groups.count(&Kind::Siblings(spread.siblings.clone()), nodes, namespaces);
    let mut counts = vec![0; topology.domains()];
    let mut present = vec![false; topology.domains()];
    for (slot, id) in topology.ids.iter().enumerate() {
        if *id != NONE && eligible.get(slot).copied().unwrap_or(false) {
            counts[*id as usize] += i64::from(per_node[slot]);
            present[*id as usize] = true;
        }
    }
    let mut state = HardSpread {
        constraint: spread.clone(),
        domains: Domains {
            ids: Arc::clone(&topology.ids),
            counts,
        },
        present,
        eligible,
        counts_itself: spread.siblings.include(pod),
        minimum: 0,
    };
    state.find_minimum();
    state
}

/// Nodes that count for a constraint: in all of the pod's topologies, and allowed by what the constraint honours.
pub(super) fn eligible(
    cluster: &mut Cluster,
    pod: &PodInfo,
    spread: &Spread,
    all: &[Spread],
) -> Vec<bool> {
    let Cluster {
        nodes,
        statics,
        topologies,
        ..
    } = cluster;
    let keys: Vec<Arc<Vec<u32>>> = all
        .iter()
        .map(|constraint| Arc::clone(&topologies.of(&constraint.topology_key, nodes).ids))
        .collect();
    let mut verdicts = statics.of(&pod.statics);
    nodes
        .iter()
        .enumerate()
        .map(|(slot, node)| {
            let in_all = keys
                .iter()
                .all(|ids| ids.get(slot).is_some_and(|id| *id != NONE));
            let verdict = verdicts.of(slot, node);
            in_all
                && node.spec.is_some()
                && (!spread.honor_affinity || verdict.selected)
                && (!spread.honor_taints || verdict.tolerated)
        })
        .collect()
}
