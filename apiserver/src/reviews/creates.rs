//! Reviews and token requests as the registry's creations of things that are not stored.
//!
//! REST and gRPC reach them like any other create. Invariant: one pair of authenticator and authorizer answers requests and
//! questions about requests alike.

use std::sync::Arc;

use async_trait::async_trait;
use corten_api::status::Status;
use serde_json::Value;

use super::{Reviewer, kind_of};
use crate::authn::Authenticator;
use crate::authz::live::Live;
use crate::registry::{Context, Creates, Registry, Target};

/// Answers from the server's own identities and rules.
pub struct Computed {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Live>,
}

/// Everything that is computed.
const RESOURCES: [(&str, &str, &str); 7] = [
    ("authentication.k8s.io", "tokenreviews", ""),
    ("authentication.k8s.io", "selfsubjectreviews", ""),
    ("authorization.k8s.io", "subjectaccessreviews", ""),
    ("authorization.k8s.io", "localsubjectaccessreviews", ""),
    ("authorization.k8s.io", "selfsubjectaccessreviews", ""),
    ("authorization.k8s.io", "selfsubjectrulesreviews", ""),
    ("", "serviceaccounts", "token"),
];

/// Puts it in charge of reviews and tokens.
pub fn install(registry: &Registry, authenticator: &Arc<Authenticator>, authorizer: &Arc<Live>) {
    let computed = Arc::new(Computed {
        authenticator: Arc::clone(authenticator),
        authorizer: Arc::clone(authorizer),
    });
    for (group, resource, subresource) in RESOURCES {
        let by: Arc<dyn Creates> = Arc::clone(&computed) as Arc<dyn Creates>;
        registry.answer_creates(group, resource, subresource, by);
    }
}

#[async_trait]
impl Creates for Computed {
    async fn create(&self, context: &Context, target: &Target, body: Value) -> Result<Value, Status> {
        if target.subresource == "token" {
            let tokens = self.authenticator.tokens.as_ref().ok_or_else(|| {
                Status::service_unavailable("this server has no key to sign service-account tokens with")
            })?;
            return tokens.request(&context.user, &target.namespace, &target.name, body).await;
        }
        let kind = kind_of(target.descriptor.group, target.descriptor.resource).ok_or_else(Status::no_such_path)?;
        let reviewer = Reviewer { authenticator: &self.authenticator, authorizer: &self.authorizer };
        reviewer.answer(kind, &context.user, &target.namespace, body).await
    }
}
