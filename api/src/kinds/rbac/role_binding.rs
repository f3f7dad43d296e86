//! RoleBinding: grants a role in one namespace.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    BINDING_COLUMNS, GROUP, NAMESPACED, binding_row, default_binding, validate_binding,
    validate_role_ref_stays,
};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy};

/// `rolebindings` of rbac.authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "RoleBinding",
    list_kind: "RoleBindingList",
    resource: "rolebindings",
    singular: "rolebinding",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "rolebindings",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: BINDING_COLUMNS,
    strategy: &RoleBinding,
};

struct RoleBinding;

impl Strategy for RoleBinding {
    fn rules(&self) -> &Rules {
        &NAMESPACED
    }

    fn default(&self, object: &mut Value) {
        default_binding(object);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_binding(object, &["Role", "ClusterRole"], true, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_role_ref_stays(new, old, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        binding_row(object, now)
    }
}
