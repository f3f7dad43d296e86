//! What an identity may do.
//!
//! Authorizers are synchronous functions over caches: they never read the store and never wait, so that a slow store
//! cannot slow or fail a decision. They do not see bodies; what depends on the object (NodeRestriction, escalation)
//! is admission's part. Invariant: nothing is allowed unless an authorizer says so.

pub mod escalation;
pub mod live;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod restriction;

use corten_api::meta::GroupResource;
use corten_api::quote::quote;
use corten_api::status::Status;

use crate::authn::User;
use crate::request::RequestInfo;

#[cfg(test)]
mod tests;

/// One question to the authorizers.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// The verb, as in RBAC rules.
    pub verb: &'a str,
    /// Empty: core group.
    pub group: &'a str,
    /// Version of the group; rules ignore it.
    pub version: &'a str,
    /// Plural name, empty for non-resource requests.
    pub resource: &'a str,
    /// Empty: the resource itself.
    pub subresource: &'a str,
    /// Empty: cluster-wide.
    pub namespace: &'a str,
    /// Empty: the collection.
    pub name: &'a str,
    /// Path of a non-resource request.
    pub path: &'a str,
    /// Whether `resource` or `path` is meant.
    pub is_resource_request: bool,
    /// Raw field selector of a list, watch or deletecollection.
    pub field_selector: Option<&'a str>,
    /// Raw label selector of a list, watch or deletecollection.
    pub label_selector: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// The question that a REST request puts.
    pub fn of_request(user: &'a User, info: &'a RequestInfo) -> Self {
        Self {
            user,
            verb: &info.verb,
            group: &info.api_group,
            version: &info.api_version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            is_resource_request: info.is_resource_request,
            field_selector: info.field_selector.as_deref(),
            label_selector: info.label_selector.as_deref(),
        }
    }

    /// A question about a resource, for callers that have no REST request (gRPC, admission).
    pub fn resource(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            group,
            version: "*",
            resource,
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            is_resource_request: true,
            field_selector: None,
            label_selector: None,
        }
    }

    /// The same question within a namespace.
    pub fn in_namespace(self, namespace: &'a str) -> Self {
        Self { namespace, ..self }
    }

    /// The same question about one object.
    pub fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    /// The same question about a subresource.
    pub fn with_subresource(self, subresource: &'a str) -> Self {
        Self {
            subresource,
            ..self
        }
    }
}

/// An authorizer's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed; the reason goes to the audit log and to access reviews.
    Allow(String),
    /// Forbidden, whatever other authorizers think.
    Deny(String),
    /// This authorizer has no rule; when all say so, the request is forbidden. The reason may be empty.
    NoOpinion(String),
}

impl Decision {
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// Something that decides.
pub trait Authorizer: Send + Sync {
    /// Answers at once, from memory.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// Whether a refusal is final: until all rules are loaded, who is refused may be allowed a moment later.
    fn knows_all(&self) -> bool {
        true
    }
}

/// When a server that is still loading its rules is worth another try, in seconds.
const LOADING_RETRY: u32 = 1;

/// Asks, and turns a refusal into the 403 that clients know.
pub fn require(authorizer: &dyn Authorizer, attributes: &Attributes<'_>) -> Result<(), Status> {
    match authorizer.authorize(attributes) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(_) | Decision::NoOpinion(_) if !authorizer.knows_all() => {
            // A 403 would be taken for an answer; clients come back after a 503 by themselves.
            let message = "the server is still loading the rules that say who may do what";
            Err(Status::service_unavailable(message).retry_after(LOADING_RETRY))
        }
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(attributes, &reason)),
    }
}

/// The 403 for a refused question.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = refusal(attributes);
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    if !attributes.is_resource_request {
        return Status::forbidden(None, "", &why);
    }
    let resource = GroupResource::new(attributes.group.to_owned(), attributes.resource.to_owned());
    Status::forbidden(Some(&resource), attributes.name, &why)
}

fn refusal(attributes: &Attributes<'_>) -> String {
    let user = quote(&attributes.user.name);
    let verb = attributes.verb;
    if !attributes.is_resource_request {
        return format!("User {user} cannot {verb} path {}", quote(attributes.path));
    }
    let resource = match attributes.subresource {
        "" => quote(attributes.resource),
        subresource => quote(&format!("{}/{subresource}", attributes.resource)),
    };
    let scope = match attributes.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {}", quote(namespace)),
    };
    format!(
        "User {user} cannot {verb} resource {resource} in API group {} {scope}",
        quote(attributes.group)
    )
}
