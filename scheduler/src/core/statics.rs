//! What a node's labels and taints mean for a kind of pod, computed once per (kind, node) and kept until the node changes.
//! Pods of one Deployment ask the same question thousands of times. Invariant: a kept verdict is what `judge` would say now.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::{NodeInfo, NodeSpec, Taint};
use super::pod::StaticSpec;

/// Kinds of pods kept; each costs 16 bytes per node.
const CLASSES_LIMIT: usize = 512;

/// The answer for one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Node selector and required node affinity hold.
    pub selected: bool,
    /// No untolerated taint forbids scheduling.
    pub tolerated: bool,
    /// The node is not cordoned, or the pod tolerates that.
    pub open: bool,
    /// Untolerated PreferNoSchedule taints.
    pub soft_taints: u16,
    /// The sum of the weights of preferred terms that match.
    pub preference: i32,
}

impl Verdict {
    /// Whether the pod may run there as far as labels and taints go.
    pub fn allows(&self) -> bool {
        self.selected && self.tolerated && self.open
    }
}

/// The key of the taint that cordoned nodes get.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

impl StaticSpec {
    /// Judges a node.
    pub fn judge(&self, name: &str, node: &NodeSpec) -> Verdict {
        let by_selector = self
            .node_selector
            .iter()
            .all(|req| req.accepts(node.labels.get(&req.key).map(String::as_str)));
        let by_affinity = self
            .node_affinity
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|term| term.matches(name, &node.labels)));
        let wishes = self
            .preferred
            .iter()
            .filter(|(_, term)| term.matches(name, &node.labels));
        Verdict {
            selected: by_selector && by_affinity,
            tolerated: self.untolerated(node).is_none(),
            open: !node.unschedulable || self.tolerates(UNSCHEDULABLE, "", "NoSchedule"),
            soft_taints: self.soft_taints(node),
            preference: wishes.map(|(weight, _)| weight).sum(),
        }
    }

    /// The first taint that forbids scheduling.
    pub fn untolerated<'a>(&self, node: &'a NodeSpec) -> Option<&'a Taint> {
        node.taints.iter().find(|taint| {
            matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
                && !self.tolerates(&taint.key, &taint.value, &taint.effect)
        })
    }

    fn soft_taints(&self, node: &NodeSpec) -> u16 {
        let soft = node.taints.iter().filter(|taint| {
            taint.effect == "PreferNoSchedule"
                && !self.tolerates(&taint.key, &taint.value, &taint.effect)
        });
        u16::try_from(soft.count()).unwrap_or(u16::MAX)
    }

    fn tolerates(&self, key: &str, value: &str, effect: &str) -> bool {
        self.tolerations
            .iter()
            .any(|toleration| toleration.tolerates(key, value, effect))
    }
}

#[derive(Clone, Debug, Default)]
struct Class {
    verdicts: Vec<Option<Verdict>>,
    last_used: u64,
}

/// All kept verdicts.
#[derive(Clone, Debug, Default)]
pub struct Statics {
    classes: HashMap<Arc<StaticSpec>, Class>,
    clock: u64,
}

/// The verdicts for one kind of pod.
pub struct Verdicts<'a> {
    spec: &'a StaticSpec,
    class: &'a mut Class,
}

impl Verdicts<'_> {
    /// The verdict on a node; a node that does not exist is closed.
    pub fn of(&mut self, slot: usize, node: &NodeInfo) -> Verdict {
        if let Some(Some(verdict)) = self.class.verdicts.get(slot) {
            return *verdict;
        }
        let verdict = match &node.spec {
            Some(spec) => self.spec.judge(&node.name, spec),
            None => Verdict {
                selected: false,
                tolerated: false,
                open: false,
                soft_taints: 0,
                preference: 0,
            },
        };
        if self.class.verdicts.len() <= slot {
            self.class.verdicts.resize(slot + 1, None);
        }
        self.class.verdicts[slot] = Some(verdict);
        verdict
    }
}

impl Statics {
    /// The verdicts for pods that ask for `spec`.
    pub fn of<'a>(&'a mut self, spec: &'a Arc<StaticSpec>) -> Verdicts<'a> {
        self.clock += 1;
        if !self.classes.contains_key(spec) {
            self.make_room();
            self.classes.insert(Arc::clone(spec), Class::default());
        }
        let class = self.classes.get_mut(spec).expect("just made sure of it");
        class.last_used = self.clock;
        Verdicts { spec, class }
    }

    /// A node changed: all verdicts on it are void.
    pub fn forget_node(&mut self, slot: usize) {
        for class in self.classes.values_mut() {
            if let Some(verdict) = class.verdicts.get_mut(slot) {
                *verdict = None;
            }
        }
    }

    fn make_room(&mut self) {
        if self.classes.len() < CLASSES_LIMIT {
            return;
        }
        let mut uses: Vec<u64> = self.classes.values().map(|class| class.last_used).collect();
        let middle = uses.len() / 2;
        let median = *uses.select_nth_unstable(middle).1;
        self.classes.retain(|_, class| class.last_used > median);
    }
}
