//! Admission: what the cluster adds to an object, and what it refuses although the request is well formed and allowed.
//!
//! Functions that read top to bottom: [`Admission::admit`] may change the object, [`Admission::validate`] only refuses, and
//! [`Admission::charge`], the last before the store, takes what is let in from the namespace's quotas.
//! Webhooks and policies will stand in the first two places. Invariant: admission reads the watch caches and never
//! the store, except to make sure before it says that a namespace does not exist.

mod certificates;
mod limits;
mod namespace;
mod nodes;
mod pod_security;
mod pods;
mod quota;
mod runtime_class;
mod service_account;
mod storage;

use corten_api::kinds::ResourceDescriptor;
use corten_api::status::Status;
use serde_json::Value;

use crate::authz::{escalation, restriction};
use crate::registry::{Context, Registry, Target};

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// One write under review.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    pub context: &'a Context,
    pub target: &'a Target,
    pub operation: Operation,
}

impl Review<'_> {
    /// Whether the write is about this resource itself, and not a subresource.
    fn is(&self, group: &str, resource: &str) -> bool {
        let descriptor = self.target.descriptor;
        descriptor.group == group
            && descriptor.resource == resource
            && self.target.subresource.is_empty()
    }

    /// Whether it changes how large a pod is.
    fn is_resize(&self) -> bool {
        let ResourceDescriptor {
            group, resource, ..
        } = *self.target.descriptor;
        let sub = self.target.subresource.as_str();
        (group, resource, sub) == ("", "pods", "resize") && self.operation == Operation::Update
    }
}

/// Settings of the built-in admission steps.
#[derive(Debug, Clone)]
pub struct Admission {
    /// How long pods stay on a node that is not ready, when they say nothing else.
    pub not_ready_toleration_seconds: i64,
    /// The same for unreachable nodes.
    pub unreachable_toleration_seconds: i64,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            not_ready_toleration_seconds: 300,
            unreachable_toleration_seconds: 300,
        }
    }
}

impl Admission {
    /// Completes an object, or refuses it.
    pub async fn admit(
        &self,
        registry: &Registry,
        review: &Review<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let _ = old;
        // First, because everything else would complain about the consequences of a missing namespace.
        if review.operation == Operation::Create {
            namespace::require_active(registry, review.target).await?;
        }
        if review.operation == Operation::Create && review.is("", "pods") {
            service_account::admit(registry, review, object).await?;
            pods::set_priority(registry, review, object)?;
            limits::admit(registry, review, object);
            runtime_class::admit(registry, review, object).await?;
        }
        if review.is_resize() {
            limits::admit(registry, review, object);
        }
        // On updates too: a client that writes the list anew need not know what stands in it.
        if review.operation != Operation::Delete && review.is("", "pods") {
            pods::add_default_tolerations(self, object);
        }
        if review.operation == Operation::Create && review.is("", "nodes") {
            nodes::taint(object);
        }
        if review.operation == Operation::Create {
            storage::protect(review, object);
            storage::choose_class(registry, review, object);
        }
        Ok(())
    }

    /// Refuses what must not be. `object` is none for deletions, `old` is none for creations.
    pub fn validate(
        &self,
        registry: &Registry,
        review: &Review<'_>,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if review.operation == Operation::Delete {
            namespace::keep_system_namespaces(review)?;
        }
        node_restriction(review, object, old)?;
        certificates::validate(registry, review, object, old)?;
        pod_security::validate(registry, review, object, old)?;
        limits::validate(registry, review, object)?;
        storage::let_grow(registry, review, object, old)?;
        if let Some(object) = object {
            no_escalation(registry, review, object, old)?;
        }
        Ok(())
    }

    /// Takes what the object uses from the quotas of its namespace, or refuses it.
    pub async fn charge(
        &self,
        registry: &Registry,
        review: &Review<'_>,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        // Charging writes an object, which is again under review.
        Box::pin(quota::charge(registry, review, new, old)).await
    }

    /// What a client is to be told about an object that is let through.
    pub fn warnings(
        &self,
        registry: &Registry,
        review: &Review<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Vec<String> {
        pod_security::warnings(registry, review, object, old)
    }
}

fn node_restriction(
    review: &Review<'_>,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let operation = match review.operation {
        Operation::Create => restriction::Operation::Create,
        Operation::Update => restriction::Operation::Update,
        Operation::Delete => restriction::Operation::Delete,
    };
    restriction::check(&restriction::Write {
        user: &review.context.user,
        operation,
        group: review.target.descriptor.group,
        resource: review.target.descriptor.resource,
        subresource: &review.target.subresource,
        name: &review.target.name,
        old,
        new,
    })
    .map_err(|why| review.target.forbidden(&why))
}

fn no_escalation(
    registry: &Registry,
    review: &Review<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let target = review.target;
    if target.descriptor.group != escalation::GROUP {
        return Ok(());
    }
    let Some(authorizer) = registry.authorizer() else {
        return Ok(());
    };
    let write = escalation::Write {
        user: &review.context.user,
        resource: target.descriptor.resource,
        namespace: &target.namespace,
        name: &target.name,
        old,
        new,
    };
    authorizer
        .check_escalation(&write)
        .map_err(|why| target.forbidden(&why))
}
