//! Server-side apply: a manager's whole wishes, merged into the live object.
//!
//! Invariant: without force, nothing that another manager owns changes its value.

use serde_json::Value;

use super::compare::compare;
use super::entries::{Managers, Operation, Writer};
use super::set::Set;
use super::walk::{View, fields_of, with_parents, without};
use super::{merge, without_untracked};
use crate::schema::Type;
use crate::status::{Cause, Status};

/// Whom the fields of an object belong to that was written before anybody took note.
const BEFORE: &str = "before-first-apply";
/// What `kubectl apply` without `--server-side` writes as, and the annotation in which it keeps its wishes.
const CLIENT_SIDE: &str = "kubectl-client-side-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What came of an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The new object, without `metadata.managedFields`.
    pub object: Value,
    /// Who owns what then.
    pub managers: Managers,
    /// Whether anything differs from before: the object, or who owns it.
    pub changed: bool,
}

/// A field that another manager owns, with another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The other manager, as messages name it.
    pub manager: String,
    /// The field's path.
    pub path: String,
}

/// Lays the wishes over the live object. `wishes` has been checked, and speaks only of what its writer may set.
pub fn apply(
    ty: &'static Type,
    live: &Value,
    wishes: &Value,
    managers: Managers,
    writer: &Writer,
    force: bool,
    now: &str,
) -> Result<Applied, Vec<Conflict>> {
    let view = View::of_type(ty);
    let live_set = without_untracked(fields_of(view, live));
    let mut managers = managers;
    let before = managers.clone();
    if managers.is_empty() && !live_set.is_empty() {
        let unknown = Writer {
            manager: BEFORE.to_owned(),
            operation: Operation::Update,
            subresource: String::new(),
            ..writer.clone()
        };
        managers.add(&unknown, &live_set, now);
    }
    let wished = without_untracked(fields_of(view, wishes));
    let last = managers.set_of(writer).cloned().unwrap_or_default();
    let first = last.is_empty();
    managers.replace(writer, wished.clone(), now);
    let merged = merge::merge(view, live.clone(), wishes);
    let object = prune(view, &merged, &last, &managers.all());

    let changes = compare(ty, live, &object);
    let changed = without_untracked(changes.added.union(&changes.modified));
    let forgiven = forgiven(view, live, writer, first);
    let mut conflicts = Vec::new();
    for entry in managers.others(writer) {
        let theirs = entry.set.intersection(&changed);
        let theirs = match entry.writer.manager.as_str() {
            CLIENT_SIDE => theirs.difference(&forgiven),
            _ => theirs,
        };
        let manager = entry.writer.described();
        conflicts.extend(theirs.paths().into_iter().map(|path| Conflict {
            manager: manager.clone(),
            path,
        }));
    }
    if !force && !conflicts.is_empty() {
        conflicts.sort();
        return Err(conflicts);
    }
    managers.take_from_others(Some(writer), &changed);
    managers.take_from_others(Some(writer), &changes.removed);
    let same = changed.is_empty() && changes.removed.is_empty() && managers.owns_the_same(&before);
    Ok(Applied {
        object,
        managers: if same { before } else { managers },
        changed: !same,
    })
}

/// What whoever moves over from client-side apply may change without force: what it applied that way itself.
fn forgiven(view: View, live: &Value, writer: &Writer, first: bool) -> Set {
    if !first || writer.manager != "kubectl" {
        return Set::default();
    }
    let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let applied: Option<Value> = annotation.and_then(|text| serde_json::from_str(text).ok());
    applied.map_or_else(Set::default, |applied| fields_of(view, &applied))
}

/// Takes out what the manager applied before and does not wish any more, unless somebody owns it.
fn prune(view: View, merged: &Value, last: &Set, owned: &Set) -> Value {
    if last.is_empty() {
        return merged.clone();
    }
    let fields = fields_of(view, merged);
    // Name, uid and their like are nobody's and stay with whatever goes around them.
    let untracked = fields.difference(&without_untracked(fields.clone()));
    let (last, owned) = (
        with_parents(view, last),
        with_parents(view, &owned.union(&untracked)),
    );
    let present = with_parents(view, &fields);
    // With a struct or an item goes all that is in it: so those that hold something of others must stay, and what is
    // nobody's goes only as far as this manager owned it.
    let gone = |pruned: &Value| present.difference(&with_parents(view, &fields_of(view, pruned)));
    let empty = || Value::Object(serde_json::Map::new());
    let pruned = without(view, merged, &last).unwrap_or_else(empty);
    let without_owned = gone(&pruned).difference(&owned);
    let pruned = without(view, merged, &without_owned).unwrap_or_else(empty);
    let without_foreign = gone(&pruned).intersection(&last);
    without(view, merged, &without_foreign).unwrap_or_else(empty)
}

/// The 409 that names every field and its owner.
pub fn conflicts_status(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [only] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            only.manager, only.path
        ),
        all => {
            let mut lines = Vec::new();
            let mut last = "";
            for conflict in all {
                if conflict.manager != last {
                    lines.push(format!("conflicts with {}:", conflict.manager));
                    last = &conflict.manager;
                }
                lines.push(format!("- {}", conflict.path));
            }
            format!(
                "Apply failed with {} conflicts: {}",
                all.len(),
                lines.join("\n")
            )
        }
    };
    let causes = conflicts.iter().map(|conflict| Cause {
        kind: "FieldManagerConflict".to_owned(),
        message: format!("conflict with {}", conflict.manager),
        field: conflict.path.clone(),
    });
    Status::apply_conflict(message, causes.collect())
}
