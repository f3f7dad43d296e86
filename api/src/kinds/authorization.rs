//! The review kinds of authorization.k8s.io. None of them is stored.

pub mod local_subject_access_review;
pub mod self_subject_access_review;
pub mod self_subject_rules_review;
pub mod subject_access_review;

use serde_json::Value;

use super::value::Get;
use super::{Errors, Path};

/// Checks what all access reviews share: exactly one question, and for others a subject.
fn validate_attributes(object: &Value, needs_subject: bool, errors: &mut Errors) {
    let spec = object.at("spec");
    let path = Path::new("spec.resourceAttributes");
    let both = spec.has("resourceAttributes") && spec.has("nonResourceAttributes");
    if both {
        let detail = "cannot be specified in combination with resourceAttributes";
        let at = Path::new("spec.nonResourceAttributes");
        errors.invalid(&at, spec.at("nonResourceAttributes"), detail);
    }
    if !spec.has("resourceAttributes") && !spec.has("nonResourceAttributes") {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&path, &Value::Null, detail);
    }
    if needs_subject && spec.is_empty_at("user") && spec.is_empty_at("groups") {
        let at = Path::new("spec.user");
        errors.invalid(&at, "", "at least one of user or group must be specified");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: Value, needs_subject: bool) -> Vec<String> {
        let mut errors = Errors::new();
        validate_attributes(&json!({"spec": spec}), needs_subject, &mut errors);
        errors.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_question_and_a_subject() {
        let none: Vec<String> = vec![];
        assert_eq!(check(json!({"resourceAttributes": {}}), false), none);
        assert_eq!(
            check(json!({"resourceAttributes": {}}), true),
            ["spec.user: Invalid value: \"\": at least one of user or group must be specified"]
        );
        assert_eq!(check(json!({}), false).len(), 1);
        assert_eq!(
            check(
                json!({"resourceAttributes": {}, "nonResourceAttributes": {}}),
                false
            )
            .len(),
            1
        );
    }
}
