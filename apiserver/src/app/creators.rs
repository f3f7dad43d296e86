//! Who answers creates of what is not stored: tokens and reviews, for REST and gRPC alike.
//!
//! Invariant: the answer is computed from the caller's identity and the body alone; nothing is written.

use std::sync::Arc;

use async_trait::async_trait;
use corten_api::status::Status;
use serde_json::Value;

use crate::authn::Authenticator;
use crate::authz::live::Live;
use crate::registry::{Context, Creates, Registry, Target};
use crate::reviews::{self, Reviewer};
use crate::tokens::Tokens;

/// Puts them in charge.
pub(super) fn register(
    registry: &Registry,
    authorizer: &Arc<Live>,
    authenticator: &Arc<Authenticator>,
) {
    if let Some(tokens) = &authenticator.tokens {
        let issuer = Arc::new(TokenRequests {
            tokens: Arc::clone(tokens),
        });
        registry.answer_creates("", "serviceaccounts", "token", issuer);
    }
    let reviews = Arc::new(Reviews {
        authenticator: Arc::clone(authenticator),
        authorizer: Arc::clone(authorizer),
    });
    for descriptor in corten_api::kinds::registry().all() {
        if reviews::kind_of(descriptor.group, descriptor.resource).is_some() {
            registry.answer_creates(
                descriptor.group,
                descriptor.resource,
                "",
                Arc::clone(&reviews) as Arc<_>,
            );
        }
    }
}

struct TokenRequests {
    tokens: Arc<Tokens>,
}

#[async_trait]
impl Creates for TokenRequests {
    async fn create(
        &self,
        context: &Context,
        target: &Target,
        body: Value,
    ) -> Result<Value, Status> {
        self.tokens
            .request(&context.user, &target.namespace, &target.name, body)
            .await
    }
}

struct Reviews {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Live>,
}

#[async_trait]
impl Creates for Reviews {
    async fn create(
        &self,
        context: &Context,
        target: &Target,
        body: Value,
    ) -> Result<Value, Status> {
        let kind = reviews::kind_of(target.descriptor.group, target.descriptor.resource);
        let kind = kind.ok_or_else(Status::no_such_path)?;
        let reviewer = Reviewer {
            authenticator: &self.authenticator,
            authorizer: &self.authorizer,
        };
        reviewer
            .answer(kind, &context.user, &target.namespace, body)
            .await
    }
}
