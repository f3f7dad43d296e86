//! SubjectAccessReview: asks what somebody may do.

use serde_json::Value;

use super::validate_attributes;
use crate::field::FieldError;
use crate::kinds::descriptor::CREATE;
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy};

/// `subjectaccessreviews` of authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SubjectAccessReview",
    list_kind: "",
    resource: "subjectaccessreviews",
    singular: "subjectaccessreview",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "",
    subresources: &[],
    verbs: CREATE,
    columns: &[],
    strategy: &SubjectAccessReview,
};

struct SubjectAccessReview;

impl Strategy for SubjectAccessReview {
    fn rules(&self) -> &Rules {
        &Rules::CLUSTER
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_attributes(object, true, &mut errors);
        errors.finish()
    }
}
