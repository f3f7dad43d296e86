//! Lease: who leads, and which node lives.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::Get;
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `leases` of coordination.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    list_kind: "LeaseList",
    resource: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "leases",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Holder", "Who holds it."),
        Column::AGE,
    ],
    strategy: &Lease,
};

struct Lease;

static RULES: Rules = Rules {
    create_on_update: true,
    unconditional_update: false,
    ..Rules::NAMESPACED
};

impl Strategy for Lease {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        if let Some(seconds) = spec
            .int("leaseDurationSeconds")
            .filter(|seconds| *seconds <= 0)
        {
            errors.invalid(
                &path.child("leaseDurationSeconds"),
                seconds,
                "must be greater than 0",
            );
        }
        errors.non_negative(
            &path.child("leaseTransitions"),
            spec.int("leaseTransitions"),
        );
        if let Some(strategy) = spec.opt_text("strategy") {
            errors.invalid_each(
                &path.child("strategy"),
                strategy,
                names::qualified_name(strategy),
            );
        }
        if spec.has("preferredHolder") && spec.is_empty_at("strategy") {
            errors.forbidden(
                &path.child("preferredHolder"),
                "may only be specified when `strategy` is defined",
            );
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            object.at("spec").text("holderIdentity").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::create;

    #[test]
    fn durations_are_positive() {
        let lease =
            |spec: Value| json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        let none: Vec<String> = vec![];
        assert_eq!(
            create(
                &Lease,
                lease(json!({"leaseDurationSeconds": 15, "holderIdentity": "x"}))
            ),
            none
        );
        assert_eq!(
            create(
                &Lease,
                lease(json!({"leaseDurationSeconds": 0, "leaseTransitions": -1}))
            ),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}
