//! Disruption budgets as preemption sees them. Read from the API's status; never changed here (the API server counts the
//! victims down when they are evicted or go).

use std::collections::HashSet;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::pod::PodInfo;
use super::selector::Selector;

/// How many more pods of a kind may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub namespace: String,
    pub selector: Selector,
    pub allowed: i32,
    /// Pods that are counted as gone already.
    pub disrupted: HashSet<String>,
}

impl Budget {
    /// Reads a budget. One without a selector covers nothing.
    pub fn read(budget: &PodDisruptionBudget) -> Self {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            selector: Selector::compile(selector),
            allowed: status.map_or(0, |status| status.disruptions_allowed),
            disrupted: disrupted
                .into_iter()
                .flat_map(|pods| pods.keys().cloned())
                .collect(),
        }
    }

    fn covers(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.namespace
            && !pod.labels.is_empty()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(&pod.name)
    }
}

/// For each pod, whether its going (after those before it) would break a budget.
pub(super) fn violations<'a>(
    pods: impl Iterator<Item = &'a PodInfo>,
    budgets: &[&Budget],
) -> Vec<bool> {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.map(|pod| {
        let mut violates = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            if budget.covers(pod) {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        violates
    })
    .collect()
}
