//! What is special about a kind when its objects are written, deleted, selected and printed.
//!
//! The entry points (`prepare_*`, `validate_*`) hold what all kinds share and call the hooks (`default`, `init`,
//! `validate`, ...), which kinds override. Names, uids and timestamps are given by the registry of the API
//! server, not here. Invariant: no hook changes `metadata.resourceVersion`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use smallvec::SmallVec;

use super::value::{Get, keep, object_at, remove, same, set};
use super::{Errors, Path, addresses, duration, names, object_meta};
use crate::field::FieldError;

/// Fixed facts of a kind that the generic code needs.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// What names look like.
    pub name: NameRule,
    /// Whether there is a `status` that only its own subresource may change.
    pub status: bool,
    /// When `metadata.generation` grows.
    pub generation: Generation,
    /// Whether a PUT to a missing object creates it.
    pub create_on_update: bool,
    /// Whether an update without `resourceVersion` is let through.
    pub unconditional_update: bool,
    /// Objects vanish after this time.
    pub ttl_seconds: Option<i64>,
}

impl Rules {
    /// A namespaced kind with subdomain names, no status and no generation.
    pub const NAMESPACED: Self = Self {
        namespaced: true,
        name: NameRule::Subdomain,
        status: false,
        generation: Generation::None,
        create_on_update: false,
        unconditional_update: true,
        ttl_seconds: None,
    };
    /// The same without a namespace.
    pub const CLUSTER: Self = Self {
        namespaced: false,
        ..Self::NAMESPACED
    };
}

/// What names a kind allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, the usual rule.
    Subdomain,
    /// RFC 1123 label.
    Label,
    /// RFC 1035 label, for Services.
    Label1035,
    /// Any single path segment, for RBAC.
    PathSegment,
    /// An IP address in its canonical form.
    Ip,
}

impl NameRule {
    /// What is wrong with `name`; `prefix` when it is a `generateName`.
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        match self {
            Self::Subdomain => names::subdomain(name, prefix),
            Self::Label => names::label(name, prefix),
            Self::Label1035 => names::label_1035(name, prefix),
            Self::PathSegment => names::path_segment(name, prefix),
            Self::Ip => addresses::ip_faults(name),
        }
    }
}

/// When `metadata.generation` grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    None,
    /// With every change of `spec`.
    Spec,
    /// With every change outside `metadata` and `status`.
    Content,
}

/// What the server knows of a request that its object does not say.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// When it came.
    pub now: Timestamp,
    /// Who sent it.
    pub username: &'a str,
    /// Identifies the sender across renames; may be empty.
    pub uid: &'a str,
    /// The sender's groups.
    pub groups: &'a [String],
    /// Further facts about the sender.
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// How a delete request is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GracefulDelete {
    /// Remove at once (finalizers permitting).
    Immediate,
    /// Mark as deleted; whoever runs the object removes it within so many seconds. Zero removes at once but
    /// leaves zero in `metadata.deletionGracePeriodSeconds` for watchers.
    After {
        /// The grace period.
        seconds: i64,
    },
}

/// The fields of one object that field selectors may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields<'a>(SmallVec<[(&'static str, Cow<'a, str>); 12]>);

impl<'a> Fields<'a> {
    /// Name and namespace, which every kind has.
    pub fn of_metadata(object: &'a Value, namespaced: bool) -> Self {
        let meta = object.at("metadata");
        let mut fields = Self(SmallVec::new());
        fields.add("metadata.name", meta.text("name"));
        if namespaced {
            fields.add("metadata.namespace", meta.text("namespace"));
        }
        fields
    }

    /// Adds one field.
    pub fn add(&mut self, name: &'static str, value: impl Into<Cow<'a, str>>) {
        self.0.push((name, value.into()));
    }

    /// The value of a field; `None` when the kind does not offer it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.as_ref())
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(n, v)| (*n, v.as_ref()))
    }
}

/// Behaviour of a kind. See the module's documentation for who calls what.
pub trait Strategy: Send + Sync {
    /// The fixed facts.
    fn rules(&self) -> &Rules;

    /// Fills in the defaults of the API; run after every decode, on objects of clients and of the store alike.
    fn default(&self, _object: &mut Value) {}

    /// Sets what the server owns in a new object.
    fn init(&self, _object: &mut Value) {}

    /// Notes who sent a request and when, for kinds that keep it. Called between `prepare_*` and `validate_*` of any
    /// write; `old` is `None` for a new object.
    fn note_request(&self, _new: &mut Value, _old: Option<&Value>, _request: &Request<'_>) {}

    /// Carries over what an update of the main resource may not touch, besides `status` and metadata.
    fn carry_over(&self, _new: &mut Value, _old: &Value) {}

    /// Carries over what an update of `status` may not touch, besides everything outside metadata and `status`.
    fn carry_over_status(&self, _new: &mut Value, _old: &Value) {}

    /// Checks what must hold of the object whether new or updated. Metadata is checked already.
    fn validate(&self, _object: &Value, _errors: &mut Errors) {}

    /// Checks what must hold of new objects only.
    fn validate_new(&self, _object: &Value, _errors: &mut Errors) {}

    /// Checks what an update may change.
    fn validate_change(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// Checks an update of `status`.
    fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// Warnings that a client is to see about what it sent.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about a new object, besides those of `warnings`.
    fn warnings_of_new(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Names an object whose client left the name to the server; called again when that name was taken.
    fn set_generated_name(&self, object: &mut Value, name: &str) {
        if let Some(meta) = object_at(object, "metadata") {
            set(meta, "name", name);
        }
    }

    /// Whether what the object owns stays when a client deletes it and says nothing about that.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// What to tell a client that deletes an object and says nothing about what it owns.
    fn deletion_warning(&self) -> Option<&'static str> {
        None
    }

    /// Adds the kind's own fields for field selectors.
    fn add_fields<'a>(&self, _object: &'a Value, _fields: &mut Fields<'a>) {}

    /// The cells of its table row.
    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }

    /// How a delete with the requested grace period goes on.
    fn graceful_delete(&self, _object: &Value, _requested: Option<i64>) -> GracefulDelete {
        GracefulDelete::Immediate
    }

    /// Turns this view into what is stored; for kinds that share storage with another.
    fn encode_for_storage(&self, _object: &mut Value) {}

    /// Turns what is stored into this view.
    fn decode_from_storage(&self, _object: &mut Value) {}

    /// Prepares an update of a subresource other than `status` that reads and writes the object itself
    /// (`finalize`, `ephemeralcontainers`). The default lets metadata through and nothing else.
    fn prepare_for_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value) {
        keep_but_metadata(new, old, &[]);
        keep_system_metadata(new, old);
    }

    /// Checks an update of such a subresource.
    fn validate_subresource_update(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Errors::new();
        object_meta::validate_update(new, old, &mut errors);
        errors.finish()
    }

    /// Prepares a new object: no status from the client, generation 1, the kind's initial values.
    fn prepare_for_create(&self, object: &mut Value) {
        let rules = self.rules();
        if rules.status {
            remove(object, "status");
        }
        if let Some(meta) = object_at(object, "metadata") {
            remove(meta, "generation");
            remove(meta, "deletionTimestamp");
            remove(meta, "deletionGracePeriodSeconds");
            remove(meta, "selfLink");
            if rules.generation != Generation::None {
                set(meta, "generation", 1);
            }
        }
        self.init(object);
    }

    /// Prepares an update of the main resource: status and system metadata stay, generation grows.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        let rules = self.rules();
        keep_system_metadata(new, old);
        if rules.status {
            keep(new, old, "status");
        }
        self.carry_over(new, old);
        let changed = match rules.generation {
            Generation::None => false,
            Generation::Spec => !same(new.at("spec"), old.at("spec")),
            Generation::Content => content_changed(new, old),
        };
        // Marking for deletion counts as a change of what is wanted; the registry does that one itself.
        if changed && let Some(meta) = object_at(new, "metadata") {
            let generation = old.at("metadata").int("generation").unwrap_or(0);
            set(meta, "generation", generation + 1);
        }
    }

    /// Prepares an update of `status`: everything but status and some metadata stays.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep_but_metadata(new, old, &["status"]);
        keep_system_metadata(new, old);
        self.carry_over_status(new, old);
    }

    /// All that is wrong with a new object.
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        object_meta::validate(object, self.rules(), &mut errors);
        self.validate(object, &mut errors);
        self.validate_new(object, &mut errors);
        errors.finish()
    }

    /// All that is wrong with an update.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        object_meta::validate_update(new, old, &mut errors);
        self.validate(new, &mut errors);
        self.validate_change(new, old, &mut errors);
        errors.finish()
    }

    /// All that is wrong with an update of `status`.
    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        object_meta::validate_update(new, old, &mut errors);
        self.validate_status(new, old, &mut errors);
        errors.finish()
    }

    /// The fields that field selectors may name.
    fn selectable_fields<'a>(&self, object: &'a Value) -> Fields<'a> {
        let mut fields = Fields::of_metadata(object, self.rules().namespaced);
        self.add_fields(object, &mut fields);
        fields
    }
}

/// Restores everything of `old` except metadata and the named fields.
pub(crate) fn keep_but_metadata(new: &mut Value, old: &Value, changeable: &[&str]) {
    let mut kept = old.clone();
    for key in std::iter::once(&"metadata").chain(changeable) {
        match remove(new, key) {
            Some(value) => set(&mut kept, key, value),
            None => {
                remove(&mut kept, key);
            }
        }
    }
    *new = kept;
}

/// Restores the metadata that only the server writes. A uid or creation time that differs is left for
/// validation to refuse; an absent one is filled in.
pub(crate) fn keep_system_metadata(new: &mut Value, old: &Value) {
    let old = old.at("metadata");
    let Some(meta) = object_at(new, "metadata") else {
        return;
    };
    for key in ["uid", "creationTimestamp"] {
        if meta.is_empty_at(key) {
            keep(meta, old, key);
        }
    }
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        // Deletion cannot be taken back by leaving it out.
        if old.has(key) && !meta.has(key) {
            keep(meta, old, key);
        }
    }
    keep(meta, old, "generation");
    remove(meta, "selfLink");
}

/// Restores the metadata that clients write, for kinds whose `status` path changes the status alone.
pub(crate) fn keep_client_metadata(new: &mut Value, old: &Value) {
    let old = old.at("metadata");
    if let Some(meta) = object_at(new, "metadata") {
        for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
            keep(meta, old, key);
        }
    }
}

fn content_changed(new: &Value, old: &Value) -> bool {
    let ignored = |key: &str| matches!(key, "metadata" | "status" | "apiVersion" | "kind");
    let differs = |a: &Value, b: &Value| {
        a.as_object()
            .is_some_and(|map| map.iter().any(|(k, v)| !ignored(k) && !same(v, b.at(k))))
    };
    differs(new, old) || differs(old, new)
}

/// Checks that a field is as it was, with upstream's wording.
pub(crate) fn immutable(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !same(new, old) {
        errors.invalid(path, new, "field is immutable");
    }
}
