//! Who is asking: identities and the ways to prove them.
//!
//! Authentication never decides what somebody may do, and never trusts a header except through a proof (a client
//! certificate, a signed token) or an authorised impersonation. Invariant: bad credentials are refused, they never
//! fall back to anonymous.

use std::collections::BTreeMap;

/// Everybody who proved an identity.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Everybody who did not.
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Passes every authorization check.
pub const GROUP_MASTERS: &str = "system:masters";
/// Node agents.
pub const GROUP_NODES: &str = "system:nodes";
/// The user of requests without credentials.
pub const USER_ANONYMOUS: &str = "system:anonymous";
/// Prefix of a node agent's user name.
pub const NODE_USER_PREFIX: &str = "system:node:";

/// An identity, as RBAC and the audit log know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The user name; unique among all users.
    pub name: String,
    /// Identifies the user across renames; empty when the proof carries none.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further facts about the proof, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// An authenticated user; `system:authenticated` is added to the groups.
    pub fn authenticated<I, S>(name: impl Into<String>, groups: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == GROUP_AUTHENTICATED) {
            groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        Self {
            name: name.into(),
            groups,
            ..Self::default()
        }
    }

    /// The identity of requests without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: USER_ANONYMOUS.to_owned(),
            groups: vec![GROUP_UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The apiserver acting for itself.
    pub fn apiserver() -> Self {
        Self::authenticated("system:apiserver", [GROUP_MASTERS])
    }

    /// Whether the user belongs to a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|mine| mine == group)
    }

    /// The node whose agent this is, if it is one.
    pub fn node_name(&self) -> Option<&str> {
        let node = self.name.strip_prefix(NODE_USER_PREFIX)?;
        (!node.is_empty() && self.in_group(GROUP_NODES)).then_some(node)
    }
}
