//! Whom to evict for a pod that fits nowhere: on each node that evictions could help, the fewest and least important pods;
//! then the node where that hurts least. Invariant: victims have a lower priority than the pod, and with them gone
//! the pod passes every filter on the node.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::cluster::Cluster;
use super::context::Context;
use super::disruption::{Budget, violations};
use super::explain::NoFit;
use super::node::NodeInfo;
use super::pod::PodInfo;

/// At least so many nodes are tried, and at least this share of them (percent): upstream's numbers.
const TRY_MIN: usize = 100;
const TRY_SHARE: usize = 10;

/// A decision to evict.
#[derive(Clone, Debug)]
pub struct Preemption {
    pub node: String,
    /// Most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// Victims whose going breaks a budget: only where no other choice is left.
    pub violations: usize,
}

impl Preemption {
    /// Smaller is better: budgets, then the most important victim, the sum of importances, how many, how long they ran.
    fn cost(&self) -> impl Ord + use<> {
        let top = self
            .victims
            .first()
            .map_or(i32::MIN, |victim| victim.priority);
        // Shifted so that many unimportant victims never look cheaper than few.
        let sum: i64 = self
            .victims
            .iter()
            .map(|v| i64::from(v.priority) - i64::from(i32::MIN))
            .sum();
        let started = self
            .victims
            .iter()
            .filter(|victim| victim.priority == top)
            .filter_map(|victim| victim.started)
            .min();
        (
            self.violations,
            top,
            sum,
            self.victims.len(),
            Reverse(started),
        )
    }
}

/// The best eviction, or why there is none, in words. `offset` says where the search begins.
pub fn preempt(
    cluster: &mut Cluster,
    pod: &Arc<PodInfo>,
    no_fit: &NoFit,
    budgets: &[&Budget],
    offset: usize,
) -> Result<Preemption, String> {
    if let Some(why) = ineligible(cluster, pod, no_fit) {
        return Err(why);
    }
    let nodes: Vec<usize> = no_fit.resolvable().collect();
    if !cluster.has_lower_priority(pod.priority) {
        return Err(in_vain(no_fit.nodes.len(), nodes.len()));
    }
    let enough = (no_fit.nodes.len() * TRY_SHARE / 100).max(TRY_MIN);
    let mut context = Context::build(cluster, pod);
    let mut best: Option<Preemption> = None;
    let mut found = 0;
    for step in 0..nodes.len() {
        let slot = nodes[(offset + step) % nodes.len()];
        let Some(candidate) = on_node(cluster, pod, &mut context, slot, budgets) else {
            continue;
        };
        if best
            .as_ref()
            .is_none_or(|best| candidate.cost() < best.cost())
        {
            best = Some(candidate);
        }
        found += 1;
        if found >= enough {
            break;
        }
    }
    best.ok_or_else(|| in_vain(no_fit.nodes.len(), nodes.len()))
}

/// Whether a pod that fits nowhere, and has nobody to evict, goes on waiting for the node that was promised to it.
pub fn still_waits(cluster: &Cluster, pod: &PodInfo, no_fit: &NoFit) -> bool {
    ineligible(cluster, pod, no_fit).is_some()
}

fn ineligible(cluster: &Cluster, pod: &PodInfo, no_fit: &NoFit) -> Option<String> {
    if !pod.may_preempt {
        return Some("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let node = pod.nominated.as_deref()?;
    let slot = cluster.slot(node);
    let still_helps = no_fit.resolvable().any(|other| Some(other) == slot);
    let going = cluster.node_named(node).is_some_and(|node| {
        node.pods
            .values()
            .any(|other| other.terminating && other.priority < pod.priority)
    });
    (still_helps && going)
        .then(|| "not eligible due to a terminating pod on the nominated node.".to_owned())
}

fn in_vain(all: usize, resolvable: usize) -> String {
    let mut reasons = BTreeMap::new();
    reasons.insert("No preemption victims found for incoming pod", resolvable);
    reasons.insert("Preemption is not helpful for scheduling", all - resolvable);
    let parts: Vec<String> = reasons
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    format!("0/{all} nodes are available: {}.", parts.join(", "))
}

/// The fewest victims on one node.
fn on_node(
    cluster: &Cluster,
    pod: &Arc<PodInfo>,
    context: &mut Context,
    slot: usize,
    budgets: &[&Budget],
) -> Option<Preemption> {
    let mut lower: Vec<Arc<PodInfo>> = cluster.nodes[slot]
        .pods
        .values()
        .filter(|other| other.priority < pod.priority)
        .cloned()
        .collect();
    if lower.is_empty() {
        return None;
    }
    // Important and long-running pods are asked first whether they may stay.
    lower.sort_by(|a, b| {
        let key = |pod: &PodInfo| (Reverse(pod.priority), pod.started, pod.uid.clone());
        key(a).cmp(&key(b))
    });
    let mut trial = Trial {
        cluster,
        pod,
        context,
        slot,
        node: cluster.nodes[slot].clone(),
    };
    for other in &lower {
        trial.take_away(other);
    }
    let victims = trial.fits().then(|| trial.spare(&lower, budgets));
    // Whoever is still away comes back, so that the context serves the next node.
    for other in &lower {
        if !trial.node.pods.contains_key(&other.uid) {
            trial.put_back(other);
        }
    }
    let (victims, violations) = victims?;
    Some(Preemption {
        node: cluster.nodes[slot].name.clone(),
        victims,
        violations,
    })
}

/// A node with some of its pods thought away.
struct Trial<'a> {
    cluster: &'a Cluster,
    pod: &'a Arc<PodInfo>,
    context: &'a mut Context,
    slot: usize,
    node: NodeInfo,
}

impl Trial<'_> {
    fn take_away(&mut self, other: &PodInfo) {
        self.node.remove(&other.uid);
        self.context
            .adjust(self.pod, other, self.slot, -1, &self.cluster.namespaces);
    }

    fn put_back(&mut self, other: &Arc<PodInfo>) {
        self.node.add(other);
        self.context
            .adjust(self.pod, other, self.slot, 1, &self.cluster.namespaces);
    }

    fn fits(&self) -> bool {
        let reserved = self.cluster.reservations.before(&self.node, self.pod);
        self.node.fits(self.pod, reserved.as_ref())
            && !self.node.port_taken(self.pod)
            && self.context.check(self.slot).is_none()
    }

    /// Lets those stay that can: first those whose going would break a budget.
    fn spare(&mut self, lower: &[Arc<PodInfo>], budgets: &[&Budget]) -> (Vec<Arc<PodInfo>>, usize) {
        let violating = violations(lower.iter().map(|pod| &**pod), budgets);
        let (mut victims, mut broken) = (Vec::new(), 0);
        for wanted in [true, false] {
            for (other, _) in lower.iter().zip(&violating).filter(|(_, v)| **v == wanted) {
                self.put_back(other);
                if self.fits() {
                    continue;
                }
                self.take_away(other);
                victims.push(Arc::clone(other));
                broken += usize::from(wanted);
            }
        }
        victims.sort_by_key(|victim| Reverse(victim.priority));
        (victims, broken)
    }
}
