//! Eviction: a wish to delete a pod that its disruption budgets may refuse. Posted to `pods/eviction`, never stored.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path};

/// All that is wrong with an eviction posted to the pod `name` in `namespace`.
pub fn validate(eviction: &Value, namespace: &str, name: &str) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let meta = eviction.at("metadata");
    // Both may be left out: the path already tells which pod is meant.
    for (key, expected) in [("name", name), ("namespace", namespace)] {
        let given = meta.text(key);
        if !given.is_empty() && given != expected {
            let path = Path::new("metadata");
            errors.invalid(
                &path.child(key),
                given,
                format!("must match the URL, which names {expected}"),
            );
        }
    }
    errors.finish()
}

/// Whether a budget holds for a pod in this phase: pods that are done, or never started, may always go.
pub fn ignores_budgets(pod: &Value) -> bool {
    matches!(
        pod.at("status").text("phase"),
        "Succeeded" | "Failed" | "Pending"
    ) || pod.at("metadata").has("deletionTimestamp")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_must_match_the_path() {
        assert!(validate(&json!({}), "ns", "p").is_empty());
        assert!(validate(&json!({"metadata": {"name": "p"}}), "ns", "p").is_empty());
        assert_eq!(
            validate(&json!({"metadata": {"name": "q"}}), "ns", "p").len(),
            1
        );
    }

    #[test]
    fn finished_pods_are_not_protected() {
        assert!(ignores_budgets(&json!({"status": {"phase": "Failed"}})));
        assert!(!ignores_budgets(&json!({"status": {"phase": "Running"}})));
    }
}
