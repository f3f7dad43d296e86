//! Service-account tokens: issued by TokenRequest, verified on every request that bears one.
//!
//! Tokens are never stored. They are bound to their ServiceAccount and, when asked for, to a Pod, Secret or Node, and die
//! with it. Invariant: a token is accepted only while everything that it names exists with the same uid.

mod keys;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::status::Status;
use corten_base::clock::Clock;
use serde_json::{Value, json};

pub use keys::{KeyError, Keys};

use crate::authn::User;
use crate::chain::objects::{Objects, Resource};

/// Prefix of a service account's user name.
pub const USER_PREFIX: &str = "system:serviceaccount:";
/// Group of all service accounts; followed by `:<namespace>` it is the group of a namespace's.
pub const GROUP_ALL: &str = "system:serviceaccounts";

/// Clocks of other apiservers may be ahead of ours by this much.
const LEEWAY_SECONDS: i64 = 60;

/// Signs and verifies.
pub struct Tokens {
    keys: Keys,
    issuer: String,
    audiences: Vec<String>,
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
}

/// Why a token is not accepted; for the log and for TokenReview, never for the holder of a bad token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The signature, the form or the algorithm.
    #[error("token is malformed or signed by an unknown key")]
    Signature,
    /// Another cluster's token.
    #[error("token has another issuer")]
    Issuer,
    /// `exp` or `nbf`.
    #[error("token has expired or is not valid yet")]
    Time,
    /// Meant for somebody else.
    #[error("token audiences {0:?} are not what this server accepts")]
    Audience(Vec<String>),
    /// The account, pod, secret or node is gone.
    #[error("{0} that the token is bound to does not exist any more")]
    Unbound(&'static str),
    /// The registry could not be read.
    #[error("token cannot be checked: {0}")]
    Lookup(Status),
}

/// A verified token.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Who bears it.
    pub user: User,
    /// The audiences that both the token and the question name.
    pub audiences: Vec<String>,
}

impl Tokens {
    /// `audiences` are the ones the API server itself accepts; empty means the issuer.
    pub fn new(
        keys: Keys,
        issuer: &str,
        audiences: &[String],
        objects: Arc<dyn Objects>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let audiences = if audiences.is_empty() {
            vec![issuer.to_owned()]
        } else {
            audiences.to_vec()
        };
        Self {
            keys,
            issuer: issuer.to_owned(),
            audiences,
            objects,
            clock,
        }
    }

    /// The audiences that this server accepts.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Whether a bearer token claims to be one of ours, so that others need not be tried.
    pub fn looks_like_jwt(token: &str) -> bool {
        token.bytes().filter(|&byte| byte == b'.').count() == 2
    }

    /// Verifies a token for one of `audiences`.
    pub async fn verify(&self, token: &str, audiences: &[String]) -> Result<Verified, TokenError> {
        let claims = self.keys.verify(token).ok_or(TokenError::Signature)?;
        let accepted = self.check_claims(&claims, audiences)?;
        let private = &claims["kubernetes.io"];
        let namespace = private["namespace"].as_str().unwrap_or_default();
        let account = &private["serviceaccount"];
        let name = account["name"].as_str().unwrap_or_default();
        if namespace.is_empty() || claims["sub"] != format!("{USER_PREFIX}{namespace}:{name}") {
            return Err(TokenError::Signature);
        }
        self.check_exists("serviceaccounts", "the service account", namespace, account)
            .await?;
        let bound = [
            ("pod", "pods", "the pod", namespace),
            ("secret", "secrets", "the secret", namespace),
        ];
        for (claim, resource, words, namespace) in bound {
            if !private[claim].is_null() {
                self.check_exists(resource, words, namespace, &private[claim])
                    .await?;
            }
        }
        // A pod's token names its node for information; only a token bound to the node itself dies with it.
        if private["pod"].is_null() && !private["node"].is_null() {
            self.check_exists("nodes", "the node", "", &private["node"])
                .await?;
        }
        Ok(Verified {
            user: user_of(namespace, name, &claims),
            audiences: accepted,
        })
    }

    fn check_claims(
        &self,
        claims: &Value,
        audiences: &[String],
    ) -> Result<Vec<String>, TokenError> {
        if claims["iss"] != self.issuer {
            return Err(TokenError::Issuer);
        }
        let now = self.clock.wall().as_second();
        let expires = claims["exp"].as_i64().unwrap_or_default();
        let starts = claims["nbf"].as_i64().unwrap_or_default();
        if now >= expires || now + LEEWAY_SECONDS < starts {
            return Err(TokenError::Time);
        }
        let named: Vec<String> = match &claims["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        let accepted: Vec<String> = audiences
            .iter()
            .filter(|audience| named.contains(audience))
            .cloned()
            .collect();
        if accepted.is_empty() {
            Err(TokenError::Audience(named))
        } else {
            Ok(accepted)
        }
    }

    async fn check_exists(
        &self,
        resource: &'static str,
        words: &'static str,
        namespace: &str,
        reference: &Value,
    ) -> Result<(), TokenError> {
        let name = reference["name"].as_str().unwrap_or_default();
        let resource = Resource::core(resource);
        let holds = |found: Option<Value>| {
            found.is_some_and(|object| {
                object["metadata"]["uid"] == reference["uid"] && !self.is_long_deleted(&object)
            })
        };
        let cached = self.objects.get(resource, namespace, name).await;
        if holds(cached.map_err(TokenError::Lookup)?) {
            return Ok(());
        }
        // The cache may be behind the object's creator.
        let latest = self.objects.latest(resource, namespace, name).await;
        if holds(latest.map_err(TokenError::Lookup)?) {
            return Ok(());
        }
        Err(TokenError::Unbound(words))
    }

    /// A terminating pod keeps its token until its grace period is over, and a little longer to finish.
    fn is_long_deleted(&self, object: &Value) -> bool {
        let deleted = object["metadata"]["deletionTimestamp"].as_str();
        let at = deleted.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        at.is_some_and(|at| at.as_second() + LEEWAY_SECONDS < self.clock.wall().as_second())
    }

    /// The OIDC discovery document.
    pub fn openid_configuration(&self, host: &str) -> Value {
        let base = match self.issuer.starts_with("https://") {
            true => self.issuer.trim_end_matches('/').to_owned(),
            false => format!("https://{host}"),
        };
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{base}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The public keys.
    pub fn jwks(&self) -> Value {
        self.keys.jwks()
    }
}

/// The groups of a service account.
pub fn groups_of(namespace: &str) -> [String; 2] {
    [GROUP_ALL.to_owned(), format!("{GROUP_ALL}:{namespace}")]
}

fn user_of(namespace: &str, name: &str, claims: &Value) -> User {
    let private = &claims["kubernetes.io"];
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        }
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    add(
        "credential-id",
        claims["jti"].as_str().map(|id| format!("JTI={id}")),
    );
    for bound in ["pod", "node"] {
        add(&format!("{bound}-name"), text(&private[bound]["name"]));
        add(&format!("{bound}-uid"), text(&private[bound]["uid"]));
    }
    let user = User::authenticated(
        format!("{USER_PREFIX}{namespace}:{name}"),
        groups_of(namespace),
    );
    User {
        uid: text(&private["serviceaccount"]["uid"]).unwrap_or_default(),
        extra,
        ..user
    }
}
