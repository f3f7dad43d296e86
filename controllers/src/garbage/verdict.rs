//! What becomes of an object, given what is known of its owners. Pure.

use corten_client::client::Propagation;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{FOREGROUND, ORPHAN};

/// An owner as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Present,
    /// Being deleted, and waits for its dependents to go first.
    Waiting,
    Absent,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Keep,
    /// Only these owners stay.
    KeepOnly(Vec<OwnerReference>),
    Delete(Propagation),
}

/// Judges an object by its owners, which stand in the order of its references.
pub(super) fn of(meta: &ObjectMeta, owners: &[Owner], has_dependents: bool) -> Verdict {
    let references = meta.owner_references.iter().flatten();
    let any = |wanted: Owner| owners.contains(&wanted);
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if any(Owner::Present) {
        if owners.iter().all(|owner| *owner == Owner::Present) {
            return Verdict::Keep;
        }
        let kept = references
            .zip(owners)
            .filter(|(_, owner)| **owner == Owner::Present);
        return Verdict::KeepOnly(kept.map(|(reference, _)| reference.clone()).collect());
    }
    if any(Owner::Waiting) && has_dependents {
        // The owner wants to see all of the tree go before itself.
        return Verdict::Delete(Propagation::Foreground);
    }
    let wishes = |finalizer: &str| {
        meta.finalizers
            .iter()
            .flatten()
            .any(|name| name == finalizer)
    };
    Verdict::Delete(if wishes(ORPHAN) {
        Propagation::Orphan
    } else if wishes(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

/// The owners of an object, none of which waits for it any more; none when none did.
pub(super) fn unblocked(meta: &ObjectMeta) -> Option<Vec<OwnerReference>> {
    let mut references = meta.owner_references.clone()?;
    let mut changed = false;
    for reference in &mut references {
        changed |= reference.block_owner_deletion == Some(true);
        reference.block_owner_deletion = Some(false);
    }
    changed.then_some(references)
}
