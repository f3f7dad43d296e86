//! The ControllerRevisions of an owner: what its template was before, so that pods can be told apart and
//! `kubectl rollout history` and `undo` work. Pure; StatefulSets and DaemonSets plan with it.
//!
//! ```text
//! owned and free revisions ── keep ── History ── current: the newest equal one, raised if it is not the last, else a new one
//!                                            └── prune: the oldest that nothing uses
//! ```
//!
//! Invariant: the current revision always carries the highest number.

pub(crate) mod data;

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::object::{Object, controller_of, controller_reference};
use corten_client::runner::{Action, Failed, Plan};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::json;

use crate::ownership;
use crate::pods::{self, BY_CONTROLLER, short_name};

/// Letters of the hash in a revision's name.
const HASH_LETTERS: usize = 10;
/// The owner's share of a revision's name at most, in bytes: what is left of 253 holds a hyphen and the hash.
const PREFIX_MAX: usize = 223;
/// Old revisions that are kept where the owner does not say how many.
pub(crate) const LIMIT: i32 = 10;

/// A kind that has a history.
pub(crate) trait Versioned: Object {
    /// The label of a revision that holds its hash.
    const HASH_LABEL: &'static str;

    /// What is recorded.
    fn template(&self) -> Option<&PodTemplateSpec>;

    /// Whose revisions, by their labels, are its own.
    fn selector(&self) -> Option<&LabelSelector>;

    /// How often a name was taken by something else.
    fn collisions(&self) -> i32;
}

/// Whether an owner's selector takes these labels.
fn fits<K: Versioned>(owner: &K, revision: &ControllerRevision) -> bool {
    let labels = revision.metadata.labels.as_ref();
    owner
        .selector()
        .is_some_and(|selector| pods::selects(selector, labels))
}

/// The revisions that a plan depends on.
#[derive(Clone, Debug, Default)]
pub struct Revisions {
    /// Those that the owner manages.
    pub owned: Vec<Arc<ControllerRevision>>,
    /// Those that fit and nobody manages.
    pub orphans: Vec<Arc<ControllerRevision>>,
}

impl Revisions {
    /// Reads the cache.
    pub(crate) fn of<K: Versioned>(owner: &K, cache: &Cache<ControllerRevision>) -> Self {
        let meta = owner.metadata();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        Self {
            owned: cache.by_index(BY_CONTROLLER, meta.uid.as_deref().unwrap_or_default()),
            orphans: ownership::free(cache, namespace, |revision| fits(owner, revision)),
        }
    }
}

/// Keys to wake for a changed revision.
pub(crate) fn woken<K: Versioned>(
    owners: &Cache<K>,
    change: &Change<ControllerRevision>,
) -> Vec<ObjectName> {
    ownership::woken(owners, change, fits)
}

/// The revisions of one owner, by number.
#[derive(Debug)]
pub(crate) struct History {
    all: Vec<Arc<ControllerRevision>>,
}

impl History {
    /// What the owner has after adoption and release.
    pub(crate) fn keep<K: Versioned>(owner: &K, revisions: &Revisions, plan: &mut Plan) -> Self {
        let fits = |revision: &ControllerRevision| fits(owner, revision);
        let mut all = ownership::keep(owner, &revisions.owned, &revisions.orphans, fits, plan);
        all.sort_by_key(|revision| {
            let meta = &revision.metadata;
            let created = meta.creation_timestamp.as_ref().map(|time| time.0);
            (revision.revision, created, meta.name.clone())
        });
        Self { all }
    }

    /// A revision by its name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<ControllerRevision>> {
        self.all.iter().find(|revision| name_of(revision) == name)
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> &[Arc<ControllerRevision>] {
        &self.all
    }

    /// The newest revision that has the owner's template, if there is one.
    pub(crate) fn newest_equal<K: Versioned>(&self, owner: &K) -> Option<&Arc<ControllerRevision>> {
        let wanted = data::of(owner.template()?);
        let mut newest_first = self.all.iter().rev();
        newest_first.find(|revision| data::is_same(revision, &wanted))
    }

    /// The revision of the owner's template, with the highest number. It may only be planned yet.
    pub(crate) fn current<K: Versioned>(
        &self,
        owner: &K,
        plan: &mut Plan,
    ) -> Option<Arc<ControllerRevision>> {
        let template = owner.template()?;
        let Some(equal) = self.newest_equal(owner) else {
            let created = self.create(owner, template);
            plan.push(Action::create(&created));
            return Some(Arc::new(created));
        };
        let others = self.all.iter().filter(|other| !Arc::ptr_eq(other, equal));
        let different = others.filter(|other| !data::is_equal(other, equal));
        let highest = different.map(|other| other.revision).max().unwrap_or(0);
        if equal.revision > highest {
            return Some(Arc::clone(equal));
        }
        let mut raised = (**equal).clone();
        raised.revision = highest + 1;
        plan.push(Action::merge(&raised, json!({"revision": raised.revision})));
        Some(Arc::new(raised))
    }

    fn create<K: Versioned>(&self, owner: &K, template: &PodTemplateSpec) -> ControllerRevision {
        let meta = owner.metadata();
        let data = data::of(template);
        let hash = hash::<K>(&data, owner.collisions());
        let base = meta.name.as_deref().unwrap_or_default();
        let mut labels = template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.clone())
            .unwrap_or_default();
        labels.insert(K::HASH_LABEL.to_owned(), hash.clone());
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", crate::truncated(base, PREFIX_MAX))),
                namespace: meta.namespace.clone(),
                labels: Some(labels),
                // `rollout history` shows the change cause out of these.
                annotations: meta.annotations.clone(),
                owner_references: Some(vec![controller_reference(owner)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data)),
            revision: self.all.last().map_or(0, |last| last.revision) + 1,
        }
    }

    /// Drops the `excess` oldest revisions of those that are not `live`.
    pub(crate) fn prune(
        &self,
        excess: usize,
        live: impl Fn(&ControllerRevision) -> bool,
        plan: &mut Plan,
    ) {
        let dead = self.all.iter().filter(|revision| !live(revision));
        plan.actions.extend(
            dead.take(excess)
                .map(|revision| Action::delete(&**revision)),
        );
    }
}

/// The name of a revision.
pub(crate) fn name_of(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// A short hash of what is recorded. The kind is part of it: two owners of one name may record the same template.
fn hash<K: Versioned>(data: &serde_json::Value, collisions: i32) -> String {
    let text = format!("{}/{collisions}/{data}", K::KIND);
    short_name(text.as_bytes(), HASH_LETTERS)
}

/// The write after which the next revision has another name, if creating one failed because its name is something else's.
pub(crate) fn collision<K: Versioned>(
    owner: &K,
    failed: &[Failed],
    cache: &Cache<ControllerRevision>,
) -> Option<Action> {
    let name = failed.iter().find_map(|failure| match &failure.tried {
        Action::Create { target, object }
            if target.resource == "controllerrevisions" && failure.error.is_already_exists() =>
        {
            object["metadata"]["name"].as_str()
        }
        _ => None,
    })?;
    let namespace = owner.metadata().namespace.as_deref().unwrap_or_default();
    // What the cache does not show yet may be our own: only one that cannot be is a collision.
    let rival = cache.get(namespace, name)?;
    let wanted = data::of(owner.template()?);
    let managed = controller_of(&rival.metadata);
    let ours = managed.is_none_or(|by| Some(&by.uid) == owner.metadata().uid.as_ref());
    if ours && fits(owner, &rival) && data::is_same(&rival, &wanted) {
        return None;
    }
    let count = owner.collisions() + 1;
    Some(Action::merge_status(
        owner,
        json!({"status": {"collisionCount": count}}),
    ))
}

#[cfg(test)]
mod tests;
