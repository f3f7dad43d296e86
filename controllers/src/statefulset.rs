//! StatefulSet: owns pods with an identity, and the ControllerRevisions that tell them apart; makes the claims of their
//! volumes. Watches all of these; creates, deletes, adopts, releases and labels pods, creates claims and sets their owners,
//! writes `statefulsets/status`. The order of a run is the order of the functions in `plan`.
//!
//! ```text
//!  pods, revisions ── keep ── current and update revision ──┬── replicas: replace, create, mend     ┐ one by one when
//!                                                           ├── condemned: delete, highest first    │ ordered, else
//!                                                           └── rolling update: delete, highest first ┘ all at once
//!                         ── status ── prune history
//! ```
//!
//! Invariant: a pod is found by its name; there is never more than one pod of an ordinal.

mod identity;
mod retention;
mod rollout;
mod status;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::events::EventKind;
use corten_client::runner::{Action, Controller, Failed, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use self::rollout::{Release, Rollout};
use crate::history::{self, History, Revisions, Versioned};
use crate::ownership;
use crate::pods::{self, BY_CONTROLLER};

/// Claims by their name.
type Claims = BTreeMap<String, Arc<PersistentVolumeClaim>>;

/// The controller over its caches.
pub struct StatefulSets {
    /// All StatefulSets.
    pub sets: Cache<StatefulSet>,
    /// All pods, indexed by [`BY_CONTROLLER`].
    pub pods: Cache<Pod>,
    /// All PersistentVolumeClaims.
    pub claims: Cache<PersistentVolumeClaim>,
    /// All ControllerRevisions, indexed by [`BY_CONTROLLER`].
    pub revisions: Cache<ControllerRevision>,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The set, unless it is gone.
    pub set: Option<Arc<StatefulSet>>,
    /// Pods that it manages.
    pub owned: Vec<Arc<Pod>>,
    /// Pods that match, by labels and name, and nobody manages.
    pub orphans: Vec<Arc<Pod>>,
    /// Its revisions.
    pub revisions: Revisions,
    /// The claims of its pods that exist, by name.
    pub claims: Claims,
}

impl Versioned for StatefulSet {
    // The label `controller-revision-hash` is for pods, and holds the whole name.
    const HASH_LABEL: &'static str = "controller.kubernetes.io/hash";

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn collisions(&self) -> i32 {
        let status = self.status.as_ref();
        status
            .and_then(|status| status.collision_count)
            .unwrap_or(0)
    }
}

/// How many pods are wanted.
fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn min_ready_seconds(set: &StatefulSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// Whether pods are replaced when the template changes.
fn is_rolling(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    let kind = strategy.and_then(|strategy| strategy.type_.as_deref());
    kind.is_none_or(|kind| kind == "RollingUpdate")
}

fn name_of(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// Whether a pod is the set's by its labels and its name.
fn matches(set: &StatefulSet, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    selector.is_some_and(|selector| pods::selects(selector, labels))
        && identity::is_member(set, pod)
}

impl StatefulSets {
    /// Keys to wake for a changed StatefulSet.
    pub fn of_set(&self, change: &Change<StatefulSet>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed pod: its manager before and after, or whoever might adopt it.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        ownership::woken(&self.sets, change, matches)
    }

    /// Keys to wake for a changed revision.
    pub fn of_revision(&self, change: &Change<ControllerRevision>) -> Vec<ObjectName> {
        history::woken(&self.sets, change)
    }

    /// Keys to wake for a changed claim: the sets whose pods use it, by its name.
    pub fn of_claim(&self, change: &Change<PersistentVolumeClaim>) -> Vec<ObjectName> {
        let meta = &change.object().metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let sets = self
            .sets
            .list_namespace(meta.namespace.as_deref().unwrap_or_default());
        let using = sets.iter().filter(|set| storage::uses(set, name));
        using.map(|set| ObjectName::of(&**set)).collect()
    }

    /// The claims of all pods that are or shall be.
    fn claims_of(&self, set: &StatefulSet, pods: &[&[Arc<Pod>]]) -> Claims {
        let wanted = identity::ordinals(set);
        let present = pods.iter().flat_map(|pods| pods.iter());
        let present = present.filter_map(|pod| identity::ordinal(pod));
        let ordinals: BTreeSet<i32> = wanted.chain(present).collect();
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        ordinals
            .into_iter()
            .flat_map(|ordinal| storage::names(set, ordinal))
            .filter_map(|name| Some((name.clone(), self.claims.get(namespace, &name)?)))
            .collect()
    }
}

impl Controller for StatefulSets {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(set) = self.sets.get_named(key) else {
            return View::default();
        };
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let owned = self.pods.by_index(BY_CONTROLLER, uid);
        let orphans = ownership::free(&self.pods, &key.namespace, |pod| matches(&set, pod));
        View {
            claims: self.claims_of(&set, &[&owned, &orphans]),
            revisions: Revisions::of(&*set, &self.revisions),
            owned,
            orphans,
            set: Some(set),
        }
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let Some(set) = view.set.as_deref() else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        let history = History::keep(set, &view.revisions, &mut plan);
        let fits = |pod: &Pod| matches(set, pod);
        let pods = ownership::keep(set, &view.owned, &view.orphans, fits, &mut plan);
        let deleting = set.metadata.deletion_timestamp.is_some();
        let update = if deleting {
            // Nothing new for a set that goes; without a revision there is no status to tell either.
            history.newest_equal(set).cloned()
        } else {
            history.current(set, &mut plan)
        };
        let Some(update) = update else { return plan };
        let told = set
            .status
            .as_ref()
            .and_then(|s| s.current_revision.as_deref());
        let current = told.and_then(|name| history.find(name)).unwrap_or(&update);
        let (current, update) = (Release::of(current, set), Release::of(&update, set));
        let mut replaced = 0;
        if !deleting {
            let claims = &view.claims;
            let rollout = Rollout::new(set, &current, &update, &pods, claims, now);
            replaced = rollout.run(&mut plan);
        }
        // Groups of their own: a pod that cannot be made does not keep the status from being told.
        plan.begin_group();
        let revisions = (current.name.as_str(), update.name.as_str());
        status::update(set, &pods, revisions, replaced, now, &mut plan);
        if !deleting {
            plan.begin_group();
            prune(set, &history, &pods, revisions, &mut plan);
        }
        plan
    }

    fn after_failure(&self, view: &View, failed: &[Failed], _now: Timestamp) -> Plan {
        let Some(set) = view.set.as_deref() else {
            return Plan::nothing();
        };
        if let Some(counted) = history::collision(set, failed, &self.revisions) {
            return Plan::of([counted]);
        }
        let mut plan = Plan::nothing();
        for (reason, message) in failed.iter().flat_map(|failure| told(set, failure)) {
            plan.push(Action::event(set, EventKind::Warning, reason, message));
        }
        plan
    }
}

/// Drops revisions beyond `revisionHistoryLimit` that neither the status nor a pod names.
fn prune(
    set: &StatefulSet,
    history: &History,
    pods: &[Arc<Pod>],
    (current, update): (&str, &str),
    plan: &mut Plan,
) {
    let spec = set.spec.as_ref();
    let limit = spec.and_then(|s| s.revision_history_limit);
    let Ok(limit) = usize::try_from(limit.unwrap_or(history::LIMIT)) else {
        return; // a negative limit is none
    };
    let mut live: BTreeSet<&str> = pods.iter().map(|pod| identity::revision(pod)).collect();
    live.extend([current, update]);
    let is_live = |revision: &ControllerRevision| live.contains(history::name_of(revision));
    let dead = history.all().iter().filter(|revision| !is_live(revision));
    let excess = dead.count().saturating_sub(limit);
    history.prune(excess, is_live, plan);
}

/// The events that tell of a failed write: reason and message.
fn told(set: &StatefulSet, failure: &Failed) -> Vec<(&'static str, String)> {
    let (name, error) = (name_of(set), &failure.error);
    let pod_event = |verb: &str, pod: &str, why: &str| {
        format!("{verb} Pod {pod} in StatefulSet {name} failed error: {why}")
    };
    match &failure.tried {
        // Somebody else's object of that name, or one that the cache does not show yet: not worth a word.
        Action::Create { .. } if error.is_already_exists() => Vec::new(),
        Action::Create { target, object } if target.resource == "pods" => {
            let pod = object["metadata"]["name"].as_str().unwrap_or_default();
            vec![("FailedCreate", pod_event("Create", pod, &error.to_string()))]
        }
        Action::Create { target, object } if target.resource == "persistentvolumeclaims" => {
            let claim = object["metadata"]["name"].as_str().unwrap_or_default();
            let ordinal = claim.rsplit_once('-').map_or("", |(_, ordinal)| ordinal);
            let pod = format!("{name}-{ordinal}");
            let of_claim = format!(
                "Create Claim {claim} for Pod {pod} in StatefulSet {name} failed error: {error}"
            );
            let why = format!("failed to create PVC {claim}: {error}");
            vec![
                ("FailedCreate", of_claim),
                ("FailedCreate", pod_event("Create", &pod, &why)),
            ]
        }
        Action::Delete { target, .. } if target.resource == "pods" => {
            let message = pod_event("Delete", &target.name, &error.to_string());
            vec![("FailedDelete", message)]
        }
        Action::Update { target, .. } if target.resource == "pods" => {
            let message = pod_event("Update", &target.name, &error.to_string());
            vec![("FailedUpdate", message)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
