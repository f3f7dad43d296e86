//! Groups, versions, kinds and resources, and how upstream prints them. Which of them exist is known to `kinds`.
//! Invariant: the core group is the empty string, and `apiVersion` for it is the bare version.

use std::borrow::Cow;
use std::fmt;

type Text = Cow<'static, str>;

/// A group and one of its versions: what stands in `apiVersion`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// The group, empty for core.
    pub group: Text,
    /// The version.
    pub version: Text,
}

/// A kind in a version of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// The group, empty for core.
    pub group: Text,
    /// The version.
    pub version: Text,
    /// The kind, as in `Deployment`.
    pub kind: Text,
}

/// A resource in a version of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// The group, empty for core.
    pub group: Text,
    /// The version.
    pub version: Text,
    /// The resource, plural, as in `deployments`.
    pub resource: Text,
}

/// A resource of a group in any version; prints as `deployments.apps`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// The group, empty for core.
    pub group: Text,
    /// The resource, plural.
    pub resource: Text,
}

/// A kind of a group in any version; prints as `Deployment.apps`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    /// The group, empty for core.
    pub group: Text,
    /// The kind.
    pub kind: Text,
}

impl GroupVersion {
    /// Puts both together.
    pub fn new(group: impl Into<Text>, version: impl Into<Text>) -> Self {
        GroupVersion {
            group: group.into(),
            version: version.into(),
        }
    }

    /// Reads an `apiVersion`; `None` when it is empty or has more than one slash.
    pub fn parse(api_version: &str) -> Option<Self> {
        match api_version.split_once('/') {
            None if api_version.is_empty() => None,
            None => Some(GroupVersion::new("", api_version.to_owned())),
            Some((_, version)) if version.contains('/') => None,
            Some((group, version)) => Some(GroupVersion::new(group.to_owned(), version.to_owned())),
        }
    }

    /// The text of `apiVersion`.
    pub fn api_version(&self) -> Text {
        api_version(&self.group, &self.version)
    }

    /// A kind of this version.
    pub fn with_kind(&self, kind: impl Into<Text>) -> GroupVersionKind {
        GroupVersionKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: kind.into(),
        }
    }

    /// A resource of this version.
    pub fn with_resource(&self, resource: impl Into<Text>) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: resource.into(),
        }
    }
}

fn api_version(group: &Text, version: &Text) -> Text {
    match group.as_ref() {
        "" => version.clone(),
        group => Cow::Owned(format!("{group}/{version}")),
    }
}

impl GroupVersionKind {
    /// Puts the three together.
    pub fn new(group: impl Into<Text>, version: impl Into<Text>, kind: impl Into<Text>) -> Self {
        GroupVersionKind {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }

    /// For constants.
    pub const fn from_static(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
    ) -> Self {
        GroupVersionKind {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
        }
    }

    /// The text of `apiVersion`.
    pub fn api_version(&self) -> Text {
        api_version(&self.group, &self.version)
    }

    /// Without the kind.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion {
            group: self.group.clone(),
            version: self.version.clone(),
        }
    }

    /// Without the version.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind {
            group: self.group.clone(),
            kind: self.kind.clone(),
        }
    }
}

impl GroupVersionResource {
    /// Puts the three together.
    pub fn new(
        group: impl Into<Text>,
        version: impl Into<Text>,
        resource: impl Into<Text>,
    ) -> Self {
        GroupVersionResource {
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
        }
    }

    /// For constants.
    pub const fn from_static(
        group: &'static str,
        version: &'static str,
        resource: &'static str,
    ) -> Self {
        GroupVersionResource {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            resource: Cow::Borrowed(resource),
        }
    }

    /// The text of `apiVersion`.
    pub fn api_version(&self) -> Text {
        api_version(&self.group, &self.version)
    }

    /// Without the resource.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion {
            group: self.group.clone(),
            version: self.version.clone(),
        }
    }

    /// Without the version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.resource.clone(),
        }
    }
}

impl GroupResource {
    /// Puts both together.
    pub fn new(group: impl Into<Text>, resource: impl Into<Text>) -> Self {
        GroupResource {
            group: group.into(),
            resource: resource.into(),
        }
    }
}

impl GroupKind {
    /// Puts both together.
    pub fn new(group: impl Into<Text>, kind: impl Into<Text>) -> Self {
        GroupKind {
            group: group.into(),
            kind: kind.into(),
        }
    }
}

fn dotted(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    f.write_str(name)?;
    if !group.is_empty() {
        write!(f, ".{group}")?;
    }
    Ok(())
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.api_version())
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Resource={}", self.api_version(), self.resource)
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.resource, &self.group)
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.kind, &self.group)
    }
}
