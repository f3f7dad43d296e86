//! Newtypes for the ids that would otherwise all be strings and be mixed up. They do not check names (see `names`).
//! Invariant: resourceVersion text and `Revision` convert in one place each way: `Revision::parse` and its `Display`.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the text.
            pub fn new(text: impl Into<String>) -> Self {
                $name(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether it is empty, which means absent.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// The id of one life of an object: a new object of the same name has another.
    Uid
}
text_id! {
    /// A namespace's name; empty means cluster scope, or all namespaces in a query.
    Namespace
}
text_id! {
    /// An object's name.
    ResourceName
}
text_id! {
    /// A node's name.
    NodeName
}

impl Uid {
    /// A new random uid (version 4).
    pub fn random() -> Self {
        Uid(uuid::Uuid::new_v4().to_string())
    }
}

/// Which object of a kind: its namespace (empty for cluster scope) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct NamespacedName {
    /// The namespace, empty for cluster scope.
    pub namespace: Namespace,
    /// The name.
    pub name: ResourceName,
}

impl NamespacedName {
    /// Puts both together.
    pub fn new(namespace: impl Into<Namespace>, name: impl Into<ResourceName>) -> Self {
        NamespacedName {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{}", self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A point in the history of the store. On the wire it is the opaque text resourceVersion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(u64);

/// Text that is no resourceVersion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value: {0:?}: must be a non-negative integer")]
pub struct RevisionError(String);

impl Revision {
    /// Before everything: "any state will do" in reads.
    pub const ZERO: Revision = Revision(0);

    /// A revision of the store.
    pub const fn new(number: u64) -> Self {
        Revision(number)
    }

    /// The number the store knows.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Reads a resourceVersion. Empty text is an error here: absent and zero mean different things.
    pub fn parse(text: &str) -> Result<Self, RevisionError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Revision(number)),
            _ => Err(RevisionError(text.to_owned())),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
