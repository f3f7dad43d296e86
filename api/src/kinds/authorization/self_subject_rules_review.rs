//! SelfSubjectRulesReview: asks for all that one may do in a namespace.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::descriptor::CREATE;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, ResourceDescriptor, Rules, Strategy};

/// `selfsubjectrulesreviews` of authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SelfSubjectRulesReview",
    list_kind: "",
    resource: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "",
    subresources: &[],
    verbs: CREATE,
    columns: &[],
    strategy: &SelfSubjectRulesReview,
};

struct SelfSubjectRulesReview;

impl Strategy for SelfSubjectRulesReview {
    fn rules(&self) -> &Rules {
        &Rules::CLUSTER
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if object.at("spec").is_empty_at("namespace") {
            errors.required(&Path::new("spec.namespace"), "");
        }
        errors.finish()
    }
}
