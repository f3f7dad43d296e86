//! What a request is about: a kind, and an object or collection of it.
//!
//! Invariant: a target exists only for a known resource (and known subresource), and what a kind without namespaces has
//! is never reached through one: there the rules of that namespace would decide about the whole cluster.

use corten_api::kinds::{self, ResourceDescriptor, Subresource};
use corten_api::meta::{GroupKind, GroupResource, GroupVersionKind};
use corten_api::status::Status;

use crate::cache::object_key;

/// The path of a request, resolved against the known kinds.
#[derive(Debug, Clone)]
pub struct Target {
    pub descriptor: &'static ResourceDescriptor,
    /// Empty for cluster-scoped kinds, and for lists over all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for the resource itself.
    pub subresource: String,
}

impl Target {
    /// Resolves the parts of a path; 404 when nothing is there.
    pub fn resolve(
        group: &str,
        version: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        subresource: &str,
    ) -> Result<Self, Status> {
        let descriptor = kinds::registry()
            .resource(group, version, resource)
            .ok_or_else(Status::no_such_path)?;
        if !subresource.is_empty() && descriptor.subresource(subresource).is_none() {
            return Err(Status::no_such_path());
        }
        let namespace = match namespace {
            given if descriptor.namespaced => given,
            "" => "",
            // The path of a namespace names itself as its namespace.
            own if own == name && descriptor.group.is_empty() && resource == "namespaces" => "",
            _ => return Err(Status::no_such_path()),
        };
        Ok(Self {
            descriptor,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        })
    }

    /// An object of a built-in kind that is known to exist in this program.
    pub fn of(group: &str, resource: &str, namespace: &str, name: &str) -> Result<Self, Status> {
        let descriptor = kinds::registry()
            .preferred(group, resource)
            .ok_or_else(Status::no_such_path)?;
        Ok(Self {
            descriptor,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
        })
    }

    /// The same object by another name.
    pub fn named(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// `namespace/name` or `name`.
    pub fn key(&self) -> String {
        object_key(&self.namespace, &self.name)
    }

    /// Where the object lies in the store.
    pub fn store_key(&self) -> String {
        format!(
            "{}{}/{}",
            crate::storage::ROOT,
            self.descriptor.storage_prefix,
            self.key()
        )
    }

    /// Group and plural name, for errors.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.descriptor.group, self.descriptor.resource)
    }

    /// Group and kind, for validation errors.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.descriptor.group, self.descriptor.kind)
    }

    /// The kind that the addressed path reads and writes.
    pub fn gvk(&self) -> GroupVersionKind {
        let own = self.descriptor;
        match self.sub() {
            None => GroupVersionKind::from_static(own.group, own.version, own.kind),
            Some(sub) if sub.version.is_empty() => {
                GroupVersionKind::from_static(own.group, own.version, sub.kind)
            }
            Some(sub) => GroupVersionKind::from_static(sub.group, sub.version, sub.kind),
        }
    }

    /// The addressed subresource.
    pub fn sub(&self) -> Option<&'static Subresource> {
        self.descriptor.subresource(&self.subresource)
    }

    /// Refuses targets that the verb would take for less or more than they say: what was authorised is what is done.
    pub fn check_scope(&self, verb: &str) -> Result<(), Status> {
        let collection = matches!(verb, "list" | "deletecollection")
            || (verb == "create" && self.subresource.is_empty());
        if collection && !self.name.is_empty() {
            return Err(self.method_not_allowed(verb));
        }
        if matches!(verb, "update" | "patch" | "delete") && self.name.is_empty() {
            return Err(self.method_not_allowed(verb));
        }
        // A namespaced object is only reached through its namespace.
        let one = !self.name.is_empty() || verb == "create";
        if self.descriptor.namespaced && self.namespace.is_empty() && one && verb != "watch" {
            return Err(self.method_not_allowed(verb));
        }
        Ok(())
    }

    /// Refuses verbs that the path does not offer.
    pub fn require_verb(&self, verb: &str) -> Result<(), Status> {
        let offered = match self.sub() {
            None => self.descriptor.has_verb(verb),
            Some(sub) => sub.verbs.contains(&verb),
        };
        if offered {
            Ok(())
        } else {
            Err(self.method_not_allowed(verb))
        }
    }

    /// 405 for this path.
    pub fn method_not_allowed(&self, verb: &str) -> Status {
        Status::method_not_allowed(&self.group_resource(), verb)
    }

    /// 404 for this object.
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.group_resource(), &self.name)
    }

    /// 403 for this object, with the reason behind "is forbidden: ".
    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(Some(&self.group_resource()), &self.name, why)
    }
}
