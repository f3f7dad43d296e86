//! Identity and metadata of objects: typed ids, group/version/kind, and access to `metadata` in a JSON object.
//! It does not validate: that is `names` and the kinds. Invariant: reading never fails; what is missing or has a wrong
//! type reads as absent, because `decode` has refused wrong types before.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

mod gvk;
mod ids;
#[cfg(test)]
mod tests;
mod time;

pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use ids::{Namespace, NamespacedName, NodeName, ResourceName, Revision, RevisionError, Uid};
pub use time::{format_micro_time, format_time, parse_time};

/// The namespace an object lands in when none is named.
pub const NAMESPACE_DEFAULT: &str = "default";
/// The finalizer that keeps an owner until its dependents are gone.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that keeps an owner until its dependents have forgotten it.
pub const FINALIZER_ORPHAN: &str = "orphan";

/// The object's `metadata`.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// The object's `metadata`, made when missing. An object that is not a JSON object becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(as_map_mut(object), "metadata")
}

/// The map at `key`, made when missing or of another type.
pub fn child_mut<'a>(object: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    as_map_mut(
        object
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new())),
    )
}

fn as_map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made an object")
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    metadata(object)
        .and_then(|metadata| metadata.get(key))
        .and_then(Value::as_str)
        .unwrap_or("")
}

fn set_text(object: &mut Value, key: &str, value: impl Into<String>) {
    let value = value.into();
    let metadata = metadata_mut(object);
    if value.is_empty() {
        metadata.shift_remove(key);
    } else {
        metadata.insert(key.to_owned(), Value::String(value));
    }
}

/// `metadata.name`, or empty.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// Sets `metadata.name`.
pub fn set_name(object: &mut Value, name: impl Into<String>) {
    set_text(object, "name", name);
}

/// `metadata.generateName`, or empty.
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`, or empty.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// Sets `metadata.namespace`; empty removes it.
pub fn set_namespace(object: &mut Value, namespace: impl Into<String>) {
    set_text(object, "namespace", namespace);
}

/// `metadata.uid`, or empty.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// Sets `metadata.uid`.
pub fn set_uid(object: &mut Value, uid: &Uid) {
    set_text(object, "uid", uid.as_str());
}

/// `metadata.resourceVersion` as it stands, or empty.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.resourceVersion` as a revision; `None` when absent or malformed.
pub fn revision(object: &Value) -> Option<Revision> {
    Revision::parse(resource_version(object)).ok()
}

/// Sets `metadata.resourceVersion`; `None` removes it, as in stored objects.
pub fn set_revision(object: &mut Value, revision: Option<Revision>) {
    let text = revision
        .map(|revision| revision.to_string())
        .unwrap_or_default();
    set_text(object, "resourceVersion", text);
}

/// `metadata.generation`, 0 when absent.
pub fn generation(object: &Value) -> i64 {
    metadata(object)
        .and_then(|metadata| metadata.get("generation"))
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

/// Sets `metadata.generation`; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    let metadata = metadata_mut(object);
    if generation == 0 {
        metadata.shift_remove("generation");
    } else {
        metadata.insert("generation".to_owned(), Value::from(generation));
    }
}

/// `metadata.creationTimestamp` as text, or empty.
pub fn creation_timestamp(object: &Value) -> &str {
    text(object, "creationTimestamp")
}

/// Sets `metadata.creationTimestamp`.
pub fn set_creation_timestamp(object: &mut Value, now: jiff::Timestamp) {
    set_text(object, "creationTimestamp", format_time(now));
}

/// `metadata.deletionTimestamp` as text, or empty.
pub fn deletion_timestamp(object: &Value) -> &str {
    text(object, "deletionTimestamp")
}

/// Whether the object is on its way out.
pub fn is_deleting(object: &Value) -> bool {
    !deletion_timestamp(object).is_empty()
}

/// Sets `metadata.deletionTimestamp` and `metadata.deletionGracePeriodSeconds`.
pub fn set_deletion(object: &mut Value, at: jiff::Timestamp, grace_seconds: i64) {
    set_text(object, "deletionTimestamp", format_time(at));
    metadata_mut(object).insert(
        "deletionGracePeriodSeconds".to_owned(),
        Value::from(grace_seconds),
    );
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_seconds(object: &Value) -> Option<i64> {
    metadata(object)?
        .get("deletionGracePeriodSeconds")?
        .as_i64()
}

fn map<'a>(object: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    metadata(object)?.get(key)?.as_object()
}

/// `metadata.labels`, when there are any.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    map(object, "labels")
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// Sets one label.
pub fn set_label(object: &mut Value, key: &str, value: impl Into<String>) {
    child_mut(metadata_mut(object), "labels").insert(key.to_owned(), Value::String(value.into()));
}

/// `metadata.annotations`, when there are any.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    map(object, "annotations")
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// Sets one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: impl Into<String>) {
    child_mut(metadata_mut(object), "annotations")
        .insert(key.to_owned(), Value::String(value.into()));
}

/// `metadata.finalizers` in order.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = metadata(object)
        .and_then(|metadata| metadata.get("finalizers"))
        .and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// Whether `finalizer` holds the object.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    finalizers(object).contains(&finalizer)
}

/// Adds a finalizer when it is not there. Answers whether something changed.
pub fn add_finalizer(object: &mut Value, finalizer: &str) -> bool {
    if has_finalizer(object, finalizer) {
        return false;
    }
    let list = metadata_mut(object)
        .entry("finalizers")
        .or_insert_with(|| Value::Array(Vec::new()));
    match list.as_array_mut() {
        Some(list) => list.push(Value::from(finalizer)),
        None => *list = Value::Array(vec![Value::from(finalizer)]),
    }
    true
}

/// Removes a finalizer; an empty list is removed too. Answers whether something changed.
pub fn remove_finalizer(object: &mut Value, finalizer: &str) -> bool {
    if !has_finalizer(object, finalizer) {
        return false;
    }
    let metadata = metadata_mut(object);
    let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) else {
        return false;
    };
    list.retain(|item| item.as_str() != Some(finalizer));
    if list.is_empty() {
        metadata.shift_remove("finalizers");
    }
    true
}

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnerReference {
    /// The owner's `apiVersion`.
    pub api_version: String,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's uid.
    pub uid: Uid,
    /// Whether this owner manages the object.
    pub controller: bool,
    /// Whether the owner waits for this object when it is deleted in the foreground.
    pub block_owner_deletion: bool,
}

impl OwnerReference {
    fn read(value: &Value) -> Self {
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
        OwnerReference {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: Uid::new(text("uid")),
            controller: flag("controller"),
            block_owner_deletion: flag("blockOwnerDeletion"),
        }
    }

    /// The owner's group, version and kind; `None` when its apiVersion is malformed.
    pub fn gvk(&self) -> Option<GroupVersionKind> {
        let group_version = GroupVersion::parse(&self.api_version)?;
        Some(group_version.with_kind(self.kind.clone()))
    }
}

/// `metadata.ownerReferences` in order.
pub fn owner_references(object: &Value) -> Vec<OwnerReference> {
    let list = metadata(object)
        .and_then(|metadata| metadata.get("ownerReferences"))
        .and_then(Value::as_array);
    list.map(|list| list.iter().map(OwnerReference::read).collect())
        .unwrap_or_default()
}

/// The owner that manages the object.
pub fn controller_of(object: &Value) -> Option<OwnerReference> {
    owner_references(object)
        .into_iter()
        .find(|owner| owner.controller)
}

/// The object's `apiVersion` and `kind`; `None` when missing or malformed.
pub fn gvk(object: &Value) -> Option<GroupVersionKind> {
    let kind = object.get("kind")?.as_str()?;
    let group_version = GroupVersion::parse(object.get("apiVersion")?.as_str()?)?;
    Some(group_version.with_kind(kind.to_owned()))
}

/// Writes `apiVersion` and `kind`, first in the object when they were missing.
pub fn set_gvk(object: &mut Value, gvk: &GroupVersionKind) {
    let map = as_map_mut(object);
    let (api_version, kind) = (
        Value::from(gvk.api_version().into_owned()),
        Value::from(gvk.kind.to_string()),
    );
    if let (Some(old_version), true) = (map.get("apiVersion"), map.contains_key("kind")) {
        if *old_version != api_version {
            map.insert("apiVersion".to_owned(), api_version);
        }
        map.insert("kind".to_owned(), kind);
        return;
    }
    let mut ordered = Map::with_capacity(map.len() + 2);
    ordered.insert("apiVersion".to_owned(), api_version);
    ordered.insert("kind".to_owned(), kind);
    for (key, value) in std::mem::take(map) {
        ordered.entry(key).or_insert(value);
    }
    *map = ordered;
}

/// `namespace/name`, or `name` for cluster scope: for logs and messages.
pub fn display_name(object: &Value) -> Cow<'_, str> {
    match namespace(object) {
        "" => Cow::Borrowed(name(object)),
        namespace => Cow::Owned(format!("{namespace}/{}", name(object))),
    }
}

impl fmt::Display for OwnerReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.api_version, self.kind, self.name)
    }
}
