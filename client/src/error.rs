//! What a call can end in, read from the metav1.Status that the server sends beside its gRPC status. Callers branch on
//! variants, never on text.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status as ApiStatus;

/// A call's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Trailing metadata that carries the metav1.Status as JSON.
pub const STATUS_METADATA: &str = "corten-status-bin";

/// What the server said about a call that it refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP code that REST would answer.
    pub code: u16,
    /// The machine-readable reason, as in `NotFound`.
    pub reason: String,
    /// The text for people.
    pub message: String,
    /// When to come back, where the server said so.
    pub retry_after: Option<Duration>,
    /// Single causes, as (reason, field, message).
    pub causes: Vec<Cause>,
}

/// One cause of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The machine-readable reason, as in `FieldValueInvalid` or `DisruptionBudget`.
    pub reason: String,
    /// The field's path, or empty.
    pub field: String,
    /// The text for people.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 404: no such object (or no such resource).
    #[error("not found: {0}")]
    NotFound(Box<Failure>),
    /// 409 on create: the name is taken.
    #[error("already exists: {0}")]
    AlreadyExists(Box<Failure>),
    /// 409 on a write: the object changed since it was read, or a precondition does not hold.
    #[error("conflict: {0}")]
    Conflict(Box<Failure>),
    /// 403: we may not, or an admission step refused it.
    #[error("forbidden: {0}")]
    Forbidden(Box<Failure>),
    /// 401: the server does not know us.
    #[error("unauthorized: {0}")]
    Unauthorized(Box<Failure>),
    /// 422: the object is not valid.
    #[error("invalid: {0}")]
    Invalid(Box<Failure>),
    /// 400: the request makes no sense.
    #[error("bad request: {0}")]
    BadRequest(Box<Failure>),
    /// 410: the revision asked for is compacted away; start over.
    #[error("gone: {0}")]
    Gone(Box<Failure>),
    /// 429: later, please (also an eviction that a disruption budget forbids).
    #[error("too many requests: {0}")]
    TooManyRequests(Box<Failure>),
    /// The server cannot be reached or cannot serve now. The call may or may not have been carried out.
    #[error("unavailable: {0}")]
    Unavailable(Box<Failure>),
    /// No answer in time. The call may or may not have been carried out.
    #[error("timed out: {0}")]
    Timeout(Box<Failure>),
    /// 500.
    #[error("internal error of the server: {0}")]
    Internal(Box<Failure>),
    /// Any other refusal.
    #[error("refused ({code} {reason}): {0}", code = .0.code, reason = .0.reason)]
    Other(Box<Failure>),
    /// The server's answer is not what the type says. Permanent: the versions do not fit.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// What was being read.
        what: String,
        /// Why it could not be.
        reason: String,
    },
    /// The object given cannot be written as JSON, or lacks its name.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// What was being written.
        what: String,
        /// Why it could not be.
        reason: String,
    },
    /// The configuration cannot work.
    #[error("client configuration: {0}")]
    Config(String),
}

impl Error {
    /// Whether the same call may succeed later without anything changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::TooManyRequests(_) | Self::Unavailable(_) | Self::Timeout(_) | Self::Internal(_)
        )
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Whether the object changed under us.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists(_))
    }

    /// What the server said, where it was the server.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::NotFound(failure)
            | Self::AlreadyExists(failure)
            | Self::Conflict(failure)
            | Self::Forbidden(failure)
            | Self::Unauthorized(failure)
            | Self::Invalid(failure)
            | Self::BadRequest(failure)
            | Self::Gone(failure)
            | Self::TooManyRequests(failure)
            | Self::Unavailable(failure)
            | Self::Timeout(failure)
            | Self::Internal(failure)
            | Self::Other(failure) => Some(failure),
            Self::Decode { .. } | Self::Encode { .. } | Self::Config(_) => None,
        }
    }

    /// When the server asked us to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure().and_then(|failure| failure.retry_after)
    }

    /// Whether the failure has a cause with this reason, as in `NamespaceTerminating` or `DisruptionBudget`.
    pub fn has_cause(&self, reason: &str) -> bool {
        self.failure()
            .is_some_and(|failure| failure.causes.iter().any(|cause| cause.reason == reason))
    }

    pub(crate) fn timeout(what: impl std::fmt::Display) -> Self {
        Self::Timeout(Box::new(Failure {
            code: 504,
            reason: "Timeout".to_owned(),
            message: format!("no answer to {what} in time"),
            ..Failure::default()
        }))
    }

    /// A precondition that we checked ourselves does not hold.
    pub(crate) fn conflict(why: impl std::fmt::Display) -> Self {
        Self::Conflict(Box::new(Failure {
            code: 409,
            reason: "Conflict".to_owned(),
            message: why.to_string(),
            ..Failure::default()
        }))
    }

    /// Reads a metav1.Status.
    pub fn from_status(status: ApiStatus) -> Self {
        let details = status.details.unwrap_or_default();
        let failure = Box::new(Failure {
            code: status
                .code
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(500),
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            retry_after: details
                .retry_after_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            causes: details
                .causes
                .unwrap_or_default()
                .into_iter()
                .map(|cause| Cause {
                    reason: cause.reason.unwrap_or_default(),
                    field: cause.field.unwrap_or_default(),
                    message: cause.message.unwrap_or_default(),
                })
                .collect(),
        });
        match (failure.code, failure.reason.as_str()) {
            (409, "AlreadyExists") => Self::AlreadyExists(failure),
            (400, _) => Self::BadRequest(failure),
            (401, _) => Self::Unauthorized(failure),
            (403, _) => Self::Forbidden(failure),
            (404, _) => Self::NotFound(failure),
            (409, _) => Self::Conflict(failure),
            (410, _) => Self::Gone(failure),
            (422, _) => Self::Invalid(failure),
            (429, _) => Self::TooManyRequests(failure),
            (503, _) => Self::Unavailable(failure),
            (504, _) => Self::Timeout(failure),
            (500..=599, _) => Self::Internal(failure),
            _ => Self::Other(failure),
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let carried = status
            .metadata()
            .get_bin(STATUS_METADATA)
            .and_then(|value| value.to_bytes().ok())
            .and_then(|bytes| serde_json::from_slice::<ApiStatus>(&bytes).ok());
        if let Some(carried) = carried {
            return Self::from_status(carried);
        }
        let (code, reason) = http_of(status.code());
        Self::from_status(ApiStatus {
            code: Some(code),
            reason: Some(reason.to_owned()),
            message: Some(describe(&status)),
            ..ApiStatus::default()
        })
    }
}

/// The gRPC message with the chain of its sources, which say "connection refused" where the message says "transport error".
fn describe(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

/// What REST would have said: for servers (and proxies) that send no Status.
fn http_of(code: tonic::Code) -> (i32, &'static str) {
    match code {
        tonic::Code::NotFound => (404, "NotFound"),
        tonic::Code::AlreadyExists => (409, "AlreadyExists"),
        tonic::Code::Aborted | tonic::Code::FailedPrecondition => (409, "Conflict"),
        tonic::Code::InvalidArgument => (400, "BadRequest"),
        tonic::Code::PermissionDenied => (403, "Forbidden"),
        tonic::Code::Unauthenticated => (401, "Unauthorized"),
        tonic::Code::OutOfRange => (410, "Expired"),
        tonic::Code::ResourceExhausted => (429, "TooManyRequests"),
        tonic::Code::DeadlineExceeded => (504, "Timeout"),
        tonic::Code::Unimplemented => (405, "MethodNotAllowed"),
        tonic::Code::Internal | tonic::Code::DataLoss => (500, "InternalError"),
        // `Unknown` is what a connection cut in the middle of a call looks like.
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown => {
            (503, "ServiceUnavailable")
        }
        tonic::Code::Ok => (500, "Unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_by_code_and_reason() {
        for (code, reason, check) in [
            (
                409,
                "AlreadyExists",
                Error::is_already_exists as fn(&Error) -> bool,
            ),
            (409, "Conflict", Error::is_conflict),
            (404, "NotFound", Error::is_not_found),
            (429, "TooManyRequests", Error::is_retryable),
            (503, "ServiceUnavailable", Error::is_retryable),
            (500, "InternalError", Error::is_retryable),
        ] {
            let status = ApiStatus {
                code: Some(code),
                reason: Some(reason.to_owned()),
                ..ApiStatus::default()
            };
            let error = Error::from_status(status);
            assert!(check(&error), "{code} {reason} became {error:?}");
        }
    }

    #[test]
    fn a_status_in_the_trailer_wins_over_the_grpc_code() {
        let mut status = tonic::Status::unknown("x");
        let body = br#"{"kind":"Status","apiVersion":"v1","code":429,"reason":"TooManyRequests","message":"later",
            "details":{"retryAfterSeconds":7,"causes":[{"reason":"DisruptionBudget","message":"no"}]}}"#;
        status.metadata_mut().insert_bin(
            STATUS_METADATA,
            tonic::metadata::MetadataValue::from_bytes(body),
        );
        let error = Error::from(status);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.has_cause("DisruptionBudget") && error.is_retryable());
    }
}
