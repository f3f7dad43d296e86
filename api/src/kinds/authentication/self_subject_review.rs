//! SelfSubjectReview: asks who one is.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::descriptor::CREATE;
use crate::kinds::{ResourceDescriptor, Rules, Strategy};

/// `selfsubjectreviews` of authentication.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "SelfSubjectReview",
    list_kind: "",
    resource: "selfsubjectreviews",
    singular: "selfsubjectreview",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "",
    subresources: &[],
    verbs: CREATE,
    columns: &[],
    strategy: &SelfSubjectReview,
};

struct SelfSubjectReview;

impl Strategy for SelfSubjectReview {
    fn rules(&self) -> &Rules {
        &Rules::CLUSTER
    }

    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }
}
