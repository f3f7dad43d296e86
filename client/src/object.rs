//! The words of the crate: what an object is, where it lives, and the revisions that order its states. No IO.

use std::fmt;

use corten_proto::corten::api::v1 as wire;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Any typed kind of the API that has metadata.
pub trait Object:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// What a cache can hold: something with metadata that is read from JSON.
pub trait Cached: DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {
    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The object's metadata, to strip what caches need not keep.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

impl<K: Object> Cached for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
}

/// An object of any kind of which only type and metadata are read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialObject {
    /// Group and version, as in `apps/v1`.
    #[serde(default)]
    pub api_version: String,
    /// The kind.
    #[serde(default)]
    pub kind: String,
    /// The metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl Cached for PartialObject {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What the path of a REST request says. Build one with [`Target::of`] or [`Target::resource`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The group, "" for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural, as in the URL.
    pub resource: String,
    /// The namespace, "" for cluster scope or all namespaces.
    pub namespace: String,
    /// The object's name, "" for the collection.
    pub name: String,
    /// The subresource, or "".
    pub subresource: String,
}

impl Target {
    /// The collection of a typed kind, over all namespaces.
    pub fn of<K: Object>() -> Self {
        Self::resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
    }

    /// The collection of any kind, over all namespaces.
    pub fn resource(group: &str, version: &str, resource: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            ..Self::default()
        }
    }

    /// The same resource, in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The object of this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// A subresource of the object.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "nobody subtracts from a target"
    )]
    pub fn sub(mut self, subresource: &str) -> Self {
        subresource.clone_into(&mut self.subresource);
        self
    }

    /// The collection that this target belongs to, over all namespaces.
    pub fn collection(&self) -> Self {
        Self::resource(&self.group, &self.version, &self.resource)
    }

    /// `apiVersion` as objects write it.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    pub(crate) fn wire(&self) -> wire::Target {
        wire::Target {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            subresource: self.subresource.clone(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " {}/{}", self.namespace, self.name)?;
        } else if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if !self.subresource.is_empty() {
            write!(f, " ({})", self.subresource)?;
        }
        Ok(())
    }
}

/// The name of an object within its kind: namespace ("" for cluster scope) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The namespace, "" for cluster scope.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// A name in a namespace ("" for cluster scope).
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The name of an object.
    pub fn of<T: Cached>(object: &T) -> Self {
        Self::from_meta(object.meta())
    }

    /// The name that metadata carries.
    pub fn from_meta(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// A point in the store's history. On the wire it is the opaque text of `resourceVersion`; [`Revision::parse`] and
/// `Display` are the only two conversions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    /// Reads a `resourceVersion`; what is not a number (or is absent) is before everything.
    pub fn parse(text: &str) -> Self {
        Self(text.parse().unwrap_or(0))
    }

    /// The revision that metadata carries.
    pub fn of(meta: &ObjectMeta) -> Self {
        meta.resource_version
            .as_deref()
            .map_or(Self(0), Self::parse)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A reference to an object as events carry it.
pub fn reference<K: Object>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The owner reference of a controller to the object that it manages for `owner`.
pub fn controller_reference<K: Object>(owner: &K) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owner that manages an object, if one does.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn targets_read_well() {
        let pod = Target::of::<Pod>()
            .in_namespace("a")
            .named("b")
            .sub("status");
        assert_eq!(pod.to_string(), "pods a/b (status)");
        assert_eq!(pod.api_version(), "v1");
        let deployments = Target::of::<Deployment>();
        assert_eq!(
            (
                deployments.to_string().as_str(),
                deployments.api_version().as_str()
            ),
            ("deployments.apps", "apps/v1")
        );
    }

    #[test]
    fn revisions_order_as_numbers() {
        assert!(Revision::parse("9") < Revision::parse("10"));
        assert_eq!(Revision::parse(""), Revision(0));
        assert_eq!(Revision(12).to_string(), "12");
    }
}
