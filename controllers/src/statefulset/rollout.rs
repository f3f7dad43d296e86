//! What is to be done about the pods, in this order: each replica, then the condemned, then the rolling update. An ordered
//! set ends at the first thing that has to be waited for; a parallel one does all that can be done. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::events::EventKind;
use corten_client::runner::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use super::{Claims, identity, is_rolling, min_ready_seconds, name_of, retention, storage};
use crate::amount::scaled;
use crate::history::{self, Versioned, data};
use crate::pods;

/// A revision as pods are made of it.
pub(super) struct Release {
    pub(super) name: String,
    pub(super) template: PodTemplateSpec,
}

impl Release {
    /// A revision that says nothing readable counts as the set's own template.
    pub(super) fn of(revision: &ControllerRevision, set: &StatefulSet) -> Self {
        let template = data::template_of(revision).or_else(|| set.template().cloned());
        Self {
            name: history::name_of(revision).to_owned(),
            template: template.unwrap_or_default(),
        }
    }
}

/// Whether what comes after may be done now, in an ordered set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Wait,
}

/// One run over the pods.
pub(super) struct Rollout<'a> {
    set: &'a StatefulSet,
    current: &'a Release,
    update: &'a Release,
    claims: &'a Claims,
    now: Timestamp,
    ordered: bool,
    /// One entry for each wanted ordinal.
    replicas: BTreeMap<i32, Option<&'a Arc<Pod>>>,
    /// Pods beyond the wanted ordinals, highest first.
    condemned: Vec<(i32, &'a Arc<Pod>)>,
}

fn pod_name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        set: &'a StatefulSet,
        current: &'a Release,
        update: &'a Release,
        pods: &'a [Arc<Pod>],
        claims: &'a Claims,
        now: Timestamp,
    ) -> Self {
        let mut replicas: BTreeMap<i32, Option<&Arc<Pod>>> = identity::ordinals(set)
            .map(|ordinal| (ordinal, None))
            .collect();
        let mut condemned = Vec::new();
        for pod in pods {
            let Some(ordinal) = identity::ordinal(pod) else {
                continue; // a number that no set can have: not ours to judge
            };
            match replicas.get_mut(&ordinal) {
                Some(slot) => *slot = Some(pod),
                None => condemned.push((ordinal, pod)),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        let policy = set
            .spec
            .as_ref()
            .and_then(|s| s.pod_management_policy.as_deref());
        Self {
            set,
            current,
            update,
            claims,
            now,
            ordered: policy != Some("Parallel"),
            replicas,
            condemned,
        }
    }

    /// Plans everything; how many pods are deleted because they are out of date.
    pub(super) fn run(&self, plan: &mut Plan) -> i32 {
        plan.begin_group();
        for (ordinal, pod) in &self.replicas {
            let next = match pod {
                Some(pod) => self.keep(*ordinal, pod, plan),
                None => self.create(*ordinal, plan),
            };
            if self.stops(next, plan) {
                return 0;
            }
        }
        if self.ordered {
            for (_, pod) in &self.condemned {
                retention::enforce(self.set, pod, self.claims, plan);
            }
        }
        for (_, pod) in &self.condemned {
            let next = self.condemn(pod, plan);
            if self.stops(next, plan) {
                return 0;
            }
        }
        if is_rolling(self.set) {
            self.replace_outdated(plan)
        } else {
            0
        }
    }

    /// Whether the run ends here. In a parallel set every pod is a group of its own: none waits for another.
    fn stops(&self, next: Next, plan: &mut Plan) -> bool {
        if !self.ordered {
            plan.begin_group();
        }
        self.ordered && next == Next::Wait
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, min_ready_seconds(self.set), self.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        !self.is_available(pod) || is_deleting(pod)
    }

    /// Whether the pods after this one need not wait for it.
    fn is_up(&self, pod: &Pod) -> bool {
        pods::phase(pod) == "Running" && self.is_available(pod)
    }

    /// Looks after a pod that is there.
    fn keep(&self, ordinal: i32, pod: &Pod, plan: &mut Plan) -> Next {
        if pods::is_finished(pod) {
            // How it ended says nothing about why: an evicted pod may have succeeded. The next one comes when it is gone.
            if !is_deleting(pod) {
                self.delete(pod, plan);
            }
            return Next::Wait;
        }
        let pending = pods::phase(pod) == "Pending";
        if pending {
            // It may wait for a claim that somebody deleted.
            if !self.make_claims(ordinal, pod_name(pod), plan).is_empty() {
                return Next::Wait;
            }
            retention::enforce(self.set, pod, self.claims, plan);
        }
        if self.ordered && (is_deleting(pod) || !self.is_up(pod)) {
            return Next::Wait;
        }
        self.mend(ordinal, pod, !pending, plan);
        Next::GoOn
    }

    /// Gives a pod back what belongs to its identity. Volumes cannot be changed: the server refuses, and that is told.
    fn mend(&self, ordinal: i32, pod: &Pod, with_owners: bool, plan: &mut Plan) {
        let mounted = storage::is_mounted(self.set, pod, ordinal);
        let labelled = identity::is_labelled(pod);
        if !mounted {
            self.make_claims(ordinal, pod_name(pod), plan);
        }
        let owned = with_owners && retention::enforce(self.set, pod, self.claims, plan);
        if !mounted {
            let mut changed = pod.clone();
            let spec = changed.spec.get_or_insert_default();
            storage::mount(self.set, spec, ordinal);
            plan.push(Action::update(&changed));
        } else if !labelled {
            plan.push(Action::merge(pod, identity::label_patch(pod, ordinal)));
        }
        if !mounted || !labelled || owned {
            self.tell("SuccessfulUpdate", "Update", pod_name(pod), plan);
        }
    }

    fn tell(&self, reason: &str, verb: &str, pod: &str, plan: &mut Plan) {
        let set = name_of(self.set);
        let message = format!("{verb} Pod {pod} in StatefulSet {set} successful");
        plan.push(Action::event(self.set, EventKind::Normal, reason, message));
    }

    fn delete(&self, pod: &Pod, plan: &mut Plan) {
        plan.push(Action::delete(pod));
        self.tell("SuccessfulDelete", "Delete", pod_name(pod), plan);
    }

    /// Plans the claims that are missing; the names of those that are about to go.
    fn make_claims(&self, ordinal: i32, pod: &str, plan: &mut Plan) -> Vec<String> {
        let mut going = Vec::new();
        let set = name_of(self.set);
        for claim in storage::claims(self.set, ordinal) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            match self.claims.get(&name) {
                Some(present) if present.metadata.deletion_timestamp.is_some() => going.push(name),
                Some(_) => {}
                None => {
                    plan.push(Action::create(&claim));
                    let message =
                        format!("Create Claim {name} Pod {pod} in StatefulSet {set} success");
                    let reason = "SuccessfulCreate";
                    plan.push(Action::event(self.set, EventKind::Normal, reason, message));
                }
            }
        }
        going
    }

    /// Makes the pod of an ordinal, its claims first.
    fn create(&self, ordinal: i32, plan: &mut Plan) -> Next {
        if retention::is_stale(self.set, ordinal, self.claims) {
            return Next::Wait;
        }
        let pod = identity::new_pod(self.set, self.release_of(ordinal), ordinal);
        let name = pod_name(&pod);
        let going = self.make_claims(ordinal, name, plan);
        if going.is_empty() {
            plan.push(Action::create(&pod));
            self.tell("SuccessfulCreate", "Create", name, plan);
        } else {
            let why: Vec<String> = going
                .iter()
                .map(|claim| format!("pvc {claim} is being deleted"))
                .collect();
            let (set, why) = (name_of(self.set), why.join(", "));
            let message = format!("Create Pod {name} in StatefulSet {set} failed error: {why}");
            let reason = "FailedCreate";
            plan.push(Action::event(self.set, EventKind::Warning, reason, message));
        }
        Next::Wait
    }

    /// Of what a new pod is made: below the partition of what was before.
    fn release_of(&self, ordinal: i32) -> &Release {
        let start = identity::start(self.set);
        let strategy = self
            .set
            .spec
            .as_ref()
            .and_then(|s| s.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let keeps = match rolling {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None if is_rolling(self.set) => {
                let status = self.set.status.as_ref();
                status.and_then(|s| s.current_replicas).unwrap_or(0)
            }
            None => 0,
        };
        if ordinal < start.saturating_add(keeps) {
            self.current
        } else {
            self.update
        }
    }

    /// Deletes a pod that is too many.
    fn condemn(&self, pod: &Arc<Pod>, plan: &mut Plan) -> Next {
        if !self.ordered {
            retention::enforce(self.set, pod, self.claims, plan);
        }
        if is_deleting(pod) {
            return Next::Wait;
        }
        if self.ordered && !self.is_up(pod) && !self.is_first_unavailable(pod) {
            return Next::Wait;
        }
        self.delete(pod, plan);
        Next::Wait
    }

    /// Whether no pod with a lower ordinal is unavailable: then waiting for this one would be waiting for itself.
    fn is_first_unavailable(&self, pod: &Arc<Pod>) -> bool {
        let replicas = self.replicas.values();
        let lowest_first = self.condemned.iter().rev().map(|(_, pod)| Some(*pod));
        let mut unavailable = replicas
            .copied()
            .chain(lowest_first)
            .filter(|pod| pod.is_none_or(|pod| self.is_unavailable(pod)));
        unavailable
            .next()
            .flatten()
            .is_some_and(|first| Arc::ptr_eq(first, pod))
    }

    /// Deletes pods of another revision, highest first, as many as may be unavailable; how many.
    fn replace_outdated(&self, plan: &mut Plan) -> i32 {
        let strategy = self
            .set
            .spec
            .as_ref()
            .and_then(|s| s.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        let total = i32::try_from(self.replicas.len()).unwrap_or(i32::MAX);
        let allowed = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        // A small percentage may round to nothing; then nothing would ever move.
        let allowed = allowed.map_or(1, |allowed| scaled(allowed, total, false).max(1));
        let missing = |pod: &Option<&Arc<Pod>>| pod.is_none_or(|pod| self.is_unavailable(pod));
        let missing = self.replicas.values().filter(|pod| missing(pod)).count();
        let left = usize::try_from(allowed)
            .unwrap_or(0)
            .saturating_sub(missing);
        let first = identity::start(self.set).saturating_add(partition);
        let outdated = self
            .replicas
            .range(first..)
            .rev()
            .filter_map(|(_, pod)| *pod);
        let outdated: Vec<&Arc<Pod>> = outdated
            .filter(|pod| identity::revision(pod) != self.update.name)
            // A finished one is replaced already.
            .filter(|pod| !is_deleting(pod) && !pods::is_finished(pod))
            .take(left)
            .collect();
        for pod in &outdated {
            if !self.ordered {
                plan.begin_group();
            }
            self.delete(pod, plan);
        }
        i32::try_from(outdated.len()).unwrap_or(i32::MAX)
    }
}
