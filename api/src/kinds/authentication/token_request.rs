//! TokenRequest: asks for a service account's token; posted to `serviceaccounts/token`, never stored.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::value::{Get, default_to, object_at};
use crate::kinds::{Errors, Path};

/// Shortest life a token may be asked to have: ten minutes.
pub const EXPIRATION_SECONDS_MIN: i64 = 600;
/// Longest life, to keep dates representable.
pub const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;

/// Fills in the default life of a token: one hour.
pub fn default(request: &mut Value) {
    if let Some(spec) = object_at(request, "spec") {
        default_to(spec, "expirationSeconds", 3600);
    }
}

/// All that is wrong with a request.
pub fn validate(request: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let path = Path::new("spec.expirationSeconds");
    let seconds = request.at("spec").int("expirationSeconds").unwrap_or(0);
    if seconds < EXPIRATION_SECONDS_MIN {
        errors.invalid(
            &path,
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > EXPIRATION_SECONDS_MAX {
        errors.invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    errors.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lives_are_bounded() {
        let mut request = json!({});
        default(&mut request);
        assert!(validate(&request).is_empty());
        let errors = validate(&json!({"spec": {"expirationSeconds": 5}}));
        assert_eq!(
            errors[0].to_string(),
            "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"
        );
    }
}
