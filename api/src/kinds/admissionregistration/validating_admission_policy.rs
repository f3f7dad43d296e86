//! ValidatingAdmissionPolicy: expressions that must hold of what is about to be stored. A binding puts it to use.

mod status;
mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::status::validate_status;
use self::validate::validate_spec;
use super::match_resources::default_match_resources;
use super::{CATEGORIES, GROUP};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{Generation, keep_client_metadata};
use crate::kinds::value::{Get, default_to, object_at, set};
use crate::kinds::{Column, Errors, ResourceDescriptor, Rules, Strategy, Subresource, duration};

/// `validatingadmissionpolicies` of admissionregistration.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "ValidatingAdmissionPolicy",
    list_kind: "ValidatingAdmissionPolicyList",
    resource: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    short_names: &[],
    categories: CATEGORIES,
    namespaced: false,
    storage_prefix: "validatingadmissionpolicies",
    subresources: &[Subresource::status("ValidatingAdmissionPolicy")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::integer("Validations", "Number of expressions that must hold."),
        Column::text("ParamKind", "Kind of its parameters."),
        Column::AGE,
    ],
    strategy: &ValidatingAdmissionPolicy,
};

struct ValidatingAdmissionPolicy;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    unconditional_update: false,
    ..Rules::CLUSTER
};

impl Strategy for ValidatingAdmissionPolicy {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        default_to(spec, "failurePolicy", "Fail");
        if let Some(constraints) = spec.get_mut("matchConstraints") {
            default_match_resources(constraints);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({}));
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        keep_client_metadata(new, old);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object, None, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec(new, Some(old), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_status(new.at("status"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let kind = match spec.opt("paramKind") {
            Some(kind) => format!("{}/{}", kind.text("apiVersion"), kind.text("kind")),
            None => "<unset>".to_owned(),
        };
        vec![
            meta.text("name").into(),
            spec.list("validations").len().into(),
            kind.into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

#[cfg(test)]
mod tests;
