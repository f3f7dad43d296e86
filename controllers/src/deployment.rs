//! Deployment: owns ReplicaSets. Watches Deployments and ReplicaSets (and pods, for `Recreate`); creates, scales and prunes
//! ReplicaSets, writes `deployments/status`. The order of a run is the order of the functions in `plan`.
//!
//! ```text
//!  sets ── adopt ── find new set, else create ── revision ──┬── paused or resized: scale in proportion
//!                                                           ├── Recreate: old to 0, then new
//!                                                           └── RollingUpdate: new up, old down, within surge and unavailable
//!       ── prune history ── status and conditions
//! ```

mod create;
mod recreate;
mod rolling;
mod scaling;
mod sets;
mod status;
mod template;

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::object::{controller_of, controller_reference};
use corten_client::runner::{Action, Controller, Failed, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::pods::{self, BY_CONTROLLER};
use sets::Sets;

/// The controller over its caches.
pub struct Deployments {
    /// All Deployments.
    pub deployments: Cache<Deployment>,
    /// All ReplicaSets, indexed by [`BY_CONTROLLER`].
    pub replica_sets: Cache<ReplicaSet>,
    /// All pods, indexed by [`BY_CONTROLLER`].
    pub pods: Cache<Pod>,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The Deployment, unless it is gone.
    pub deployment: Option<Arc<Deployment>>,
    /// ReplicaSets that it manages.
    pub owned: Vec<Arc<ReplicaSet>>,
    /// ReplicaSets that match and nobody manages.
    pub orphans: Vec<Arc<ReplicaSet>>,
    /// Uids of ReplicaSets that still have pods which may run, terminating ones included.
    pub with_pods: Vec<String>,
}

impl Deployments {
    /// Keys to wake for a changed Deployment.
    pub fn of_deployment(&self, change: &Change<Deployment>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed ReplicaSet.
    pub fn of_set(&self, change: &Change<ReplicaSet>) -> Vec<ObjectName> {
        let set = change.object();
        let mut keys: Vec<ObjectName> = std::iter::once(set)
            .chain(change.old())
            .filter_map(|set| manager(set))
            .collect();
        if controller_of(&set.metadata).is_none() {
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            let deployments = self.deployments.list_namespace(namespace);
            keys.extend(
                deployments
                    .iter()
                    .filter(|d| matches(d, set))
                    .map(|d| ObjectName::of(&**d)),
            );
        }
        keys.dedup();
        keys
    }

    /// Keys to wake for a pod that went or ended: `Recreate` waits for the last one.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        let pod = change.object();
        if matches!(change, Change::Added(_))
            || (matches!(change, Change::Updated { .. }) && !pods::is_finished(pod))
        {
            return Vec::new();
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
        let set = owner.and_then(|owner| self.replica_sets.get(namespace, &owner.name));
        set.and_then(|set| manager(&set)).into_iter().collect()
    }
}

fn manager(set: &ReplicaSet) -> Option<ObjectName> {
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    Some(ObjectName::new(
        set.metadata.namespace.clone().unwrap_or_default(),
        owner.name.clone(),
    ))
}

fn matches(deployment: &Deployment, set: &ReplicaSet) -> bool {
    deployment
        .spec
        .as_ref()
        .is_some_and(|spec| pods::selects(&spec.selector, set.metadata.labels.as_ref()))
}

impl Controller for Deployments {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(deployment) = self.deployments.get_named(key) else {
            return View::default();
        };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let owned = self.replica_sets.by_index(BY_CONTROLLER, uid);
        let free = |set: &Arc<ReplicaSet>| {
            controller_of(&set.metadata).is_none()
                && set.metadata.deletion_timestamp.is_none()
                && matches(&deployment, set)
        };
        let orphans = self
            .replica_sets
            .list_namespace(&key.namespace)
            .into_iter()
            .filter(free)
            .collect();
        let has_pods = |uid: &String| {
            self.pods
                .by_index(BY_CONTROLLER, uid)
                .iter()
                .any(|pod| !pods::is_finished(pod))
        };
        let with_pods = owned
            .iter()
            .filter_map(|set| set.metadata.uid.clone())
            .filter(has_pods)
            .collect();
        View {
            deployment: Some(deployment),
            owned,
            orphans,
            with_pods,
        }
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let Some(deployment) = &view.deployment else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        if deployment.metadata.deletion_timestamp.is_some() {
            let sets = Sets::of(deployment, &view.owned);
            status::update(deployment, &sets, now, &mut plan);
            return plan;
        }
        adopt(deployment, view, &mut plan);
        let kept = view.owned.iter().filter(|set| matches(deployment, set));
        let all: Vec<Arc<ReplicaSet>> = kept.chain(&view.orphans).cloned().collect();
        let mut sets = Sets::of(deployment, &all);
        let paused = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.paused)
            .unwrap_or(false);
        if paused || scaling::is_scaling(deployment, &sets) {
            sets.renumber(deployment, &mut plan);
            scaling::scale(deployment, &mut sets, &mut plan);
            if paused {
                sets.prune(deployment, &mut plan);
            }
        } else {
            let recreate = sets::strategy(deployment) == "Recreate";
            if recreate {
                recreate::roll(deployment, &mut sets, &view.with_pods, &mut plan);
            } else {
                rolling::roll(deployment, &mut sets, &mut plan);
            }
            if sets.is_complete(deployment) {
                sets.prune(deployment, &mut plan);
            }
        }
        status::update(deployment, &sets, now, &mut plan);
        plan
    }

    fn after_failure(&self, view: &View, failed: &[Failed], now: Timestamp) -> Plan {
        let Some(deployment) = &view.deployment else {
            return Plan::nothing();
        };
        let taken = failed.iter().find_map(|failure| match &failure.tried {
            Action::Create { object, .. } if failure.error.is_already_exists() => {
                object["metadata"]["name"].as_str()
            }
            _ => None,
        });
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let rival = taken.and_then(|name| self.replica_sets.get(namespace, name));
        // A set that the cache does not show yet may be our own: only one that cannot be is a collision.
        match rival.filter(|set| !Sets::is_for(deployment, set)) {
            Some(_) => Plan::of([create::count_collision(deployment)]),
            None => not_created(deployment, view, failed, now),
        }
    }
}

/// A ReplicaSet that the server refuses (by a quota, an admission step, its own validation) is told on the Deployment.
fn not_created(
    deployment: &Arc<Deployment>,
    view: &View,
    failed: &[Failed],
    now: Timestamp,
) -> Plan {
    let refused = failed.iter().find_map(|failure| match &failure.tried {
        // Lost races end by themselves, and in a namespace that goes there is nothing to tell.
        Action::Create { object, .. }
            if !failure.error.is_already_exists()
                && !failure.error.has_cause("NamespaceTerminating") =>
        {
            Some((object["metadata"]["name"].as_str()?, &failure.error))
        }
        _ => None,
    });
    let Some((name, error)) = refused else {
        return Plan::nothing();
    };
    let kept = view.owned.iter().filter(|set| matches(deployment, set));
    let all: Vec<Arc<ReplicaSet>> = kept.chain(&view.orphans).cloned().collect();
    let sets = Sets::of(deployment, &all);
    let message = format!("Failed to create new replica set {name:?}: {error}");
    let mut plan = Plan::nothing();
    status::not_created(deployment, &sets, message, now, &mut plan);
    plan
}

fn adopt(deployment: &Deployment, view: &View, plan: &mut Plan) {
    let owner = controller_reference(deployment);
    if !view.orphans.is_empty() {
        // The cache may not know yet that the Deployment is gone or going: its sets would go with it.
        plan.push(Action::expect_alive(deployment));
    }
    for set in &view.orphans {
        plan.push(Action::merge(
            &**set,
            pods::adopt_patch(&set.metadata, &owner),
        ));
    }
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    for set in view.owned.iter().filter(|set| !matches(deployment, set)) {
        plan.push(Action::merge(
            &**set,
            pods::release_patch(&set.metadata, uid),
        ));
    }
}

#[cfg(test)]
mod tests;
