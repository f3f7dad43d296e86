//! Who keeps what: the objects that an owner adopts, those that it lets go, and whom a change of one wakes. Pure but for
//! cache reads. Invariant: an owner that is being deleted neither adopts nor releases.

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::object::{Object, controller_of, controller_reference};
use corten_client::runner::{Action, Plan};

use crate::pods::{adopt_patch, release_patch};

/// Objects of a namespace that nobody manages, that stay, and that fit.
pub(crate) fn free<T: Object>(
    cache: &Cache<T>,
    namespace: &str,
    fits: impl Fn(&T) -> bool,
) -> Vec<Arc<T>> {
    let mut all = cache.list_namespace(namespace);
    all.retain(|object| {
        let meta = object.metadata();
        controller_of(meta).is_none() && meta.deletion_timestamp.is_none() && fits(object)
    });
    all
}

/// What `owner` has from now on: of what it manages all that fits, and the free ones. The others it lets go.
pub(crate) fn keep<K: Object, T: Object>(
    owner: &K,
    owned: &[Arc<T>],
    orphans: &[Arc<T>],
    fits: impl Fn(&T) -> bool,
    plan: &mut Plan,
) -> Vec<Arc<T>> {
    let deleting = owner.metadata().deletion_timestamp.is_some();
    let uid = owner.metadata().uid.as_deref().unwrap_or_default();
    let mut kept = Vec::with_capacity(owned.len());
    for object in owned {
        if fits(object) {
            kept.push(Arc::clone(object));
        } else if !deleting {
            let patch = release_patch(object.metadata(), uid);
            plan.push(Action::merge(&**object, patch));
        }
    }
    if deleting || orphans.is_empty() {
        return kept;
    }
    // The cache may not know yet that the owner is gone or going: what it adopts would go with it.
    plan.push(Action::expect_alive(owner));
    let reference = controller_reference(owner);
    for object in orphans {
        let patch = adopt_patch(object.metadata(), &reference);
        plan.push(Action::merge(&**object, patch));
        kept.push(Arc::clone(object));
    }
    kept
}

/// Keys to wake for a changed object: its managers before and after, or whoever might adopt it.
pub(crate) fn woken<K: Object, T: Object>(
    owners: &Cache<K>,
    change: &Change<T>,
    fits: impl Fn(&K, &T) -> bool,
) -> Vec<ObjectName> {
    let object = change.object();
    let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
    let manager = |object: &Arc<T>| {
        let owner = controller_of(object.metadata()).filter(|owner| owner.kind == K::KIND)?;
        Some(ObjectName::new(namespace, owner.name.clone()))
    };
    let mut keys: Vec<ObjectName> = std::iter::once(object)
        .chain(change.old())
        .filter_map(manager)
        .collect();
    let meta = object.metadata();
    if controller_of(meta).is_none() && meta.deletion_timestamp.is_none() && !change.is_removed() {
        let owners = owners.list_namespace(namespace);
        let fitting = owners.iter().filter(|owner| fits(owner, object));
        keys.extend(fitting.map(|owner| ObjectName::of(&**owner)));
    }
    keys.dedup();
    keys
}
