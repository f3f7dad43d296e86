//! SelfSubjectAccessReview: asks what one may do.

use serde_json::Value;

use super::validate_attributes;
use crate::field::FieldError;
use crate::kinds::descriptor::CREATE;
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy};

/// `selfsubjectaccessreviews` of authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SelfSubjectAccessReview",
    list_kind: "",
    resource: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "",
    subresources: &[],
    verbs: CREATE,
    columns: &[],
    strategy: &SelfSubjectAccessReview,
};

struct SelfSubjectAccessReview;

impl Strategy for SelfSubjectAccessReview {
    fn rules(&self) -> &Rules {
        &Rules::CLUSTER
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_attributes(object, false, &mut errors);
        errors.finish()
    }
}
