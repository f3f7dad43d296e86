//! Who owns the claims of a pod, after `persistentVolumeClaimRetentionPolicy`: the garbage collector then removes them with
//! their owner. Pure.
//!
//! ```text
//!                      whenDeleted: Retain            whenDeleted: Delete
//! whenScaled: Retain   nobody                         the set
//! whenScaled: Delete   the pod, once it is condemned  the set; the pod, once it is condemned
//! ```
//!
//! Invariant: a claim that an earlier set or pod of the same name owns is not touched: it is about to go with it.

use corten_client::events::EventKind;
use corten_client::object::{Object, controller_reference};
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::{Claims, identity, storage};
use crate::pods;

/// Whether claims are deleted: with the set, and with pods that are scaled away.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    policy.map_or((false, false), |policy| {
        (
            deletes(policy.when_deleted.as_ref()),
            deletes(policy.when_scaled.as_ref()),
        )
    })
}

fn owners(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &OwnerReference> {
    claim.metadata.owner_references.iter().flatten()
}

/// Whether a reference names an object of a kind, whatever uid it gives.
fn names<K: Object>(owner: &OwnerReference, name: Option<&String>) -> bool {
    owner.api_version == K::API_VERSION && owner.kind == K::KIND && Some(&owner.name) == name
}

fn names_set(owner: &OwnerReference, set: &StatefulSet) -> bool {
    names::<StatefulSet>(owner, set.metadata.name.as_ref())
}

fn names_pod(owner: &OwnerReference, pod: &Pod) -> bool {
    names::<Pod>(owner, pod.metadata.name.as_ref())
}

fn is_owned(claim: &PersistentVolumeClaim, uid: Option<&String>) -> bool {
    owners(claim).any(|owner| Some(&owner.uid) == uid)
}

/// Whether an earlier pod of this name still owns a claim of an ordinal that has no pod: a new pod would lose its volume.
pub(super) fn is_stale(set: &StatefulSet, ordinal: i32, claims: &Claims) -> bool {
    let (_, scaled) = policy(set);
    let pod = identity::pod_name(set, ordinal);
    let by_pod = |owner: &OwnerReference| names::<Pod>(owner, Some(&pod));
    scaled
        && storage::names(set, ordinal)
            .iter()
            .filter_map(|name| claims.get(name))
            .any(|claim| owners(claim).any(by_pod))
}

/// Whether an earlier set or pod of the same name owns the claim.
fn is_left_over(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    let set_owner = owners(claim).find(|owner| names_set(owner, set));
    let pod_owner = owners(claim).find(|owner| names_pod(owner, pod));
    set_owner.is_some_and(|owner| Some(&owner.uid) != set.metadata.uid.as_ref())
        || pod_owner.is_some_and(|owner| Some(&owner.uid) != pod.metadata.uid.as_ref())
}

/// Whether something else manages the claim, while the policy asks for an owner.
fn is_managed_elsewhere(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    policy(set) != (false, false)
        && owners(claim)
            .filter(|owner| !names_set(owner, set) && !names_pod(owner, pod))
            .any(|owner| owner.controller == Some(true))
}

/// Whether the set, and whether the pod, is to own the claim.
fn wanted(set: &StatefulSet, pod: &Pod) -> (bool, bool) {
    let condemned =
        identity::ordinal(pod).is_none_or(|ordinal| !identity::ordinals(set).contains(&ordinal));
    match policy(set) {
        (deleted, false) => (deleted, false),
        (deleted, true) => (deleted && !condemned, condemned),
    }
}

/// The owners that a claim is to have, unless it has them.
fn changed(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &Pod,
) -> Option<Vec<OwnerReference>> {
    if is_left_over(claim, set, pod) {
        return None;
    }
    let (set_uid, pod_uid) = (set.metadata.uid.as_ref(), pod.metadata.uid.as_ref());
    let has = (is_owned(claim, set_uid), is_owned(claim, pod_uid));
    let elsewhere = is_managed_elsewhere(claim, set, pod);
    let wants = if elsewhere {
        (false, false)
    } else {
        wanted(set, pod)
    };
    let ours = |owner: &&OwnerReference| Some(&owner.uid) == set_uid || Some(&owner.uid) == pod_uid;
    // An owner of ours that does not control the claim is written anew.
    let weak = owners(claim)
        .filter(ours)
        .any(|owner| owner.controller != Some(true));
    if has == wants && !weak {
        return None;
    }
    let mut all: Vec<OwnerReference> = owners(claim)
        .filter(|owner| !names_set(owner, set) && !names_pod(owner, pod))
        .cloned()
        .collect();
    all.extend(wants.0.then(|| controller_reference(set)));
    all.extend(wants.1.then(|| controller_reference(pod)));
    Some(all)
}

/// Plans the right owners for all claims of a pod; whether there was anything to do.
pub(super) fn enforce(set: &StatefulSet, pod: &Pod, claims: &Claims, plan: &mut Plan) -> bool {
    let ordinal = identity::ordinal(pod);
    let names = ordinal.map(|ordinal| storage::names(set, ordinal));
    let mut wrote = false;
    for claim in names.iter().flatten().filter_map(|name| claims.get(name)) {
        let meta = &claim.metadata;
        let owners = changed(claim, set, pod);
        let heard = owners.is_some() || pods::phase(pod) == "Pending";
        if heard && is_managed_elsewhere(claim, set, pod) {
            let message = format!(
                "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim",
                meta.name.as_deref().unwrap_or_default()
            );
            let event = Action::event(set, EventKind::Warning, "ConflictingController", message);
            plan.push(event);
        }
        let Some(owners) = owners else { continue };
        // The list is written whole: the revision keeps out what somebody else adds to it meanwhile.
        let patch = json!({"metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": owners,
        }});
        plan.push(Action::merge(&**claim, patch));
        wrote = true;
    }
    wrote
}
