//! What a plan can ask for. Data only: comparable in tests, carried out by `execute`.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use serde::Serialize;
use serde_json::Value;

use crate::client::{DeleteOptions, Patch};
use crate::events::EventKind;
use crate::object::{Object, Target, reference};

/// What is to be done about a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order; see [`Action`] for what may run side by side. The first failure ends the run, or its group.
    pub actions: Vec<Action>,
    /// Where groups that do not depend on each other begin; see [`Plan::begin_group`].
    groups: Vec<usize>,
    /// Look again after this time, even if nothing changes.
    pub requeue_after: Option<Duration>,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These actions.
    pub fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        Self {
            actions: actions.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds an action.
    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// What is pushed from here on, up to the next call, is a group: a failure in it ends no other group. For plans
    /// about many objects under one key, where one that cannot be written must not keep the others from it.
    pub fn begin_group(&mut self) {
        self.groups.push(self.actions.len());
    }

    /// The actions before the first group, and the groups.
    pub(super) fn split(self) -> (Vec<Action>, Vec<Vec<Action>>) {
        let mut shared = self.actions;
        let mut groups: Vec<Vec<Action>> = self
            .groups
            .into_iter()
            .rev()
            .map(|start| shared.split_off(start.min(shared.len())))
            .filter(|group| !group.is_empty())
            .collect();
        groups.reverse();
        (shared, groups)
    }

    /// Look again after this time; of several, the shortest counts.
    pub fn requeue(&mut self, after: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(after, |before| before.min(after)));
    }
}

/// What must hold of an object before the next actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It exists under this uid and is not being deleted.
    Alive {
        /// The uid.
        uid: String,
    },
    /// It does not exist.
    Gone,
}

/// One write. Neighbours that create objects of one kind, or delete objects of one kind, run side by side (a few
/// first, then more, ending at the first failure); everything else runs alone and in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates an object, or posts to a subresource (binding, eviction).
    Create {
        /// The collection (with namespace), or the subresource.
        target: Target,
        /// The object.
        object: Value,
    },
    /// Replaces an object or its status. A conflict ends the run.
    Update {
        /// The object, or its `status`.
        target: Target,
        /// The object, with the `resourceVersion` it was read at.
        object: Value,
    },
    /// Patches an object or its status.
    Patch {
        /// The object, or its `status`.
        target: Target,
        /// The patch.
        patch: Patch,
    },
    /// Deletes an object. That it is gone, or is another one by now, counts as done.
    Delete {
        /// The object.
        target: Target,
        /// How; with the uid as precondition.
        options: DeleteOptions,
    },
    /// Goes on only if this holds on the server now, whatever the caches say. For what cannot be taken back.
    Expect {
        /// The object.
        target: Target,
        /// What is expected of it.
        state: Expected,
    },
    /// Tells people. Never fails the run.
    Event {
        /// What it is about.
        regarding: Box<ObjectReference>,
        /// Whether something is wrong.
        kind: EventKind,
        /// One word in CamelCase.
        reason: String,
        /// A sentence.
        message: String,
    },
}

impl Action {
    /// Creates a typed object in its namespace.
    pub fn create<K: Object>(object: &K) -> Self {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        Self::Create {
            target: Target::of::<K>().in_namespace(namespace),
            object: value(object),
        }
    }

    /// Posts to a subresource of an object.
    pub fn create_subresource<K: Object>(
        object: &K,
        subresource: &str,
        body: &impl Serialize,
    ) -> Self {
        Self::Create {
            target: target_of(object).sub(subresource),
            object: value(body),
        }
    }

    /// Replaces a typed object.
    pub fn update<K: Object>(object: &K) -> Self {
        Self::Update {
            target: target_of(object),
            object: value(object),
        }
    }

    /// Replaces the status of a typed object.
    pub fn update_status<K: Object>(object: &K) -> Self {
        Self::Update {
            target: target_of(object).sub("status"),
            object: value(object),
        }
    }

    /// Merges a JSON value into an object.
    pub fn merge<K: Object>(object: &K, patch: Value) -> Self {
        Self::Patch {
            target: target_of(object),
            patch: Patch::Merge(patch),
        }
    }

    /// Merges a JSON value, `{"status": {...}}`, into an object's status.
    pub fn merge_status<K: Object>(object: &K, patch: Value) -> Self {
        Self::Patch {
            target: target_of(object).sub("status"),
            patch: Patch::Merge(patch),
        }
    }

    /// Patches an object in any way.
    pub fn patch<K: Object>(object: &K, patch: Patch) -> Self {
        Self::Patch {
            target: target_of(object),
            patch,
        }
    }

    /// Deletes exactly this object (by uid), with the kind's defaults.
    pub fn delete<K: Object>(object: &K) -> Self {
        Self::delete_with(object, DeleteOptions::default())
    }

    /// Deletes exactly this object (by uid), with these options.
    pub fn delete_with<K: Object>(object: &K, mut options: DeleteOptions) -> Self {
        options.uid.clone_from(&object.metadata().uid);
        Self::Delete {
            target: target_of(object),
            options,
        }
    }

    /// Goes on only if exactly this object exists and is not being deleted.
    pub fn expect_alive<K: Object>(object: &K) -> Self {
        Self::Expect {
            target: target_of(object),
            state: Expected::Alive {
                uid: object.metadata().uid.clone().unwrap_or_default(),
            },
        }
    }

    /// Goes on only if there is no object of this name.
    pub fn expect_gone<K: Object>(namespace: &str, name: &str) -> Self {
        Self::Expect {
            target: Target::of::<K>().in_namespace(namespace).named(name),
            state: Expected::Gone,
        }
    }

    /// An event about a typed object.
    pub fn event<K: Object>(
        object: &K,
        kind: EventKind,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self::Event {
            regarding: Box::new(reference(object)),
            kind,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// Whether `self` and `next` may run side by side.
    pub(super) fn goes_with(&self, next: &Self) -> bool {
        let same = |a: &Target, b: &Target| {
            (&a.group, &a.resource, &a.subresource) == (&b.group, &b.resource, &b.subresource)
        };
        match (self, next) {
            (Self::Create { target: a, .. }, Self::Create { target: b, .. })
            | (Self::Delete { target: a, .. }, Self::Delete { target: b, .. }) => same(a, b),
            _ => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { target, object } => {
                let name = object
                    .pointer("/metadata/name")
                    .or(object.pointer("/metadata/generateName"));
                write!(f, "create {target}")?;
                match name.and_then(Value::as_str) {
                    Some(name) if target.name.is_empty() => write!(f, "{name}"),
                    _ => Ok(()),
                }
            }
            Self::Update { target, .. } => write!(f, "update {target}"),
            Self::Patch { target, .. } => write!(f, "patch {target}"),
            Self::Delete { target, .. } => write!(f, "delete {target}"),
            Self::Expect { target, state } => match state {
                Expected::Alive { .. } => write!(f, "expect {target}"),
                Expected::Gone => write!(f, "expect no {target}"),
            },
            Self::Event { reason, .. } => write!(f, "event {reason}"),
        }
    }
}

fn target_of<K: Object>(object: &K) -> Target {
    let meta = object.metadata();
    Target::of::<K>()
        .in_namespace(meta.namespace.as_deref().unwrap_or_default())
        .named(meta.name.as_deref().unwrap_or_default())
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("API objects have string keys and finite numbers only")
}
