//! Who owns which fields of an object: `metadata.managedFields`, and what follows from it.
//!
//! Every write notes which fields its manager set; server-side apply merges a manager's wishes into the object, takes out what it
//! no longer wishes, and refuses to overwrite what others own. Pure functions over trees and the schema; who writes and when
//! is told from outside. Invariant: a field is taken out only when the applying manager owned it and nobody else does.
//!
//! ```text
//!  update:  old ─┐                        apply:  live ──┬─ merge ─▶ prune ─▶ new object
//!  new ──────────┴─ compare ─▶ changed            config ┘   ▲         ▲
//!  changed fields go to the writer,                   wishes, as a set of fields
//!  and are taken from all others                      changed fields that others own: conflict, or force
//! ```

use serde_json::Value;

use crate::schema::Type;

mod apply;
mod compare;
mod entries;
#[cfg(test)]
mod laws;
mod merge;
mod set;
#[cfg(test)]
mod tests;
mod walk;

pub use apply::{Applied, Conflict, apply, conflicts_status};
pub use entries::{Managers, Operation, Writer};
pub use set::{Element, Set};

/// Fields that the server owns, and that no manager is named for.
const UNTRACKED: [&[&str]; 11] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "resourceVersion"],
    &["metadata", "managedFields"],
];

fn without_untracked(mut set: Set) -> Set {
    for path in UNTRACKED {
        set.remove(path);
    }
    set
}

/// Takes note of a write that is no apply. `managers` is what is known of the object before it; the answer is what is known
/// after it, and is the same when nothing changed that anybody tracks.
pub fn update(
    ty: &'static Type,
    old: &Value,
    new: &Value,
    mut managers: Managers,
    writer: &Writer,
    now: &str,
) -> Managers {
    let changes = compare::compare(ty, old, new);
    let set = without_untracked(changes.added.union(&changes.modified));
    let gone = changes.removed;
    managers.take_from_others(None, &set);
    managers.take_from_others(None, &gone);
    if !set.is_empty() {
        managers.add(writer, &set, now);
    }
    managers.cap();
    managers
}
