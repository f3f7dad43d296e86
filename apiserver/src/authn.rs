//! Who is asking: identities and the ways to prove them.
//!
//! Authentication never decides what somebody may do, and never trusts a header except through a proof (a client
//! certificate, a signed token) or an authorised impersonation. Invariant: bad credentials are refused, they never
//! fall back to anonymous.

pub mod bearer;
pub mod impersonation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use corten_base::tls::PeerIdentity;
use http::HeaderMap;

use crate::tokens::Tokens;

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

/// What a connection proves before any request: put into each request's extensions by the server.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The user of a verified client certificate, or the fixed identity of an in-process connection.
    pub user: Option<Arc<User>>,
    /// Where the connection comes from; absent in process.
    pub address: Option<SocketAddr>,
}

impl Peer {
    /// The user that a verified client certificate names; one without a common name names nobody.
    pub fn of_certificate(identity: &PeerIdentity, address: Option<SocketAddr>) -> Self {
        let named = !identity.common_name.is_empty();
        let user = named.then(|| {
            let mut user =
                User::authenticated(identity.common_name.clone(), identity.organizations.clone());
            let id = format!("X509SHA256={}", hex::encode(identity.fingerprint));
            user.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
            Arc::new(user)
        });
        Self { user, address }
    }
}

/// What a user carries of the certificate that proved him, for reviews and the audit log.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Credentials were given and are not good, or are needed and were not given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub String);

/// Paths that need no identity. Everything else answers 401 without one.
const ANONYMOUS_PATHS: [&str; 4] = ["/livez", "/readyz", "/healthz", "/version"];

/// All ways to prove an identity, in the order in which they are tried.
pub struct Authenticator {
    /// Service-account tokens; `None` when there is no signing key.
    pub tokens: Option<Arc<Tokens>>,
    /// Tokens from configuration.
    pub static_tokens: bearer::StaticTokens,
}

impl Authenticator {
    /// Who sends this request.
    pub async fn authenticate(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<Arc<User>, Unauthenticated> {
        if let Some(user) = &peer.user {
            return Ok(Arc::clone(user));
        }
        match bearer::find(headers) {
            bearer::Found::Token(token) => self.by_token(&token).await,
            bearer::Found::Other => Err(Unauthenticated("unknown authorization scheme".to_owned())),
            bearer::Found::Nothing => {
                let open = ANONYMOUS_PATHS.iter().any(|open| {
                    path.strip_prefix(open)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                });
                match open {
                    true => Ok(Arc::new(User::anonymous())),
                    false => Err(Unauthenticated("no credentials".to_owned())),
                }
            }
        }
    }

    async fn by_token(&self, token: &str) -> Result<Arc<User>, Unauthenticated> {
        if let Some(user) = self.static_tokens.user(token) {
            return Ok(user);
        }
        let Some(tokens) = self
            .tokens
            .as_ref()
            .filter(|_| Tokens::looks_like_jwt(token))
        else {
            return Err(Unauthenticated("unknown bearer token".to_owned()));
        };
        match tokens.verify(token, tokens.audiences()).await {
            Ok(verified) => Ok(Arc::new(verified.user)),
            Err(error) => Err(Unauthenticated(error.to_string())),
        }
    }
}
