//! How many pods of a kind run on each node, kept up as pods come and go: the base of affinity and spreading. A group is
//! made at its first use (one scan of all pods) and forgotten when many newer ones are in use. Invariant: a group's
//! counts equal what a scan of all placed pods would give.

use std::collections::HashMap;

use super::node::NodeInfo;
use super::pod::{PodInfo, PodSelector, Siblings, Term};
use super::selector::Labels;

/// Groups kept; each costs four bytes per node and one match per pod that comes or goes in its namespaces.
const GROUPS_LIMIT: usize = 1_024;

/// Labels of namespaces, for terms that select namespaces.
pub type Namespaces = HashMap<String, Labels>;

/// Which pods are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pods that all of these select. Terminating pods count: they are still there.
    Selected(Vec<PodSelector>),
    /// Siblings for spreading. Terminating pods do not count: they make room.
    Siblings(Siblings),
    /// Pods that have this required anti-affinity term.
    Avoiding(Term),
    /// Pods that wish (or require: weight is `HARD_WEIGHT`) to be near or far from others by this term.
    Wishing(i32, Term),
}

/// What a required affinity term of a placed pod is worth as a wish.
pub const HARD_WEIGHT: i32 = 1;

impl PodSelector {
    /// Whether it selects a pod.
    pub fn selects(&self, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        let named = self.namespaces.contains(&pod.namespace);
        let in_scope = named
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_everything()
                    || namespaces
                        .get(&pod.namespace)
                        .is_some_and(|labels| selector.matches(labels))
            });
        in_scope && self.selector.matches(&pod.labels)
    }
}

impl Siblings {
    /// Whether a pod is one of them.
    pub fn include(&self, pod: &PodInfo) -> bool {
        match self {
            Self::Selected {
                namespace,
                selector,
            } => *namespace == pod.namespace && selector.matches(&pod.labels),
            Self::Owned { uid } => pod.owner.as_ref() == Some(uid),
        }
    }
}

#[derive(Clone, Debug)]
struct Group {
    per_node: Vec<u32>,
    total: u64,
    last_used: u64,
}

/// All groups in use.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    counted: HashMap<Kind, Group>,
    /// Terms of placed pods: never forgotten while a pod has them.
    held: HashMap<Kind, Group>,
    clock: u64,
}

impl Groups {
    /// The counts of a group, by a scan at its first use.
    pub fn count(
        &mut self,
        kind: &Kind,
        nodes: &[NodeInfo],
        namespaces: &Namespaces,
    ) -> (&[u32], u64) {
        self.clock += 1;
        if !self.counted.contains_key(kind) {
            self.make_room();
            let mut group = Group {
                per_node: vec![0; nodes.len()],
                total: 0,
                last_used: 0,
            };
            for (slot, node) in nodes.iter().enumerate() {
                let found = node
                    .pods
                    .values()
                    .filter(|pod| counts(kind, pod, namespaces))
                    .count();
                group.per_node[slot] = u32::try_from(found).unwrap_or(u32::MAX);
                group.total += found as u64;
            }
            self.counted.insert(kind.clone(), group);
        }
        let clock = self.clock;
        let group = self.counted.get_mut(kind).expect("just made sure of it");
        group.last_used = clock;
        group.per_node.resize(nodes.len(), 0);
        (&group.per_node, group.total)
    }

    /// Terms of placed pods, and how many pods on each node have them.
    pub fn held(&self) -> impl Iterator<Item = (&Kind, &[u32])> {
        self.held
            .iter()
            .map(|(kind, group)| (kind, group.per_node.as_slice()))
    }

    /// A pod came to a node (`sign` 1) or left it (-1).
    pub fn adjust(&mut self, pod: &PodInfo, slot: usize, sign: i64, namespaces: &Namespaces) {
        for (kind, group) in &mut self.counted {
            if counts(kind, pod, namespaces) {
                group.change(slot, sign);
            }
        }
        for kind in held_kinds(pod) {
            let fresh = Group {
                per_node: Vec::new(),
                total: 0,
                last_used: 0,
            };
            let group = self.held.entry(kind.clone()).or_insert(fresh);
            group.change(slot, sign);
            if group.total == 0 {
                self.held.remove(&kind);
            }
        }
    }

    /// Labels of a namespace changed: what was counted by them is counted anew.
    pub fn forget_namespace_selectors(&mut self) {
        self.counted.retain(|kind, _| match kind {
            Kind::Selected(selectors) => selectors
                .iter()
                .all(|selector| selector.namespace_selector.is_none()),
            _ => true,
        });
    }

    fn make_room(&mut self) {
        if self.counted.len() < GROUPS_LIMIT {
            return;
        }
        let mut uses: Vec<u64> = self.counted.values().map(|group| group.last_used).collect();
        let middle = uses.len() / 2;
        let median = *uses.select_nth_unstable(middle).1;
        self.counted.retain(|_, group| group.last_used > median);
    }
}

impl Group {
    fn change(&mut self, slot: usize, sign: i64) {
        if self.per_node.len() <= slot {
            self.per_node.resize(slot + 1, 0);
        }
        if sign > 0 {
            self.per_node[slot] += 1;
            self.total += 1;
        } else {
            self.per_node[slot] = self.per_node[slot].saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
    }
}

fn counts(kind: &Kind, pod: &PodInfo, namespaces: &Namespaces) -> bool {
    match kind {
        Kind::Selected(selectors) => selectors
            .iter()
            .all(|selector| selector.selects(pod, namespaces)),
        Kind::Siblings(siblings) => !pod.terminating && siblings.include(pod),
        Kind::Avoiding(_) | Kind::Wishing(..) => false,
    }
}

/// The terms of a placed pod that concern pods to come.
pub fn held_kinds(pod: &PodInfo) -> impl Iterator<Item = Kind> {
    let avoiding = pod
        .anti_affinity
        .iter()
        .map(|term| Kind::Avoiding(term.clone()));
    let needing = pod
        .affinity
        .iter()
        .map(|term| Kind::Wishing(HARD_WEIGHT, term.clone()));
    let wishing = pod
        .preferred
        .iter()
        .map(|(weight, term)| Kind::Wishing(*weight, term.clone()));
    avoiding.chain(needing).chain(wishing)
}
