//! ReplicaSet and ReplicationController: own pods. Watches them and Pods; creates, deletes, adopts and releases pods, writes
//! their `status`. What the two kinds share is in `replicated`; which pod goes first when there are too many is in `rank`.

mod rank;
mod replicated;
mod status;

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::events::EventKind;
use corten_client::object::{controller_of, controller_reference};
use corten_client::runner::{Action, Controller, Failed, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

pub use self::replicated::Replicated;
use crate::pods::{self, BY_CONTROLLER};

/// At most so many pods are made or removed in one run; the rest follows in the next. Upstream's burst.
const BURST: usize = 500;

/// The controller over its caches.
pub struct ReplicaSets<K: Replicated> {
    /// All ReplicaSets, or all ReplicationControllers.
    pub sets: Cache<K>,
    /// All pods, indexed by [`BY_CONTROLLER`].
    pub pods: Cache<Pod>,
}

/// What one plan depends on.
pub struct View<K> {
    /// The set, unless it is gone.
    pub set: Option<Arc<K>>,
    /// Pods that it manages.
    pub owned: Vec<Arc<Pod>>,
    /// Pods that match and nobody manages.
    pub orphans: Vec<Arc<Pod>>,
}

impl<K: Replicated> ReplicaSets<K> {
    /// Keys to wake for a changed ReplicaSet.
    pub fn of_set(&self, change: &Change<K>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed pod: its manager before and after, or whoever might adopt it.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        let mut keys: Vec<ObjectName> = std::iter::once(change.object())
            .chain(change.old())
            .filter_map(|pod| manager::<K>(pod))
            .collect();
        let pod = change.object();
        if controller_of(&pod.metadata).is_none() && pod.metadata.deletion_timestamp.is_none() {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let sets = self.sets.list_namespace(namespace);
            keys.extend(
                sets.iter()
                    .filter(|set| matches(&***set, pod))
                    .map(|set| ObjectName::of(&**set)),
            );
        }
        keys.dedup();
        keys
    }
}

fn manager<K: Replicated>(pod: &Pod) -> Option<ObjectName> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == K::KIND)?;
    Some(ObjectName::new(
        pod.metadata.namespace.clone().unwrap_or_default(),
        owner.name.clone(),
    ))
}

fn matches<K: Replicated>(set: &K, pod: &Pod) -> bool {
    set.selects(pod.metadata.labels.as_ref())
}

impl<K: Replicated> Controller for ReplicaSets<K> {
    type Key = ObjectName;
    type View = View<K>;

    fn name(&self) -> &'static str {
        K::CONTROLLER
    }

    fn view(&self, key: &ObjectName) -> View<K> {
        let Some(set) = self.sets.get_named(key) else {
            return View {
                set: None,
                owned: Vec::new(),
                orphans: Vec::new(),
            };
        };
        let owned = self.pods.by_index(
            BY_CONTROLLER,
            set.metadata().uid.as_deref().unwrap_or_default(),
        );
        let free = |pod: &Arc<Pod>| {
            controller_of(&pod.metadata).is_none() && pods::is_active(pod) && matches(&*set, pod)
        };
        let orphans = self
            .pods
            .list_namespace(&key.namespace)
            .into_iter()
            .filter(free)
            .collect();
        View {
            set: Some(set),
            owned,
            orphans,
        }
    }

    fn plan(&self, view: &View<K>, now: Timestamp) -> Plan {
        let Some(set) = &view.set else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        let mut mine: Vec<&Arc<Pod>> = Vec::new();
        let uid = set.metadata().uid.as_deref().unwrap_or_default();
        let deleting = set.metadata().deletion_timestamp.is_some();
        for pod in &view.owned {
            if matches(&**set, pod) || !pods::is_active(pod) {
                mine.push(pod);
            } else {
                plan.push(Action::merge(
                    &**pod,
                    pods::release_patch(&pod.metadata, uid),
                ));
            }
        }
        if !deleting {
            if !view.orphans.is_empty() {
                // The cache may not know yet that the set is gone or going: its pods would go with it.
                plan.push(Action::expect_alive(&**set));
            }
            for pod in &view.orphans {
                plan.push(Action::merge(
                    &**pod,
                    pods::adopt_patch(&pod.metadata, &controller_reference(&**set)),
                ));
                mine.push(pod);
            }
            scale(&**set, &mine, now, &mut plan);
        }
        // Of what is there now: the pods planned above are counted when they have come.
        if let Some(action) = status::update(&**set, &mine, &[], now, &mut plan) {
            plan.push(action);
        }
        plan
    }

    fn after_failure(&self, view: &View<K>, failed: &[Failed], now: Timestamp) -> Plan {
        let Some(set) = &view.set else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        for failure in failed {
            if let Action::Create { .. } = failure.tried {
                let message = format!("Error creating: {}", failure.error);
                plan.push(Action::event(
                    &**set,
                    EventKind::Warning,
                    "FailedCreate",
                    message,
                ));
            }
        }
        let owned: Vec<&Arc<Pod>> = view.owned.iter().collect();
        if let Some(action) = status::update(&**set, &owned, failed, now, &mut Plan::nothing()) {
            plan.push(action);
        }
        plan
    }
}

/// Creates what is missing, or deletes what is too much.
fn scale<K: Replicated>(set: &K, mine: &[&Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let active: Vec<&Arc<Pod>> = mine
        .iter()
        .filter(|pod| pods::is_active(pod))
        .copied()
        .collect();
    let wanted = usize::try_from(set.replicas()).unwrap_or_default();
    if active.len() < wanted {
        create(set, (wanted - active.len()).min(BURST), now, plan);
    } else if active.len() > wanted {
        let excess = (active.len() - wanted).min(BURST);
        let victims = rank::victims(&active, excess, now);
        plan.actions
            .extend(victims.iter().map(|pod| Action::delete(&***pod)));
        for pod in victims {
            let message = format!(
                "Deleted pod: {}",
                pod.metadata.name.as_deref().unwrap_or_default()
            );
            plan.push(Action::event(
                set,
                EventKind::Normal,
                "SuccessfulDelete",
                message,
            ));
        }
    }
}

fn create<K: Replicated>(set: &K, count: usize, now: Timestamp, plan: &mut Plan) {
    let Some(template) = set.template() else {
        return;
    };
    let namespace = set.metadata().namespace.as_deref().unwrap_or_default();
    let (base, uid) = (
        set.metadata().name.as_deref().unwrap_or_default(),
        set.metadata().uid.as_deref().unwrap_or_default(),
    );
    let mut names = Vec::with_capacity(count);
    for index in 0..count {
        // Unique over time and owners; a collision fails the create, and the next run has another time.
        let seed = format!("{uid}/{}/{index}", now.as_nanosecond());
        let name = format!(
            "{}-{}",
            crate::truncated(base, 57),
            pods::short_name(seed.as_bytes(), 5)
        );
        let pod = pods::from_template(template, namespace, name.clone(), controller_reference(set));
        plan.push(Action::create(&pod));
        names.push(name);
    }
    for name in names {
        plan.push(Action::event(
            set,
            EventKind::Normal,
            "SuccessfulCreate",
            format!("Created pod: {name}"),
        ));
    }
}

#[cfg(test)]
mod tests;
