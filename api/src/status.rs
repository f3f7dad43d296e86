//! The answer `metav1.Status`: every way the API says no (and, on deletions, yes), with upstream's codes and texts.
//! It is not an error of ours: components convert their own errors to it at one edge. Invariant: the code follows from
//! the reason, and what a program needs to react (name, causes, retry time) is in the details.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::field::{self, FieldError};
use crate::meta::{GroupKind, GroupResource};
use crate::quote::quote;

mod reason;
#[cfg(test)]
mod tests;

pub use reason::Reason;

/// One of several causes of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// A word for programs, such as `FieldValueRequired`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// The field it is about, or empty.
    pub field: String,
}

/// What a Status is about and what a client needs to react to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// The object's name, or for ServerTimeout the operation.
    pub name: String,
    /// The group, empty for core.
    pub group: String,
    /// The resource (plural), or for Invalid the kind.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// The causes, one for each broken field for Invalid.
    pub causes: Vec<Cause>,
    /// When to try again; 0 means the client decides.
    pub retry_after_seconds: u32,
}

/// The API's answer where no object can be returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    code: u16,
    /// `None` on success.
    pub reason: Option<Reason>,
    /// A sentence for people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`, which an expired list uses to say where to go on.
    pub continue_token: Option<String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    /// A failure with the code that belongs to `reason`.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        let code = reason.code();
        Status {
            code,
            reason: Some(reason),
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    /// A failure with a code of its own, for answers of others (webhooks, other servers) that are passed on.
    pub fn with_code(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Status {
            code,
            ..Self::failure(reason, message)
        }
    }

    /// A success about `details`, which deletions answer with.
    pub fn success(details: Option<Details>) -> Self {
        Status {
            code: 200,
            reason: None,
            message: String::new(),
            details: details.map(Box::new),
            continue_token: None,
        }
    }

    /// Adds details.
    #[must_use]
    pub fn details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    fn about(self, resource: &GroupResource, name: &str) -> Self {
        self.details(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..Details::default()
        })
    }

    /// Adds one cause.
    #[must_use]
    pub fn cause(mut self, kind: &str, field: &str, message: impl Into<String>) -> Self {
        let cause = Cause {
            kind: kind.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

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

    /// The HTTP code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Whether it is a success.
    pub fn is_success(&self) -> bool {
        self.reason.is_none()
    }

    /// Whether the reason is `reason`.
    pub fn is(&self, reason: &Reason) -> bool {
        self.reason.as_ref() == Some(reason)
    }

    /// Seconds for a Retry-After header, when the Status asks for one.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details
            .as_ref()
            .map(|details| details.retry_after_seconds)
            .filter(|seconds| *seconds > 0)
    }

    /// The wire form.
    pub fn to_json(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), json!(token));
        }
        let mut out = Map::new();
        out.insert("kind".to_owned(), json!("Status"));
        out.insert("apiVersion".to_owned(), json!("v1"));
        out.insert("metadata".to_owned(), Value::Object(metadata));
        out.insert(
            "status".to_owned(),
            json!(if self.is_success() {
                "Success"
            } else {
                "Failure"
            }),
        );
        put(&mut out, "message", &self.message);
        if let Some(reason) = &self.reason {
            put(&mut out, "reason", reason.as_str());
        }
        if let Some(details) = &self.details {
            out.insert("details".to_owned(), details.to_json());
        }
        if !self.is_success() {
            out.insert("code".to_owned(), json!(self.code));
        }
        Value::Object(out)
    }

    /// Reads the wire form; `None` when it is not a Status.
    pub fn from_json(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        if object.get("kind").and_then(Value::as_str) != Some("Status") {
            return None;
        }
        let success = object.get("status").and_then(Value::as_str) == Some("Success");
        let reason = Reason::from_name(text(object.get("reason")));
        let code = object
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let continue_token = value
            .pointer("/metadata/continue")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Some(Status {
            code: code.unwrap_or(if success { 200 } else { reason.code() }),
            reason: (!success).then_some(reason),
            message: text(object.get("message")).to_owned(),
            details: object
                .get("details")
                .map(|details| Box::new(Details::from_json(details))),
            continue_token,
        })
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "name", &self.name);
        put(&mut out, "group", &self.group);
        put(&mut out, "kind", &self.kind);
        put(&mut out, "uid", &self.uid);
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut out = Map::new();
                put(&mut out, "reason", &cause.kind);
                put(&mut out, "message", &cause.message);
                put(&mut out, "field", &cause.field);
                Value::Object(out)
            });
            out.insert("causes".to_owned(), causes.collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert(
                "retryAfterSeconds".to_owned(),
                json!(self.retry_after_seconds),
            );
        }
        Value::Object(out)
    }

    fn from_json(value: &Value) -> Self {
        let cause = |value: &Value| Cause {
            kind: text(value.get("reason")).to_owned(),
            message: text(value.get("message")).to_owned(),
            field: text(value.get("field")).to_owned(),
        };
        let causes = value.get("causes").and_then(Value::as_array);
        let retry = value.get("retryAfterSeconds").and_then(Value::as_u64);
        Details {
            name: text(value.get("name")).to_owned(),
            group: text(value.get("group")).to_owned(),
            kind: text(value.get("kind")).to_owned(),
            uid: text(value.get("uid")).to_owned(),
            causes: causes
                .map(|causes| causes.iter().map(cause).collect())
                .unwrap_or_default(),
            retry_after_seconds: retry
                .and_then(|seconds| u32::try_from(seconds).ok())
                .unwrap_or(0),
        }
    }
}

fn put(out: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        out.insert(key.to_owned(), json!(value));
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or("")
}

fn join<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items
        .into_iter()
        .map(|item| item.as_ref().to_owned())
        .collect();
    items.join(", ")
}
