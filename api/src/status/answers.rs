//! The answers: one constructor for each way the API says no, with upstream's text.
//! Invariant: a text that upstream's clients show or compare is made here and nowhere else.

use std::fmt;

use super::{Cause, Details, Reason, Status};
use crate::field::{self, FieldError};
use crate::meta::{GroupKind, GroupResource};
use crate::quote::quote;

impl Status {
    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(Reason::BadRequest, message)
    }

    /// 401: who are you?
    pub fn unauthorized() -> Self {
        Self::failure(Reason::Unauthorized, "Unauthorized")
    }

    /// 403: `pods "x" is forbidden: why`. `resource` is `None` for paths outside of resources; `name` may be empty.
    pub fn forbidden(resource: Option<&GroupResource>, name: &str, why: &str) -> Self {
        let Some(resource) = resource else {
            let details = Details {
                name: name.to_owned(),
                ..Details::default()
            };
            return Self::failure(Reason::Forbidden, format!("forbidden: {why}")).details(details);
        };
        let message = match name {
            "" => format!("{resource} is forbidden: {why}"),
            name => format!("{resource} {} is forbidden: {why}", quote(name)),
        };
        Self::failure(Reason::Forbidden, message).about(resource, name)
    }

    /// 404: no such object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(
            Reason::NotFound,
            format!("{resource} {} not found", quote(name)),
        )
        .about(resource, name)
    }

    /// 404: no such path, or no such kind.
    pub fn no_such_path() -> Self {
        Self::failure(
            Reason::NotFound,
            "the server could not find the requested resource",
        )
        .details(Details::default())
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(
            Reason::AlreadyExists,
            format!("{resource} {} already exists", quote(name)),
        )
        .about(resource, name)
    }

    /// 409: no free name was found for a generateName.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Self::failure(Reason::AlreadyExists, message)
            .about(resource, name)
            .retry_after(1)
    }

    /// 409: the operation does not fit the object's state.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {resource} {}: {why}",
            quote(name)
        );
        Self::failure(Reason::Conflict, message).about(resource, name)
    }

    /// 409: the object changed since the client read it.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409: a precondition (uid or resourceVersion) does not hold.
    pub fn precondition_failed(
        resource: &GroupResource,
        name: &str,
        field: &str,
        wanted: &str,
        found: &str,
    ) -> Self {
        let what = if field == "uid" {
            "UID"
        } else {
            "ResourceVersion"
        };
        let why = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        Self::conflict(resource, name, &why)
    }

    /// 409: fields belong to other managers; `causes` name them.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        Self::failure(Reason::Conflict, message).details(Details {
            causes,
            ..Details::default()
        })
    }

    /// 410: it was there once.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(Reason::Gone, message)
    }

    /// 410: the revision or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(Reason::Expired, message)
    }

    /// 410 with the token to go on with, for a list whose own token is too old.
    pub fn continue_expired(continue_token: impl Into<String>) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start \
            a new list without the continue parameter, or use the continue token in this response to retrieve the \
            remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
            that were created, modified, or deleted between the time the first chunk was returned and now may show \
            up in the list.";
        Status {
            continue_token: Some(continue_token.into()),
            ..Self::expired(message)
        }
    }

    /// 422: fields break the rules.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &[FieldError]) -> Self {
        let mut message = format!("{kind} {} is invalid", quote(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&field::aggregate(errors));
        }
        let cause = |error: &FieldError| Cause {
            kind: error.kind.cause().to_owned(),
            message: error.body(),
            field: error.path.to_string(),
        };
        Self::failure(Reason::Invalid, message).details(Details {
            name: name.to_owned(),
            group: kind.group.to_string(),
            kind: kind.kind.to_string(),
            causes: errors.iter().map(cause).collect(),
            ..Details::default()
        })
    }

    /// 422 without fields, such as a patch that does not apply.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::failure(Reason::Invalid, message)
    }

    /// 500: the operation did not finish in time, and may be tried again.
    pub fn server_timeout(
        resource: &GroupResource,
        operation: &str,
        retry_after_seconds: u32,
    ) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::failure(Reason::ServerTimeout, message)
            .about(resource, operation)
            .retry_after(retry_after_seconds)
    }

    /// 504: the request took too long; whether it had an effect is unknown.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::failure(Reason::Timeout, format!("Timeout: {message}"))
            .retry_after(retry_after_seconds)
    }

    /// 429: come back later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(Reason::TooManyRequests, message).retry_after(retry_after_seconds)
    }

    /// 413: the body is too big.
    pub fn request_too_large(message: &str) -> Self {
        Self::failure(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: {message}"),
        )
    }

    /// 415: the body's media type is none of `accepted`.
    pub fn unsupported_media_type<S: AsRef<str>>(accepted: impl IntoIterator<Item = S>) -> Self {
        let list = join(accepted);
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        );
        Self::failure(Reason::UnsupportedMediaType, message)
    }

    /// 406: the client accepts none of what can be sent.
    pub fn not_acceptable<S: AsRef<str>>(offered: impl IntoIterator<Item = S>) -> Self {
        let list = join(offered);
        Self::failure(
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {list}"),
        )
    }

    /// 405: the resource does not know the verb.
    pub fn method_not_allowed(resource: &GroupResource, verb: &str) -> Self {
        let message = format!(
            "{verb} is not supported on resources of kind {}",
            quote(&resource.to_string())
        );
        Self::failure(Reason::MethodNotAllowed, message).about(resource, "")
    }

    /// 405 for a path whose resource is not known.
    pub fn method_not_supported() -> Self {
        Self::failure(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
        .details(Details::default())
    }

    /// 500: our fault.
    pub fn internal(error: impl fmt::Display) -> Self {
        Self::failure(
            Reason::InternalError,
            format!("Internal error occurred: {error}"),
        )
        .cause("", "", error.to_string())
    }

    /// 503: something the server needs does not answer.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(Reason::ServiceUnavailable, message)
    }

    /// 501: a part of the API that is not built; `what` names it.
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self::with_code(
            501,
            Reason::Other("NotImplemented".to_owned()),
            format!("{what} is not implemented"),
        )
    }
}

fn join<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items
        .into_iter()
        .map(|item| item.as_ref().to_owned())
        .collect();
    items.join(", ")
}
