//! TokenReview: asks whose a token is.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::descriptor::CREATE;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, ResourceDescriptor, Rules, Strategy};

/// `tokenreviews` of authentication.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenReview",
    list_kind: "",
    resource: "tokenreviews",
    singular: "tokenreview",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "",
    subresources: &[],
    verbs: CREATE,
    columns: &[],
    strategy: &TokenReview,
};

struct TokenReview;

impl Strategy for TokenReview {
    fn rules(&self) -> &Rules {
        &Rules::CLUSTER
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if object.at("spec").is_empty_at("token") {
            errors.required(&Path::new("spec.token"), "");
        }
        errors.finish()
    }
}
