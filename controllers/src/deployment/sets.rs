//! The ReplicaSets of one Deployment: which is the new one, which are old, and what they carry in annotations. Also the
//! numbers that the strategy allows.

use std::sync::Arc;

use corten_client::events::EventKind;
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::{create, template};
use crate::amount::scaled;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// One set with the size that this plan gives it.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) object: Arc<ReplicaSet>,
    pub(super) size: i32,
}

impl Set {
    pub(super) fn available(&self) -> i32 {
        self.object
            .status
            .as_ref()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0)
    }

    pub(super) fn revision(&self) -> i64 {
        annotation(&self.object, REVISION)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }
}

pub(super) fn annotation<'a>(set: &'a ReplicaSet, name: &str) -> Option<&'a str> {
    set.metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

/// The sets of a Deployment, sorted by age.
#[derive(Debug)]
pub(super) struct Sets {
    pub(super) new: Option<Set>,
    /// Oldest first.
    pub(super) old: Vec<Set>,
}

impl Sets {
    pub(super) fn of(deployment: &Deployment, all: &[Arc<ReplicaSet>]) -> Self {
        let mut sets: Vec<Set> = all
            .iter()
            .map(|set| Set {
                object: Arc::clone(set),
                size: set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0),
            })
            .collect();
        let age = |set: &Set| {
            (
                set.object.metadata.creation_timestamp.as_ref().map(|t| t.0),
                set.object.metadata.name.clone(),
            )
        };
        sets.sort_by_key(age);
        // Of several that fit, the oldest: the choice must be the same each time.
        let new = sets
            .iter()
            .position(|set| Self::is_for(deployment, &set.object));
        let new = new.map(|index| sets.remove(index));
        Self { new, old: sets }
    }

    /// Whether a set makes the pods that the Deployment asks for now.
    pub(super) fn is_for(deployment: &Deployment, set: &ReplicaSet) -> bool {
        let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
        let has = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        matches!((wanted, has), (Some(wanted), Some(has)) if template::equal(wanted, has))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.new.iter().chain(&self.old)
    }

    /// Pods that all sets together shall have.
    pub(super) fn total(&self) -> i32 {
        self.all().map(|set| set.size).sum()
    }

    pub(super) fn available(&self) -> i32 {
        self.all().map(Set::available).sum()
    }

    /// Makes sure that there is a new set with the right revision; what is created starts with `size` pods.
    pub(super) fn ensure_new(&mut self, deployment: &Deployment, size: i32, plan: &mut Plan) {
        if self.new.is_none() {
            create::create(deployment, self, size, plan);
        } else {
            self.renumber(deployment, plan);
        }
    }

    /// The new set carries the highest revision (an undo moves an old set up), and the Deployment shows it.
    pub(super) fn renumber(&self, deployment: &Deployment, plan: &mut Plan) {
        let Some(new) = &self.new else { return };
        let highest_old = self.old.iter().map(Set::revision).max().unwrap_or(0);
        let revision = new.revision().max(highest_old + 1);
        let mut patch = serde_json::Map::new();
        if revision != new.revision() {
            patch.insert(REVISION.to_owned(), json!(revision.to_string()));
            if new.revision() > 0 {
                let before = annotation(&new.object, HISTORY)
                    .map(|h| format!("{h},"))
                    .unwrap_or_default();
                patch.insert(
                    HISTORY.to_owned(),
                    json!(format!("{before}{}", new.revision())),
                );
            }
        }
        let annotations = deployment.metadata.annotations.clone().unwrap_or_default();
        for (key, value) in annotations.iter().filter(|(key, _)| create::is_copied(key)) {
            if annotation(&new.object, key) != Some(value) {
                patch.insert(key.clone(), json!(value));
            }
        }
        let spec = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0);
        let has = new
            .object
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0);
        let mut change = json!({});
        if spec != has {
            change["spec"] = json!({"minReadySeconds": spec});
        }
        if !patch.is_empty() {
            change["metadata"] = json!({"annotations": patch});
        }
        if change != json!({}) {
            plan.push(Action::merge(&*new.object, change));
        }
        if annotations.get(REVISION) != Some(&revision.to_string()) {
            plan.push(Action::merge(
                deployment,
                json!({"metadata": {"annotations": {REVISION: revision.to_string()}}}),
            ));
        }
    }

    /// The new set alone is what is wanted, so the old ones may go.
    pub(super) fn is_saturated(&self, deployment: &Deployment) -> bool {
        let wanted = replicas(deployment);
        self.new.as_ref().is_some_and(|new| {
            let noted = annotation(&new.object, DESIRED) == Some(&wanted.to_string());
            noted && new.size == wanted && new.available() == wanted
        })
    }

    /// All pods are of the new set, and available.
    pub(super) fn is_complete(&self, deployment: &Deployment) -> bool {
        let Some(new) = &self.new else { return false };
        let wanted = replicas(deployment);
        let status = new.object.status.as_ref();
        new.size == wanted
            && status.is_some_and(|s| s.replicas == wanted)
            && new.available() == wanted
            && self.old.iter().all(|set| {
                set.size == 0 && set.object.status.as_ref().is_none_or(|s| s.replicas == 0)
            })
    }

    /// Drops the oldest empty sets beyond `revisionHistoryLimit`.
    pub(super) fn prune(&self, deployment: &Deployment, plan: &mut Plan) {
        let limit = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit)
            .unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or_default();
        let idle = |set: &&Set| {
            set.size == 0
                && set.object.metadata.deletion_timestamp.is_none()
                && set.object.status.as_ref().is_some_and(|s| {
                    s.replicas == 0 && s.observed_generation == set.object.metadata.generation
                })
        };
        let excess = self.old.len().saturating_sub(limit);
        let mut by_revision: Vec<&Set> = self.old.iter().collect();
        by_revision.sort_by_key(|set| set.revision());
        plan.actions.extend(
            by_revision
                .into_iter()
                .take(excess)
                .filter(idle)
                .map(|set| Action::delete(&*set.object)),
        );
    }
}

/// Gives a set another size, with the annotations that proportional scaling reads later, and says so.
pub(super) fn resize(deployment: &Deployment, set: &mut Set, size: i32, plan: &mut Plan) {
    let (desired, max) = (
        replicas(deployment).to_string(),
        (replicas(deployment) + max_surge(deployment)).to_string(),
    );
    let noted = annotation(&set.object, DESIRED) == Some(&desired)
        && annotation(&set.object, MAX) == Some(&max);
    if set.size == size && noted {
        return;
    }
    let annotations = json!({DESIRED: desired, MAX: max});
    plan.push(Action::merge(
        &*set.object,
        json!({"metadata": {"annotations": annotations}, "spec": {"replicas": size}}),
    ));
    if set.size != size {
        let verb = if size > set.size { "up" } else { "down" };
        let message = format!(
            "Scaled {verb} replica set {} from {} to {size}",
            set.name(),
            set.size
        );
        plan.push(Action::event(
            deployment,
            EventKind::Normal,
            "ScalingReplicaSet",
            message,
        ));
    }
    set.size = size;
}

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

pub(super) fn strategy(deployment: &Deployment) -> &str {
    let strategy = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref());
    strategy
        .and_then(|s| s.type_.as_deref())
        .unwrap_or("RollingUpdate")
}

fn limits(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    if strategy(deployment) == "Recreate" {
        return (0, 0);
    }
    let quarter = || IntOrString::String("25%".to_owned());
    let surge = rolling
        .and_then(|r| r.max_surge.clone())
        .unwrap_or_else(quarter);
    let unavailable = rolling
        .and_then(|r| r.max_unavailable.clone())
        .unwrap_or_else(quarter);
    let total = replicas(deployment);
    let surge = scaled(&surge, total, true);
    let mut unavailable = scaled(&unavailable, total, false);
    if surge == 0 && unavailable == 0 {
        // Percentages may round to nothing; then nothing would ever move.
        unavailable = 1;
    }
    (surge, unavailable.min(total))
}

/// Pods allowed beyond `replicas`.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    limits(deployment).0
}

/// Pods that may be missing.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    limits(deployment).1
}
