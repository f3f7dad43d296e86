//! One attempt to place one pod, and what follows from it: assume and bind; or wait, tell why, and perhaps evict.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::Shell;
use super::report::Report;
use crate::core::disruption::Budget;
use crate::core::explain::{NoFit, waits};
use crate::core::place::place;
use crate::core::pod::PodInfo;
use crate::core::preempt::{Preemption, preempt, still_waits};
use crate::queue::Turn;

impl Shell {
    pub(super) fn attempt(&mut self, turn: &Turn) {
        let begin = Instant::now();
        let state = &mut self.state;
        match place(
            &mut state.cluster,
            &turn.pod,
            &state.options,
            &mut state.rng,
        ) {
            Ok(slot) => {
                let node = state.cluster.node(slot).name.clone();
                state.cluster.add_pod(&turn.pod, &node);
                state.assumed.insert(turn.pod.uid.clone());
                self.metrics.attempt("scheduled", begin.elapsed());
                self.binder.bind(&turn.pod, &node, turn.added);
            }
            Err(no_fit) => {
                self.no_fit(&turn.pod, &no_fit);
                self.metrics.attempt("unschedulable", begin.elapsed());
            }
        }
    }

    fn no_fit(&mut self, pod: &Arc<PodInfo>, no_fit: &NoFit) {
        let now = Instant::now();
        let state = &mut self.state;
        let budgets: Vec<&Budget> = state.budgets.values().collect();
        let offset = state.cluster.next_search_offset();
        let preemption = preempt(&mut state.cluster, pod, no_fit, &budgets, offset);
        let gives_up = preemption.is_err()
            && pod.nominated.is_some()
            && !still_waits(&state.cluster, pod, no_fit);
        if gives_up {
            // Else the node would be kept free of less important pods for one that cannot use it.
            state.cluster.clear_nomination(&pod.uid);
            state.queue.set_nominated(&pod.uid, None);
            state.queue.wake(waits::ROOM | waits::PODS, now);
        }
        state.queue.wait_for(&pod.uid, no_fit.waits_for(), now);
        let mut report = Report {
            pod: Arc::clone(pod),
            message: no_fit.message(
                &state.cluster,
                preemption.as_ref().err().map(String::as_str),
            ),
            nominated: None,
            victims: Vec::new(),
            gives_up,
            told_before: false,
        };
        match preemption {
            Ok(preemption) => {
                self.metrics.preempted(preemption.victims.len());
                self.reserve(pod, &preemption);
                report.nominated = Some(preemption.node);
                report.victims = preemption.victims;
            }
            Err(_) => report.told_before = !gives_up && self.was_told(pod, &report.message),
        }
        let why = format!("{}: {}", pod.full_name(), report.message);
        self.log.failed(Timestamp::now(), why);
        if !self.reporter.send(report) {
            self.metrics.dropped();
        }
    }

    /// Keeps the node's room for the pod; whoever waits there and is less important waits on elsewhere.
    fn reserve(&mut self, pod: &Arc<PodInfo>, preemption: &Preemption) {
        let state = &mut self.state;
        let displaced: Vec<Arc<PodInfo>> = state
            .cluster
            .nominated_to(&preemption.node)
            .iter()
            .filter(|other| other.priority < pod.priority)
            .cloned()
            .collect();
        for other in displaced {
            state.cluster.clear_nomination(&other.uid);
            state.queue.set_nominated(&other.uid, None);
            self.reporter.clear_nomination(&other);
        }
        let nominated = state.queue.set_nominated(&pod.uid, Some(&preemption.node));
        state
            .cluster
            .nominate(nominated.as_ref().unwrap_or(pod), &preemption.node);
    }

    /// Whether the pod's condition says just this already.
    fn was_told(&self, pod: &PodInfo, message: &str) -> bool {
        let Some(held) = self.caches.pods.get(&pod.namespace, &pod.name) else {
            return false;
        };
        let conditions = held
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
                && condition.message.as_deref() == Some(message)
        })
    }
}
