//! LocalSubjectAccessReview: asks what somebody may do in one namespace.

use serde_json::Value;

use super::validate_attributes;
use crate::field::FieldError;
use crate::kinds::descriptor::CREATE;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, ResourceDescriptor, Rules, Strategy};

/// `localsubjectaccessreviews` of authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "LocalSubjectAccessReview",
    list_kind: "",
    resource: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "",
    subresources: &[],
    verbs: CREATE,
    columns: &[],
    strategy: &LocalSubjectAccessReview,
};

struct LocalSubjectAccessReview;

impl Strategy for LocalSubjectAccessReview {
    fn rules(&self) -> &Rules {
        &Rules::NAMESPACED
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_attributes(object, true, &mut errors);
        let attributes = object.at("spec").at("resourceAttributes");
        let namespace = object.at("metadata").text("namespace");
        if attributes.is_null() {
            errors.required(&Path::new("spec.resourceAttributes"), "");
        } else if attributes.text("namespace") != namespace {
            errors.invalid(
                &Path::new("spec.resourceAttributes.namespace"),
                attributes.text("namespace"),
                "must match metadata.namespace",
            );
        }
        if object.at("spec").has("nonResourceAttributes") {
            errors.invalid(
                &Path::new("spec.nonResourceAttributes"),
                object.at("spec").at("nonResourceAttributes"),
                "disallowed on this kind of request",
            );
        }
        errors.finish()
    }
}
