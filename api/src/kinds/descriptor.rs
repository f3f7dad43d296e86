//! What a kind is called and offers: the static half of a kind. Behaviour is in `strategy.rs`.
//!
//! Invariant: `resource` is unique within (group, version), and two descriptors share a `storage_prefix` only
//! when they are two views of the same stored objects (events).

use super::Strategy;

/// Everything discovery, routing and storage need to know about one resource of one group and version.
pub struct ResourceDescriptor {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Kind of a list of them; empty for review kinds, which have no lists.
    pub list_kind: &'static str,
    /// Plural lower-case name used in paths.
    pub resource: &'static str,
    /// Singular lower-case name.
    pub singular: &'static str,
    /// Abbreviations kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Groups of resources such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Path below `/registry/` where objects are kept; empty for kinds that are never stored.
    pub storage_prefix: &'static str,
    /// Subresources in name order.
    pub subresources: &'static [Subresource],
    /// Verbs of the resource itself, in discovery's order.
    pub verbs: &'static [&'static str],
    /// Columns of its table, narrow and wide.
    pub columns: &'static [Column],
    /// Defaults, validation and printing.
    pub strategy: &'static dyn Strategy,
}

/// Kinds of the core group whose deleted objects are the answer.
const RETURNED_CORE: &[&str] = &[
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourcequotas",
    "serviceaccounts",
    "services",
];

impl ResourceDescriptor {
    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// Whether the kind is answered without being stored (reviews and the like).
    pub fn is_virtual(&self) -> bool {
        self.storage_prefix.is_empty()
    }

    /// What whoever uses the kind is to be told, where upstream would like to be rid of it.
    pub fn deprecation(&self) -> Option<&'static str> {
        match (self.group, self.resource) {
            ("", "endpoints") => {
                Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
            }
            ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
            _ => None,
        }
    }

    /// Whether a client that deletes an object for good is told what it was, as upstream does for these kinds; for the
    /// others it is told that it is gone.
    pub fn answers_deleted(&self) -> bool {
        match self.group {
            "" => RETURNED_CORE.contains(&self.resource),
            "storage.k8s.io" => self.resource != "csistoragecapacities",
            "resource.k8s.io" => true,
            _ => false,
        }
    }

    /// Whether the resource itself offers `verb`.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The subresource called `name`.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The resource's name in error messages and authorization: `pods`, or `deployments.apps`.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

impl std::fmt::Debug for ResourceDescriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.resource)
    }
}

/// `v1` for the core group, `group/version` for the others.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// A path below an object, such as `status` or `log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    /// Last path segment.
    pub name: &'static str,
    /// Group of the kind it reads and writes; only meaningful when `version` is set.
    pub group: &'static str,
    /// Version of that kind; empty when it is the parent's own group and version.
    pub version: &'static str,
    /// Kind that it reads and writes.
    pub kind: &'static str,
    /// Verbs in discovery's order.
    pub verbs: &'static [&'static str],
}

impl Subresource {
    /// A subresource whose kind belongs to the parent's group and version.
    pub const fn own(
        name: &'static str,
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            group: "",
            version: "",
            kind,
            verbs,
        }
    }

    /// The usual `status` view of a kind.
    pub const fn status(kind: &'static str) -> Self {
        Self::own("status", kind, GET_PATCH_UPDATE)
    }

    /// The `scale` view that autoscalers and `kubectl scale` use.
    pub const fn scale() -> Self {
        Self {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: GET_PATCH_UPDATE,
        }
    }
}

/// Every verb of an ordinary resource.
pub(crate) const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// Verbs of namespaces, which cannot be deleted as a collection.
pub(crate) const NO_COLLECTION_VERBS: &[&str] = &[
    "create", "delete", "get", "list", "patch", "update", "watch",
];
/// Verbs of `status`-like subresources.
pub(crate) const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];
/// Verbs of reviews and action subresources.
pub(crate) const CREATE: &[&str] = &["create"];
/// Verbs of streaming subresources: GET for WebSocket, POST for SPDY.
pub(crate) const CONNECT: &[&str] = &["create", "get"];

/// Verbs of the proxies: one for each HTTP method.
pub(crate) const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// One column of the table that kubectl prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading; kubectl prints it in upper case.
    pub name: &'static str,
    /// OpenAPI type of the cells.
    pub r#type: &'static str,
    /// OpenAPI format; `name` marks the column with the object's name.
    pub format: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// The object's name.
    pub const NAME: Self = Self {
        name: "Name",
        r#type: "string",
        format: "name",
        description: "Name of the object.",
        priority: 0,
    };
    /// Time since creation.
    pub const AGE: Self = Self::text("Age", "Time since the object was created.");

    /// The moment of creation, where upstream has no columns of its own for a kind.
    pub const CREATED_AT: Self = Self {
        r#type: "date",
        ..Self::text("Created At", "When the object was created.")
    };

    /// A text column that is always shown.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            r#type: "string",
            format: "",
            description,
            priority: 0,
        }
    }

    /// An integer column that is always shown.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            r#type: "integer",
            format: "",
            description,
            priority: 0,
        }
    }

    /// A boolean column that is always shown.
    pub const fn boolean(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            r#type: "boolean",
            format: "",
            description,
            priority: 0,
        }
    }

    /// The same column, shown only with `-o wide`.
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}
