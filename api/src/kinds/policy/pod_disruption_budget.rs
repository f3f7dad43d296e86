//! PodDisruptionBudget: how many pods of a set may be missing on purpose.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::apps::workload::{validate_int_or_percent, validate_label_selector};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};

/// `poddisruptionbudgets` of policy/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "policy",
    version: "v1",
    kind: "PodDisruptionBudget",
    list_kind: "PodDisruptionBudgetList",
    resource: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    categories: &[],
    namespaced: true,
    storage_prefix: "poddisruptionbudgets",
    subresources: &[Subresource::status("PodDisruptionBudget")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Min Available", "Pods that must stay."),
        Column::text("Max Unavailable", "Pods that may be missing."),
        Column::integer("Allowed Disruptions", "Pods that may be evicted now."),
        Column::AGE,
    ],
    strategy: &PodDisruptionBudget,
};

/// The counts in the status, which are always shown.
const COUNTS: &[&str] = &[
    "disruptionsAllowed",
    "currentHealthy",
    "desiredHealthy",
    "expectedPods",
];

struct PodDisruptionBudget;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    unconditional_update: false,
    ..Rules::NAMESPACED
};

impl Strategy for PodDisruptionBudget {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn init(&self, object: &mut Value) {
        let zero = COUNTS
            .iter()
            .map(|key| ((*key).to_owned(), Value::from(0)))
            .collect();
        set(object, "status", Value::Object(zero));
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        if spec.has("minAvailable") && spec.has("maxUnavailable") {
            errors.invalid(
                &path,
                spec,
                "minAvailable and maxUnavailable cannot be both set",
            );
        }
        for key in ["minAvailable", "maxUnavailable"] {
            if let Some(value) = spec.opt(key) {
                validate_int_or_percent(value, true, &path.child(key), errors);
            }
        }
        validate_label_selector(spec.at("selector"), &path.child("selector"), errors);
        if let Some(policy) = spec.opt_text("unhealthyPodEvictionPolicy") {
            let supported = ["AlwaysAllow", "IfHealthyBudget"];
            errors.one_of(
                &path.child("unhealthyPodEvictionPolicy"),
                policy,
                &supported,
            );
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let status = new.at("status");
        let path = Path::new("status");
        for key in COUNTS {
            errors.non_negative(&path.child(key), status.int(key));
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let amount = |key: &str| match spec.at(key) {
            Value::String(percent) => percent.clone(),
            Value::Number(number) => number.to_string(),
            _ => "N/A".to_owned(),
        };
        vec![
            meta.text("name").into(),
            amount("minAvailable").into(),
            amount("maxUnavailable").into(),
            object
                .at("status")
                .int("disruptionsAllowed")
                .unwrap_or(0)
                .into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::create;

    fn budget(spec: Value) -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
    }

    #[test]
    fn one_bound_only() {
        let none: Vec<String> = vec![];
        assert_eq!(
            create(&PodDisruptionBudget, budget(json!({"minAvailable": "50%"}))),
            none
        );
        let both = create(
            &PodDisruptionBudget,
            budget(json!({"minAvailable": 1, "maxUnavailable": 1})),
        );
        assert!(
            both[0].ends_with("minAvailable and maxUnavailable cannot be both set"),
            "{both:?}"
        );
        assert_eq!(
            create(
                &PodDisruptionBudget,
                budget(json!({"minAvailable": "101%"}))
            ),
            ["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"]
        );
        assert_eq!(
            create(&PodDisruptionBudget, budget(json!({"maxUnavailable": -1}))),
            ["spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"]
        );
    }

    #[test]
    fn row() {
        let row =
            PodDisruptionBudget.row(&budget(json!({"minAvailable": 2})), Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            [
                json!("a"),
                json!("2"),
                json!("N/A"),
                json!(0),
                json!("<unknown>")
            ]
        );
    }
}
