//! The answer `metav1.Status`: every way the API says no (and, on deletions, yes), with upstream's codes and texts.
//! It is not an error of ours: components convert their own errors to it at one edge. Invariant: the code follows from
//! the reason, and what a program needs to react (name, causes, retry time) is in the details.

use std::fmt;

use crate::meta::GroupResource;

mod answers;
mod json;
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
}
